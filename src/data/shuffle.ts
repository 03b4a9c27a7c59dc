/**
 * Random orders without a table: a Feistel network permutes the numbers of an even count of bits, and walking its
 * cycle until the number is small enough permutes 0 … size−1 (Black and Rogaway, "Ciphers with arbitrary finite
 * domains", https://eprint.iacr.org/2001/012). Any position of any epoch is found at once, so that a run can resume
 * anywhere. For shuffling, not for secrets.
 */
import { deriveSeed, type SeedPart } from '../core/index.ts'

/** A permutation of 0 … size−1. */
export type Shuffle = (index: number) => number

const rounds = 6

/** The permutation that a seed names. `size` is at most 2³⁰, so that two halves of 15 bits fit into an integer. */
export function shuffle(size: number, ...seed: SeedPart[]): Shuffle {
  if (size > 2 ** 30) throw new RangeError(`cannot shuffle ${size} things, only 2^30`)
  let halfBits = 1
  while (4 ** halfBits < size) halfBits++
  const mask = 2 ** halfBits - 1
  const words = deriveSeed('data/shuffle', ...seed)
  const keys = Array.from({ length: rounds }, (_, round) =>
    mix(words[round % 4]! ^ Math.imul(round, 0x9e3779b9)),
  )
  const permute = (index: number): number => {
    let left = index >>> halfBits
    let right = index & mask
    for (const key of keys) {
      const next = left ^ (mix(right ^ key) & mask)
      left = right
      right = next
    }
    return (left << halfBits) | right
  }
  return (index) => {
    if (!(index >= 0 && index < size)) throw new RangeError(`index ${index} is not below ${size}`)
    let result = permute(index)
    while (result >= size) result = permute(result)
    return result
  }
}

/** The finaliser of MurmurHash3: every bit of the input changes half of the output. */
function mix(value: number): number {
  let hash = value
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}
