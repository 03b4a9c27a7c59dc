/**
 * How the kept values of a sparse update travel, tensor by tensor. Their number follows from the layout, and so does the
 * number of bytes.
 *
 *   float32, float16   as dense updates have them
 *   int8, int2         a codebook of 256 or 4 values per tensor (float32), then the codes
 *   sign               one bit each, set for negative; a value is ±1
 */
import { packPairs, quantise } from './encoding-codebook.ts'
import { float16 } from './encoding-float16.ts'
import { float32 } from './encoding-float32.ts'
import { allWithin, largestRounded, readFloats, writeFloats } from './wire.ts'

export type SparseValues = 'float32' | 'float16' | 'int8' | 'int2' | 'sign'

export const sparseVariants: Readonly<Record<SparseValues, number>> = {
  float32: 1,
  int8: 2,
  float16: 3,
  int2: 5,
  sign: 6,
}

const bitsOf = { int8: 8, int2: 2 } as const

function codebookBytes(kind: 'int8' | 'int2', count: number): number {
  return 4 * 2 ** bitsOf[kind] + Math.ceil((count * bitsOf[kind]) / 8)
}

/** A codebook that would not make the values smaller is left away. */
function usesCodebook(kind: SparseValues, count: number): kind is 'int8' | 'int2' {
  return (kind === 'int8' || kind === 'int2') && codebookBytes(kind, count) < 4 * count
}

export function sparseValuesBytes(kind: SparseValues, count: number): number {
  if (kind === 'sign') return Math.ceil(count / 8)
  if (kind === 'float16') return float16.tensorBytes(count)
  return usesCodebook(kind, count) ? codebookBytes(kind, count) : 4 * count
}

/** @param quantum what the codebook's values are multiples of, a power of two; 0 leaves them as they are */
export function writeSparseValues(
  kind: SparseValues,
  values: Float32Array,
  quantum: number,
  target: Uint8Array,
  byteOffset: number,
): void {
  if (kind === 'sign') {
    for (let i = 0; i < values.length; i++) {
      if (values[i]! < 0) target[byteOffset + (i >> 3)] = target[byteOffset + (i >> 3)]! | (1 << (i & 7))
    }
  } else if (kind === 'float16') {
    float16.encodeTensor(values, target, byteOffset)
  } else if (usesCodebook(kind, values.length)) {
    const buckets = 2 ** bitsOf[kind]
    const codes = new Uint8Array(values.length)
    const head = quantise(values, buckets, codes)
    const table = new Float32Array(buckets)
    const rounding = roundsTo(quantum)
    for (let b = 0; b < buckets; b++) table[b] = head[1 + b]! + head[0]! + rounding - rounding
    writeFloats(target, byteOffset, table)
    if (kind === 'int8') target.set(codes, byteOffset + 4 * buckets)
    else packPairs(codes, target, byteOffset + 4 * buckets)
  } else {
    float32.encodeTensor(values, target, byteOffset)
  }
}

/** Undefined when a value is not acceptable. */
export function readSparseValues(
  kind: SparseValues,
  source: Uint8Array,
  byteOffset: number,
  count: number,
): Float32Array | undefined {
  if (kind === 'sign') {
    const values = new Float32Array(count)
    for (let i = 0; i < count; i++) values[i] = (source[byteOffset + (i >> 3)]! >> (i & 7)) & 1 ? -1 : 1
    return values
  }
  if (kind === 'float16') {
    const opened = float16.openTensor(source, byteOffset, count)
    if (opened === undefined) return undefined
    const sum = new Float64Array(count)
    opened.addScaled(sum, 1)
    return Float32Array.from(sum)
  }
  if (!usesCodebook(kind, count)) {
    const values = readFloats(source, byteOffset, count)
    return allWithin(values, largestRounded) ? values : undefined
  }
  const buckets = 2 ** bitsOf[kind]
  const table = readFloats(source, byteOffset, buckets)
  if (!allWithin(table, largestRounded)) return undefined
  const codes = source.subarray(byteOffset + 4 * buckets, byteOffset + codebookBytes(kind, count))
  const values = new Float32Array(count)
  if (kind === 'int8') for (let i = 0; i < count; i++) values[i] = table[codes[i]!]!
  else for (let i = 0; i < count; i++) values[i] = table[(codes[i >> 2]! >> (2 * (i & 3))) & 3]!
  return values
}

/**
 * What, added and taken away again in float64, leaves the nearest multiple of a power of two, ties to even: beside it the step from
 * one float64 to the next is that power. 0 for 0, which leaves values as they are.
 */
export function roundsTo(quantum: number): number {
  return 1.5 * 2 ** 52 * quantum
}
