/**
 * Cuts text into the words inside which byte pairs may merge. Three published regular expressions are known, each
 * written out here as a scanner over UTF-8 bytes, which is several times faster than the engine's `RegExp`, does not
 * depend on its version of Unicode, and cannot be made to backtrack by hostile text.
 */
import { classOf, letterClass, numberClass, otherClass, spaceClass } from './unicode-classes.ts'

/**
 * Which words: `gpt2` (https://github.com/openai/gpt-2/blob/master/src/encoder.py), `llama3` (also GPT-4's cl100k) and
 * `qwen2`, which differs from it in taking digits one by one.
 */
export type WordPattern = 'gpt2' | 'llama3' | 'qwen2'

/** The expressions as they stand in tokenizer files; several spellings accept the same language. */
export const patternOfExpression: ReadonlyMap<string, WordPattern> = new Map([
  ["'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", 'gpt2'],
  ["'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", 'gpt2'],
  [
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    'llama3',
  ],
  [
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
    'llama3',
  ],
  [
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    'qwen2',
  ],
])

/** The spelling that is written to a tokenizer file. */
export function expressionOfPattern(pattern: WordPattern): string {
  for (const [expression, known] of patternOfExpression) if (known === pattern) return expression
  throw new RangeError(`no expression for ${pattern}`)
}

/** Gives the end of the word that starts at `start`; `bytes[start … end)` is UTF-8 and not empty. */
export type WordScanner = (bytes: Uint8Array, start: number, end: number) => number

export function wordScanner(pattern: WordPattern): WordScanner {
  switch (pattern) {
    case 'gpt2':
      return scanGpt2
    case 'llama3':
      return (bytes, start, end) => scanLlama3(bytes, start, end, 3)
    case 'qwen2':
      return (bytes, start, end) => scanLlama3(bytes, start, end, 1)
  }
}

const asciiClasses = Uint8Array.from({ length: 128 }, (_, codePoint) => classOf(codePoint))

/** Class of the character at `position` in the lowest two bits, its length in bytes above them. */
function characterAt(bytes: Uint8Array, position: number): number {
  const first = bytes[position]!
  if (first < 0x80) return asciiClasses[first]! | 4
  if (first < 0xe0) return classOf(((first & 0x1f) << 6) | (bytes[position + 1]! & 0x3f)) | 8
  const second = bytes[position + 1]! & 0x3f
  const third = bytes[position + 2]! & 0x3f
  if (first < 0xf0) return classOf(((first & 0x0f) << 12) | (second << 6) | third) | 12
  return classOf(((first & 0x07) << 18) | (second << 12) | (third << 6) | (bytes[position + 3]! & 0x3f)) | 16
}

/** End of the run of characters of one class from `position` on. */
function runEnd(bytes: Uint8Array, position: number, end: number, kind: number): number {
  while (position < end) {
    const first = bytes[position]!
    if (first < 0x80) {
      if (asciiClasses[first] !== kind) return position
      position++
    } else {
      const character = characterAt(bytes, position)
      if ((character & 3) !== kind) return position
      position += character >> 2
    }
  }
  return position
}

const space = 0x20
const apostrophe = 0x27
const lineFeed = 0x0a
const carriageReturn = 0x0d
const isNewline = (byte: number | undefined): boolean => byte === lineFeed || byte === carriageReturn

/** 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
function scanGpt2(bytes: Uint8Array, start: number, end: number): number {
  const first = bytes[start]!
  if (first === apostrophe) {
    const contracted = contractionEnd(bytes, start, end, false)
    if (contracted !== 0) return contracted
  }
  let body = start
  if (first === space && start + 1 < end) body++
  const character = characterAt(bytes, body)
  const kind = character & 3
  if (kind !== spaceClass) return runEnd(bytes, body + (character >> 2), end, kind)
  return spacesEnd(bytes, start, end)
}

/** (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
function scanLlama3(bytes: Uint8Array, start: number, end: number, digits: number): number {
  const first = bytes[start]!
  if (first === apostrophe) {
    const contracted = contractionEnd(bytes, start, end, true)
    if (contracted !== 0) return contracted
  }
  const character = characterAt(bytes, start)
  const kind = character & 3
  const second = start + (character >> 2)
  if (kind === letterClass) return runEnd(bytes, second, end, letterClass)
  if (kind === numberClass) {
    let position = second
    for (let taken = 1; taken < digits && position < end; taken++) {
      const next = characterAt(bytes, position)
      if ((next & 3) !== numberClass) break
      position += next >> 2
    }
    return position
  }
  const following = second < end ? characterAt(bytes, second) : spaceClass
  if ((following & 3) === letterClass && !isNewline(first)) {
    return runEnd(bytes, second + (following >> 2), end, letterClass)
  }
  if (kind === otherClass || (first === space && (following & 3) === otherClass)) {
    let position = runEnd(bytes, second, end, otherClass)
    while (position < end && isNewline(bytes[position])) position++
    return position
  }
  return lineBreaksEnd(bytes, start, end) || spacesEnd(bytes, start, end)
}

/** Behind the apostrophe at `start`: one of s t m d re ve ll, or 0. Oniguruma folds U+017F (long s) to s. */
function contractionEnd(bytes: Uint8Array, start: number, end: number, ignoreCase: boolean): number {
  if (start + 1 >= end) return 0
  const fold = ignoreCase ? 0x20 : 0
  const first = bytes[start + 1]! | fold
  if (first === 0x73 || first === 0x74 || first === 0x6d || first === 0x64) return start + 2
  if (start + 2 >= end) return 0
  if (ignoreCase && bytes[start + 1] === 0xc5 && bytes[start + 2] === 0xbf) return start + 3
  const second = bytes[start + 2]! | fold
  if ((first === 0x72 || first === 0x76) && second === 0x65) return start + 3
  return first === 0x6c && second === 0x6c ? start + 3 : 0
}

/** \s*[\r\n]+ : up to the last line break in the run of white space, or 0. */
function lineBreaksEnd(bytes: Uint8Array, start: number, end: number): number {
  let last = 0
  let position = start
  while (position < end) {
    const character = characterAt(bytes, position)
    if ((character & 3) !== spaceClass) break
    if (isNewline(bytes[position])) last = position + 1
    position += character >> 2
  }
  return last
}

/** \s+(?!\S)|\s+ : the run of white space, without its last character when text follows and others remain. */
function spacesEnd(bytes: Uint8Array, start: number, end: number): number {
  let last = start
  let position = start
  while (position < end) {
    const character = characterAt(bytes, position)
    if ((character & 3) !== spaceClass) return last === start ? position : last
    last = position
    position += character >> 2
  }
  return end
}
