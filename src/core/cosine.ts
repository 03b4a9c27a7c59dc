/**
 * Cosines of operations that IEEE 754 fixes: engines' own differ in the last bits, and whatever goes into a merge must not.
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
