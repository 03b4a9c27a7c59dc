/**
 * How the numbers of an update travel: as float32, or as one byte each with a codebook per tensor.
 *
 * The byte encoding is the quantiser of INTELLECT-1 (https://arxiv.org/abs/2412.01152) and templar. Per tensor of n
 * values v: shift = mean(v), c = v − shift, σ = ‖c‖/√(n−1), scale = 6σ/256, q = clamp(round(c/scale + 128), 0, 255),
 * codebook[b] = mean of the c that fell into bucket b. A value decodes to codebook[q] + shift. The buckets span six
 * standard deviations; what lies beyond lands in the outermost two, whose codebook entry is their mean. A tensor
 * that would not get smaller travels as float32, so that the length of an update follows from the layout alone.
 */
import type { DecodedTensor } from './aggregate.ts'
import { allWithin, largestMagnitude, readFloats, writeFloats } from './wire.ts'

export interface Encoding {
  /** Number in the frame. */
  readonly variant: number
  /** Bytes that a tensor of `size` values takes. */
  tensorBytes(size: number): number
  encodeTensor(values: Float32Array, target: Uint8Array, byteOffset: number): void
  /** Checks the tensor at `byteOffset` and keeps what decoding needs; undefined when a value is not acceptable. */
  openTensor(source: Uint8Array, byteOffset: number, size: number): DecodedTensor | undefined
}

export type EncodingName = 'float32' | 'int8'

const float32: Encoding = {
  variant: 1,
  tensorBytes: (size) => 4 * size,
  encodeTensor: (values, target, byteOffset) => writeFloats(target, byteOffset, values),
  openTensor: (source, byteOffset, size) => {
    const values = readFloats(source, byteOffset, size)
    if (!allWithin(values, largestMagnitude)) return undefined
    return {
      addScaled: (target, weight) => {
        for (let i = 0; i < size; i++) target[i] = target[i]! + weight * values[i]!
      },
      squaredNorm: () => {
        let squares = 0
        for (let i = 0; i < size; i++) squares += values[i]! * values[i]!
        return squares
      },
    }
  },
}

const buckets = 256
const rangeInSigmas = 6
const codebookBytes = 4 * (1 + buckets) // shift, then the codebook

const travelsAsFloat32 = (size: number): boolean => 4 * size <= codebookBytes + size

const int8: Encoding = {
  variant: 2,
  tensorBytes: (size) => (travelsAsFloat32(size) ? 4 * size : codebookBytes + size),
  encodeTensor: (values, target, byteOffset) => {
    const size = values.length
    if (travelsAsFloat32(size)) return float32.encodeTensor(values, target, byteOffset)
    let total = 0
    for (let i = 0; i < size; i++) total += values[i]!
    const shift = Math.fround(total / size)
    let squares = 0
    for (let i = 0; i < size; i++) {
      const centred = values[i]! - shift
      squares += centred * centred
    }
    const scale = (rangeInSigmas * Math.sqrt(squares / (size - 1))) / buckets
    const codes = target.subarray(byteOffset + codebookBytes, byteOffset + codebookBytes + size)
    const sums = new Float64Array(buckets)
    const counts = new Float64Array(buckets)
    for (let i = 0; i < size; i++) {
      const centred = values[i]! - shift
      // A constant tensor has no spread: every value falls into the middle bucket.
      const bucket = scale > 0 ? Math.floor(centred / scale + (buckets / 2 + 0.5)) : buckets / 2
      const code = Math.min(Math.max(bucket, 0), buckets - 1)
      codes[i] = code
      sums[code] = sums[code]! + centred
      counts[code] = counts[code]! + 1
    }
    const head = new Float32Array(1 + buckets)
    head[0] = shift
    for (let b = 0; b < buckets; b++) head[1 + b] = counts[b] === 0 ? 0 : sums[b]! / counts[b]!
    writeFloats(target, byteOffset, head)
  },
  openTensor: (source, byteOffset, size) => {
    if (travelsAsFloat32(size)) return float32.openTensor(source, byteOffset, size)
    const head = readFloats(source, byteOffset, 1 + buckets)
    if (!allWithin(head, largestMagnitude)) return undefined
    const table = Float32Array.from({ length: buckets }, (_, b) => head[1 + b]! + head[0]!)
    if (!allWithin(table, largestMagnitude)) return undefined
    const codes = source.subarray(byteOffset + codebookBytes, byteOffset + codebookBytes + size)
    return {
      addScaled: (target, weight) => {
        const scaled = Float64Array.from(table, (value) => weight * value)
        for (let i = 0; i < size; i++) target[i] = target[i]! + scaled[codes[i]!]!
      },
      squaredNorm: () => {
        const counts = new Float64Array(buckets)
        for (let i = 0; i < size; i++) counts[codes[i]!]! += 1
        return counts.reduce((squares, count, b) => squares + count * table[b]! * table[b]!, 0)
      },
    }
  },
}

export const encodings: Record<EncodingName, Encoding> = { float32, int8 }
