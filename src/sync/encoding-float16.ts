/**
 * IEEE 754 half precision, which loses nothing measurable as pseudo-gradients (OpenDiLoCo, arXiv 2407.07852). Those are
 * often smaller than the smallest normal half (6e-5), so each tensor is scaled by the power of two that brings its
 * largest value to just below 2¹⁵; that is exact.
 *
 * On the wire: the exponent e as int16, then one half h per value, little-endian; a value is h·2ᵉ. Rounded to nearest,
 * ties to even.
 */
import type { Encoding } from './encodings.ts'
import { largestRounded } from './wire.ts'

const headBytes = 2
const scratchFloat = new Float32Array(1)
const scratchBits = new Uint32Array(scratchFloat.buffer)

/** Bits of the half that is nearest to a magnitude below 2¹⁵. */
function halfOf(magnitude: number): number {
  if (magnitude < 2 ** -14) return magnitude * 2 ** 24 + 2 ** 52 - 2 ** 52 // subnormal: the sum rounds to even
  scratchFloat[0] = magnitude
  const bits = scratchBits[0]!
  return (bits - (112 << 23) + 0xfff + ((bits >>> 13) & 1)) >>> 13
}

const halfValues: Float32Array = Float32Array.from({ length: 1 << 16 }, (_, code) => {
  const exponent = (code >> 10) & 31
  const fraction = code & 1023
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25)
  if (exponent === 31) return Number.NaN
  return code >> 15 === 0 ? magnitude : -magnitude
})

/** ⌊log₂⌋ of a positive float32. */
export function exponentOf(value: number): number {
  scratchFloat[0] = value
  const bits = scratchBits[0]!
  return bits < 1 << 23 ? 31 - Math.clz32(bits) - 149 : (bits >>> 23) - 127
}

export const float16: Encoding = {
  variant: 3,
  tensorBytes: (size) => headBytes + 2 * size,
  encodeTensor: (values, target, byteOffset) => {
    const size = values.length
    let largest = 0
    for (let i = 0; i < size; i++) largest = Math.max(largest, Math.abs(values[i]!))
    const exponent = largest === 0 ? 0 : exponentOf(largest) - 14
    const scale = 2 ** -exponent
    target[byteOffset] = exponent & 255
    target[byteOffset + 1] = (exponent >> 8) & 255
    let at = byteOffset + headBytes
    for (let i = 0; i < size; i++) {
      const value = values[i]!
      const code = value < 0 ? halfOf(-value * scale) | 0x8000 : halfOf(value * scale)
      target[at] = code & 255
      target[at + 1] = code >> 8
      at += 2
    }
  },
  openTensor: (source, byteOffset, size) => {
    const exponent = ((source[byteOffset]! | (source[byteOffset + 1]! << 8)) << 16) >> 16
    if (exponent < -1000 || exponent > 20) return undefined
    const scale = 2 ** exponent
    const codes = source.subarray(byteOffset + headBytes, byteOffset + headBytes + 2 * size)
    let largest = 0
    for (let i = 0; i < size; i++) {
      const code = (codes[2 * i]! | (codes[2 * i + 1]! << 8)) & 0x7fff
      if (code > largest) largest = code
    }
    if (!(halfValues[largest]! * scale <= largestRounded)) return undefined
    return {
      addScaled: (target, weight) => {
        const factor = weight * scale
        for (let i = 0; i < size; i++) {
          target[i] = target[i]! + factor * halfValues[codes[2 * i]! | (codes[2 * i + 1]! << 8)]!
        }
      },
      squaredNorm: () => {
        let squares = 0
        for (let i = 0; i < size; i++) {
          const value = scale * halfValues[codes[2 * i]! | (codes[2 * i + 1]! << 8)]!
          squares += value * value
        }
        return squares
      },
    }
  },
}
