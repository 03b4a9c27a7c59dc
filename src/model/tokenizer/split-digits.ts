/**
 * The `Digits` step of a tokenizer file, which cuts numbers out before words are looked for. It goes by Rust's
 * `char::is_numeric`, whose Unicode (17) is newer than that of the regular expressions and knows 13 more digits.
 */
import type { DigitSplit } from './definition.ts'
import type { WordScanner } from './pretokenise.ts'
import { classOf, numberClass } from './unicode-classes.ts'

/** Gives the end of the number, or of the text up to the next number, that starts at `start`. */
export function digitScanner(split: DigitSplit): WordScanner {
  if (split === 'together') return (_bytes, _start, end) => end
  return (bytes, start, end) => {
    let position = afterCharacter(bytes, start)
    const inNumber = isNumeric(bytes, start)
    if (inNumber && split === 'one-by-one') return position
    while (position < end && isNumeric(bytes, position) === inNumber)
      position = afterCharacter(bytes, position)
    return position
  }
}

function afterCharacter(bytes: Uint8Array, position: number): number {
  const first = bytes[position]!
  return position + (first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4)
}

function isNumeric(bytes: Uint8Array, position: number): boolean {
  const first = bytes[position]!
  if (first < 0x80) return first >= 0x30 && first <= 0x39
  let codePoint = first < 0xe0 ? first & 0x1f : first < 0xf0 ? first & 0x0f : first & 0x07
  for (let i = position + 1; i < afterCharacter(bytes, position); i++) {
    codePoint = (codePoint << 6) | (bytes[i]! & 0x3f)
  }
  if (codePoint >= 0x11de0 && codePoint <= 0x11de9) return true
  if (codePoint >= 0x16ff4 && codePoint <= 0x16ff6) return true
  return classOf(codePoint) === numberClass
}
