"""Writes tokenizer.json beside itself: what Hugging Face's tokenizers makes of awkward text, for tokenizers of every
kind that Groundswell reads, and which merges its trainer learns. Run: python tokenizer.py"""

import hashlib
import json
import pathlib
import random
import struct

from tokenizers import AddedToken, Regex, Tokenizer, __version__, decoders, models, processors, trainers
from tokenizers import pre_tokenizers as pre

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")

CORPUS = [
    "The swarm trains the model; the model doesn't know who trained it. They're peers, we'll see.\n" * 3,
    "for (let i = 0; i < 1234; i++) {\n    total += values[i]\n}\n\n\tvoid 0x00ff\r\n" * 3,
    "naïve façade, 中文中文 и русский текст, 😀😀😀 ١٢٣ ½ Ⅷ ที่ ab ab abab ababab aaaa aaaaaaaa\n" * 3,
    "  IT'S  I'LL  'ſ  ſſ   spaces    many     spaces      \n\n\n  \n" * 3,
]

TEXTS = [
    "", " ", "  ", "\n", "\r\n\r\n", " \n ", "a", "Hello, world!", "the the  the   the", "they're they'RE THEY'RE",
    "'s 't 'S 'ſ '\u017fx 'll 'LL 'lL 've 'Re 'd 'm '", "x'y 'z ''s", "1 12 123 1234 12345 1a2b", "١٢٣٤ Ⅷ²½ 𝟘𝟙 ٣x",
    "a\u0085b \u0085", "a\ufeffb \ufeff", "\u180e \u200b\u00a0\u3000x", "\u2028\u2029 \u001c\u001f\x0b\x0c", "tab\t\ttab \t x",
    "trailing   ", "   leading", "line\n\n\nline  \n  line\r\nline", "!!!\n\n??\r\n--- --\n", "e\u0301 é \u0301", "ß ﬆ ﬅ İ ı K",
    "中文 日本語 한국어 ภาษาไทย हिन्दी", "😀 👨‍👩‍👧 🇩🇪 🏳️‍🌈", "\U0010fffd \uffff \ufffd \U000e0001", "\u0000\u0001\u007f",
    "\u088f \u0c5c \ua7ce \U00010940 \U00011db0", "\U00011de0\U00011de9 \U00016ff4 7", "<|endoftext|>", "a<|endoftext|>b <|endoftext|>",
    "<|endoftext|", "__init__ the ____ them The", "a" * 200, "ab" * 150, "é" * 90, " " * 70, "!?" * 40, "x" * 47, "x" * 48, "x" * 49,
    "def f(x):\n    return x ** 2  # square\n", '{"a": [1, 2.5e-10, null]}', "C:\\temp\\new https://a.b/c?d=e&f#g", "ﷺ ﷽ ꙰ ̀̀̀",
]

# A context that shows of every character whether it is a letter, a number, a space or none of these.
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def in_context(points):
    return "".join(f"a{chr(c)}1{chr(c)} {chr(c)}{chr(c)}!{chr(c)}\n" for c in points)


def digest(ids):
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()


def byte_level(use_regex):
    return pre.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split(pattern):
    return pre.Sequence([pre.Split(Regex(pattern), "isolated"), byte_level(False)])


def trained(pre_tokenizer, texts, size, specials=("<|endoftext|>",), min_frequency=0, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=list(specials),
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def kinds():
    yield "gpt2", trained(byte_level(True), CORPUS, 380)
    llama3 = trained(split(LLAMA3), CORPUS, 380, ignore_merges=True)
    template = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    llama3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    yield "llama3", llama3
    yield "qwen2", trained(split(QWEN2), CORPUS, 380)
    digits = trained(pre.Sequence([pre.Digits(individual_digits=True), byte_level(True)]), CORPUS, 380)
    digits.add_tokens([AddedToken("__", normalized=False), AddedToken("the", normalized=True), AddedToken("Th", normalized=False)])
    yield "digits", digits
    yield "bytes", trained(byte_level(True), [], 256, specials=())


def encodings(name, tokenizer):
    tokenizer.encode_special_tokens = True
    as_text = [tokenizer.encode(text).ids for text in TEXTS]
    points = [digest(tokenizer.encode(in_context(POINTS[i : i + 0x8000])).ids) for i in range(0, 0x34000, 0x8000)]
    tokenizer.encode_special_tokens = False
    parsed = [tokenizer.encode(text).ids for text in TEXTS]
    chooser = random.Random(1)
    decoded = []
    for _ in range(40):
        ids = [chooser.randrange(tokenizer.get_vocab_size()) for _ in range(8)]
        decoded.append({"ids": ids, "text": tokenizer.decode(ids), "all": tokenizer.decode(ids, skip_special_tokens=False)})
    file = json.loads(tokenizer.to_str())
    return {"kind": name, "file": file, "asText": as_text, "parsed": parsed, "pointDigests": points, "decoded": decoded}


def trainings():
    chooser = random.Random(2)
    for i in range(24):
        alphabet = ["ab", "abc", "abcd ", "aé中 ", "0123 ab", "a"][i % 6]
        texts = ["".join(chooser.choice(alphabet) for _ in range(chooser.randrange(60))) for _ in range(5)]
        specials = ["<|endoftext|>"] if i % 4 else ["<|endoftext|>", "ab", "aa"]
        frequency = i % 3
        size = 280 + i
        learned = json.loads(trained(byte_level(True), texts, size, specials, frequency).to_str())["model"]
        yield {
            "texts": texts,
            "vocabularySize": size,
            "specialTokens": specials,
            "minimumFrequency": frequency,
            "merges": [" ".join(merge) for merge in learned["merges"]],
        }


vectors = {
    "library": f"tokenizers {__version__}",
    "texts": TEXTS,
    "corpus": CORPUS,
    "tokenizers": [encodings(name, tokenizer) for name, tokenizer in kinds()],
    "trainings": list(trainings()),
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(vectors, ensure_ascii=True, separators=(",", ":")) + "\n")
print(path, path.stat().st_size)
