/** The numbers that a cosine transform multiplies by. Peers must agree on the signs of what it gives. */
import { cosineOfPi } from '../core/index.ts'

/** What the transforms of one length need. */
export interface LengthConstants {
  /** Even lengths: 1/(2 cos(π(2i+1)/2n)) for the first half. */
  readonly factors: Float64Array
  /** Odd lengths: cos(π(2i+1)k/2n) at k·n + i. */
  readonly cosines: Float64Array
}

export function lengthConstants(n: number): LengthConstants {
  const even = n % 2 === 0
  return {
    factors: Float64Array.from({ length: even ? n / 2 : 0 }, (_, i) => 0.5 / cosineOfPi(2 * i + 1, 2 * n)),
    cosines: Float64Array.from({ length: even ? 0 : n * n }, (_, at) => {
      const k = Math.floor(at / n)
      return cosineOfPi((2 * (at - k * n) + 1) * k, 2 * n)
    }),
  }
}

/** What makes the transform orthonormal: row 0 times √(1/n), the others times √(2/n). */
export function rowScales(n: number): { readonly first: number; readonly others: number } {
  return { first: Math.sqrt(1 / n), others: Math.sqrt(2 / n) }
}
