/**
 * The vocabulary of the 256 bytes: byte-pair encoding without a single merge, for models so small that a larger
 * table would be most of them.
 */
import { byteCharacters } from './byte-alphabet.ts'
import { BytePairTokenizer } from './tokenizer.ts'

/** Every byte of UTF-8 is a token whose id is the byte; the byte 0 begins and ends documents. */
export function byteTokenizer(): BytePairTokenizer {
  return new BytePairTokenizer({
    tokens: new Map(byteCharacters.map((character, byte) => [character, byte])),
    merges: new Int32Array(),
    pattern: 'gpt2',
    digits: 'together',
    ignoreMerges: false,
    addedTokens: [],
    prefix: [],
    suffix: [],
  })
}
