/**
 * Seeded randomness that gives the same values on every machine: xoshiro128** (Blackman and Vigna, 2018) seeded
 * through splitmix32, and seeds derived from names by SHA-256. Never for keys.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { encodeCanonical } from './canonical.ts'

/** Anything a seed can be derived from. */
export type SeedPart = string | number | Uint8Array

export interface Random {
  /** Uniform in [0, 2³²). */
  nextUint32(): number
  /** Uniform in [0, 1) with 53 random bits. */
  nextFloat(): number
  /** Uniform in [0, bound), without modulo bias. `bound` in [1, 2³²]. */
  nextInt(bound: number): number
  /** Standard normal by the polar method of Marsaglia. */
  nextNormal(): number
}

/** Four 32-bit words that depend on every part; the same parts give the same words everywhere. */
export function deriveSeed(...parts: SeedPart[]): Uint32Array {
  const digest = sha256(encodeCanonical(parts))
  const view = new DataView(digest.buffer, digest.byteOffset)
  return Uint32Array.from([0, 4, 8, 12], (offset) => view.getUint32(offset, true))
}

/** A generator whose sequence is a pure function of `parts`. */
export function seededRandom(...parts: SeedPart[]): Random {
  const state = deriveSeed(...parts)
  if (state.every((word) => word === 0)) state[0] = 1 // the one state that xoshiro never leaves
  let spareNormal: number | undefined

  const nextUint32 = (): number => {
    const [s0, s1, s2, s3] = state as unknown as [number, number, number, number]
    const result = Math.imul(rotateLeft(Math.imul(s1, 5), 7), 9) >>> 0
    const shifted = s1 << 9
    const t2 = s2 ^ s0
    const t3 = s3 ^ s1
    state[1] = s1 ^ t2
    state[0] = s0 ^ t3
    state[2] = t2 ^ shifted
    state[3] = rotateLeft(t3, 11)
    return result
  }
  const nextFloat = (): number => ((nextUint32() >>> 5) * 0x4000000 + (nextUint32() >>> 6)) / 0x20000000000000

  return {
    nextUint32,
    nextFloat,
    nextInt: (bound) => {
      if (!Number.isInteger(bound) || bound < 1 || bound > 2 ** 32) {
        throw new RangeError(`nextInt needs a whole bound in [1, 2^32], got ${bound}`)
      }
      const limit = 2 ** 32 - (2 ** 32 % bound)
      for (;;) {
        const value = nextUint32()
        if (value < limit) return value % bound
      }
    },
    nextNormal: () => {
      if (spareNormal !== undefined) {
        const value = spareNormal
        spareNormal = undefined
        return value
      }
      for (;;) {
        const u = 2 * nextFloat() - 1
        const v = 2 * nextFloat() - 1
        const s = u * u + v * v
        if (s >= 1 || s === 0) continue
        const factor = Math.sqrt((-2 * Math.log(s)) / s)
        spareNormal = v * factor
        return u * factor
      }
    },
  }
}

/** A random order of 0 … length−1 (Fisher and Yates). */
export function permutation(length: number, random: Random): Uint32Array {
  const order = Uint32Array.from({ length }, (_, i) => i)
  for (let i = length - 1; i > 0; i--) {
    const j = random.nextInt(i + 1)
    const held = order[i]!
    order[i] = order[j]!
    order[j] = held
  }
  return order
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits))
}
