/**
 * Four bits per value: a sign and three bits of exponent, no mantissa (E3M0), which Streaming DiLoCo
 * (https://arxiv.org/abs/2501.18512) found to train as well as float32. Code 0 is zero, codes 1 … 7 are 2^(code − 7):
 * 36 dB of range, so what they are multiples of matters. Here that is one power of two for every 128 values, the nearest
 * to the largest of them, as one byte of exponent in the manner of the OCP microscaling formats (E8M0): 4.06 bits per
 * parameter in all. Values are rounded to the nearest code, ties away from zero.
 *
 * On the wire: a byte s per block, then two values to a byte, the first in its lower half; 8 is the sign.
 * A value is ±2^(s − 127 + code − 7).
 */
import { exponentOf } from './encoding-float16.ts'
import type { Encoding } from './encodings.ts'

const blockSize = 128
const bias = 127
const topCode = 7
/** 2¹⁹ is the largest power of two below `largestMagnitude`. */
const largestExponent = 19

const headBytes = (size: number): number => Math.ceil(size / blockSize)

/** The nearest power of two, as its exponent. */
const nearestExponent = (magnitude: number): number => exponentOf(Math.fround(magnitude / 0.75))

/** Values of the sixteen codes of a block. */
const blockTable = (head: number, weight: number, table: Float64Array): void => {
  for (let code = 1; code <= topCode; code++) {
    const value = weight * 2 ** (head - bias + code - topCode)
    table[code] = value
    table[8 + code] = -value
  }
}

export const fp4: Encoding = {
  variant: 4,
  tensorBytes: (size) => headBytes(size) + Math.ceil(size / 2),
  encodeTensor: (values, target, byteOffset) => {
    const size = values.length
    const codesAt = byteOffset + headBytes(size)
    for (let start = 0; start < size; start += blockSize) {
      const end = Math.min(start + blockSize, size)
      let largest = 0
      for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!))
      const exponent = largest === 0 ? -bias : Math.max(nearestExponent(largest), -bias)
      const head = Math.min(exponent, largestExponent) + bias
      target[byteOffset + start / blockSize] = head
      const scale = 2 ** (bias - head + topCode - 1) // brings the smallest code's value to 1
      for (let i = start; i < end; i += 2) {
        let pair = codeOf(values[i]! * scale)
        if (i + 1 < end) pair |= codeOf(values[i + 1]! * scale) << 4
        target[codesAt + (i >> 1)] = pair
      }
    }
  },
  openTensor: (source, byteOffset, size) => {
    const heads = source.subarray(byteOffset, byteOffset + headBytes(size))
    for (let b = 0; b < heads.length; b++) if (heads[b]! > bias + largestExponent) return undefined
    const codes = source.subarray(byteOffset + heads.length, byteOffset + heads.length + Math.ceil(size / 2))
    const table = new Float64Array(16)
    return {
      addScaled: (target, weight) => {
        for (let start = 0; start < size; start += blockSize) {
          blockTable(heads[start / blockSize]!, weight, table)
          const end = Math.min(start + blockSize, size)
          const evenEnd = end - (end & 1)
          for (let i = start; i < evenEnd; i += 2) {
            const pair = codes[i >> 1]!
            target[i] = target[i]! + table[pair & 15]!
            target[i + 1] = target[i + 1]! + table[pair >> 4]!
          }
          if (evenEnd < end) target[evenEnd] = target[evenEnd]! + table[codes[evenEnd >> 1]! & 15]!
        }
      },
      squaredNorm: () => {
        let squares = 0
        for (let start = 0; start < size; start += blockSize) {
          blockTable(heads[start / blockSize]!, 1, table)
          const end = Math.min(start + blockSize, size)
          for (let i = start; i < end; i++) {
            const value = table[(codes[i >> 1]! >> (4 * (i & 1))) & 15]!
            squares += value * value
          }
        }
        return squares
      },
    }
  },
}

/** `scaled` in units of the smallest code's value. */
function codeOf(scaled: number): number {
  const magnitude = Math.abs(scaled)
  if (magnitude < 0.5) return 0
  // Thresholds lie halfway between powers of two: 0.5, 1.5, 3, 6, …
  const code = magnitude < 1.5 ? 1 : Math.min(32 - Math.clz32(magnitude / 0.75), topCode)
  return scaled < 0 ? code | 8 : code
}
