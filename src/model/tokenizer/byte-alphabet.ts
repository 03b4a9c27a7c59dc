/**
 * The byte alphabet of GPT-2 (https://github.com/openai/gpt-2/blob/master/src/encoder.py): every byte is written as
 * one printable character, so that tokens of raw bytes can stand in a JSON file as text. Printable Latin-1 stands for
 * itself; the other 68 bytes take U+0100, U+0101, … in order.
 */

const characters: string[] = []
const bytes = new Map<string, number>()
for (let byte = 0, next = 0x100; byte < 256; byte++) {
  const printable =
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff)
  const character = String.fromCharCode(printable ? byte : next++)
  characters.push(character)
  bytes.set(character, byte)
}

/** The character that stands for each byte, indexed by the byte. */
export const byteCharacters: readonly string[] = characters

/** The bytes that a token's characters stand for, or undefined when one of them stands for none. */
export function bytesOfToken(token: string): Uint8Array | undefined {
  const result = new Uint8Array(token.length)
  for (let i = 0; i < token.length; i++) {
    const byte = bytes.get(token[i]!)
    if (byte === undefined) return undefined
    result[i] = byte
  }
  return result
}
