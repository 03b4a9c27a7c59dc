/**
 * A codebook per tensor: the quantiser of INTELLECT-1 (https://arxiv.org/abs/2412.01152) with 256 buckets, and of
 * templar with 4. Per tensor of n values v: shift = mean(v), c = v − shift, σ = ‖c‖/√(n−1), scale = 6σ/B,
 * q = clamp(round(c/scale + B/2), 0, B−1), codebook[b] = mean of the c that fell into bucket b. A value decodes to
 * codebook[q] + shift. The buckets span six standard deviations; what lies beyond lands in the outermost two, whose
 * codebook entry is their mean. A tensor that would not get smaller travels as float32.
 *
 * On the wire: shift and codebook as float32, then the codes, the first in the lowest bits of a byte.
 */
import { float32 } from './encoding-float32.ts'
import type { Encoding } from './encodings.ts'
import { allWithin, largestRounded, readFloats, writeFloats } from './wire.ts'

const rangeInSigmas = 6

/** Puts each of `values` into a bucket; `codes` gets one per value. Returns shift, then the codebook. */
export function quantise(
  values: Float32Array,
  buckets: number,
  codes: Uint8Array,
): Float32Array<ArrayBuffer> {
  const size = values.length
  let total = 0
  for (let i = 0; i < size; i++) total += values[i]!
  const shift = Math.fround(total / size)
  let squares = 0
  for (let i = 0; i < size; i++) {
    const centred = values[i]! - shift
    squares += centred * centred
  }
  const scale = size > 1 ? (rangeInSigmas * Math.sqrt(squares / (size - 1))) / buckets : 0
  const sums = new Float64Array(buckets)
  const counts = new Float64Array(buckets)
  const middle = buckets / 2
  // A constant tensor has no spread: every value falls into the middle bucket.
  const perBucket = scale > 0 ? 1 / scale : 0
  const last = buckets - 1
  for (let i = 0; i < size; i++) {
    const centred = values[i]! - shift
    // Rounded towards zero, which below zero makes no difference; at most √n·B/6, so a whole number of 32 bits.
    const bucket = (centred * perBucket + (middle + 0.5)) | 0
    const code = Math.min(Math.max(bucket, 0), last)
    codes[i] = code
    sums[code] = sums[code]! + centred
    counts[code] = counts[code]! + 1
  }
  const head = new Float32Array(1 + buckets)
  head[0] = shift
  for (let b = 0; b < buckets; b++) head[1 + b] = counts[b] === 0 ? 0 : sums[b]! / counts[b]!
  return head
}

/** What each code decodes to; undefined when that is not acceptable. */
function decodingTable(head: Float32Array): Float32Array | undefined {
  if (!allWithin(head, 2 * largestRounded)) return undefined // a difference of two values is twice as large
  const table = new Float32Array(head.length - 1)
  for (let b = 0; b < table.length; b++) table[b] = head[1 + b]! + head[0]!
  return allWithin(table, largestRounded) ? table : undefined
}

/** Σ table[code]² from how often each code occurs. */
function squaresOf(table: Float32Array, counts: Float64Array): number {
  let squares = 0
  for (let b = 0; b < table.length; b++) squares += counts[b]! * table[b]! * table[b]!
  return squares
}

export const int8: Encoding = codebook(8, 2, (codes, size) => ({
  addScaled: (target, table, from) => {
    for (let i = 0; i < target.length; i++) target[i] = target[i]! + table[codes[from + i]!]!
  },
  count: (counts) => {
    for (let i = 0; i < size; i++) counts[codes[i]!] = counts[codes[i]!]! + 1
  },
}))

export const int2: Encoding = codebook(2, 5, (codes, size) => ({
  addScaled: (target, table, from) => {
    const whole = target.length >> 2
    const first = from >> 2
    for (let i = 0; i < whole; i++) {
      const four = codes[first + i]!
      const at = 4 * i
      target[at] = target[at]! + table[four & 3]!
      target[at + 1] = target[at + 1]! + table[(four >> 2) & 3]!
      target[at + 2] = target[at + 2]! + table[(four >> 4) & 3]!
      target[at + 3] = target[at + 3]! + table[four >> 6]!
    }
    for (let at = 4 * whole; at < target.length; at++) {
      target[at] = target[at]! + table[(codes[first + whole]! >> (2 * (at & 3))) & 3]!
    }
  },
  count: (counts) => {
    for (let i = 0; i < size; i++) {
      const code = (codes[i >> 2]! >> (2 * (i & 3))) & 3
      counts[code] = counts[code]! + 1
    }
  },
}))

interface PackedCodes {
  /** target[i] += table[code of from + i] */
  addScaled(target: Float64Array, table: Float64Array, from: number): void
  /** counts[codeᵢ] += 1 */
  count(counts: Float64Array): void
}

/** Each width has loops of its own: they are what decoding costs. */
function codebook(
  bits: 2 | 8,
  variant: number,
  open: (codes: Uint8Array, size: number) => PackedCodes,
): Encoding {
  const buckets = 1 << bits
  const headBytes = 4 * (1 + buckets)
  const packedBytes = (size: number): number => headBytes + Math.ceil((size * bits) / 8)
  const travelsAsFloat32 = (size: number): boolean => 4 * size <= packedBytes(size)
  return {
    variant,
    tensorBytes: (size) => (travelsAsFloat32(size) ? 4 * size : packedBytes(size)),
    encodeTensor: (values, target, byteOffset) => {
      const size = values.length
      if (travelsAsFloat32(size)) return float32.encodeTensor(values, target, byteOffset)
      const codes =
        bits === 8
          ? target.subarray(byteOffset + headBytes, byteOffset + headBytes + size)
          : new Uint8Array(size)
      writeFloats(target, byteOffset, quantise(values, buckets, codes))
      if (bits === 2) packPairs(codes, target, byteOffset + headBytes)
    },
    openTensor: (source, byteOffset, size) => {
      if (travelsAsFloat32(size)) return float32.openTensor(source, byteOffset, size)
      const table = decodingTable(readFloats(source, byteOffset, 1 + buckets))
      if (table === undefined) return undefined
      const codes = open(source.subarray(byteOffset + headBytes, byteOffset + packedBytes(size)), size)
      return {
        addScaled: (target, weight, from = 0) => {
          const scaled = new Float64Array(buckets)
          for (let b = 0; b < buckets; b++) scaled[b] = weight * table[b]!
          codes.addScaled(target, scaled, from)
        },
        squaredNorm: () => {
          const counts = new Float64Array(buckets)
          codes.count(counts)
          return squaresOf(table, counts)
        },
      }
    },
  }
}

/** Four codes of two bits to a byte, the first in its lowest bits; unused bits are zero. */
export function packPairs(codes: Uint8Array, target: Uint8Array, byteOffset: number): void {
  const whole = codes.length >> 2
  for (let i = 0; i < whole; i++) {
    const at = 4 * i
    target[byteOffset + i] =
      codes[at]! | (codes[at + 1]! << 2) | (codes[at + 2]! << 4) | (codes[at + 3]! << 6)
  }
  if (4 * whole === codes.length) return
  let last = 0
  for (let at = 4 * whole; at < codes.length; at++) last |= codes[at]! << (2 * (at & 3))
  target[byteOffset + whole] = last
}
