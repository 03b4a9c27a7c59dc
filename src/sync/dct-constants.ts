/**
 * The numbers that a cosine transform multiplies by. Peers must agree on the signs of what it gives, so cosines come of
 * operations that IEEE 754 fixes; engines' own differ in the last bits.
 */

/** cos(π·numerator/denominator), by its series in the first eighth of the circle. */
export function cosineOfPi(numerator: number, denominator: number): number {
  const around = 2 * denominator
  let part = numerator % around
  if (part < 0) part += around
  if (part > denominator) part = around - part // cos(2π − x) = cos x
  const negative = 2 * part > denominator
  if (negative) part = denominator - part // cos(π − x) = −cos x
  const value =
    4 * part <= denominator
      ? cosineSeries(Math.PI * (part / denominator))
      : sineSeries(Math.PI * ((denominator - 2 * part) / (2 * denominator)))
  return negative ? -value : value
}

function cosineSeries(x: number): number {
  const square = x * x
  let term = 1
  let sum = 0
  for (let i = 0; i <= 20; i += 2) {
    sum += term
    term *= -square / ((i + 1) * (i + 2))
  }
  return sum
}

function sineSeries(x: number): number {
  const square = x * x
  let term = x
  let sum = 0
  for (let i = 1; i <= 21; i += 2) {
    sum += term
    term *= -square / ((i + 1) * (i + 2))
  }
  return sum
}

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
