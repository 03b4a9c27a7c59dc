import { describe, expect, test } from 'vitest'
import { bfloat16ToFloat32, float16ToFloat32 } from './floats.ts'

const all = Uint16Array.from({ length: 65_536 }, (_, bits) => bits)

/** The value that IEEE 754 gives to these fields, by arithmetic instead of bits. */
function byArithmetic(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >> 15 === 1 ? -1 : 1
  const exponent = (bits >> fractionBits) & (2 ** exponentBits - 1)
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits
  const bias = 2 ** (exponentBits - 1) - 1
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias)
  return sign * (1 + fraction) * 2 ** (exponent - bias)
}

describe('16-bit floats', () => {
  test.each([
    ['float16', float16ToFloat32, 5, 10],
    ['bfloat16', bfloat16ToFloat32, 8, 7],
  ] as const)('all 65,536 values of %s widen exactly', (_name, widen, exponentBits, fractionBits) => {
    const widened = widen(all)
    const wrong = [...all].filter(
      (bits) => !Object.is(widened[bits], byArithmetic(bits, exponentBits, fractionBits)),
    )
    expect(wrong).toEqual([])
  })
})
