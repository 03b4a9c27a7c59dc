"""Prints the tables of src/model/tokenizer/unicode-classes.ts: which characters the regular expressions of Hugging
Face's tokenizers take for letters, numbers and white space. Run: python tokenizer-unicode.py"""

from tokenizers import Regex, __version__, pre_tokenizers

points = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
text = "".join(map(chr, points))


def members(pattern):
    """Code points that the pattern matches: what is left when the matches are removed, inverted."""
    kept = pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(text)
    position = 0
    for _, (start, end) in [*kept, ("", (len(text), len(text)))]:
        yield from points[position:start]
        position = end


def base36(number):
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return digits[number] if number < 36 else base36(number // 36) + digits[number % 36]


def table(pattern):
    """Alternately the length of a gap and of a run, in base 36, from U+0000 on."""
    runs = []
    for point in members(pattern):
        if runs and runs[-1][1] == point:
            runs[-1][1] = point + 1
        else:
            runs.append([point, point + 1])
    position, lengths = 0, []
    for start, end in runs:
        lengths += [start - position, end - start]
        position = end
    return " ".join(map(base36, lengths))


def printed(name, pattern):
    line, lines = "", []
    for word in table(pattern).split(" "):
        if len(line) + len(word) > 98:
            lines.append(line)
            line = ""
        line += word + " "
    lines.append(line.rstrip())
    print(f"const {name} =\n" + " +\n".join(f"  '{line}'" for line in lines))


print(f"// tokenizers {__version__}")
printed("letters", r"\p{L}")
printed("numbers", r"\p{N}")
printed("spaces", r"\s")
