/**
 * How the numbers of an update travel, tensor by tensor. The length of each follows from the size of the tensor alone,
 * so that the length of an update follows from the layout.
 *
 *   float32    4 bytes per parameter, as they are
 *   float16    2 bytes, with one power of two per tensor        encoding-float16.ts
 *   int8       1 byte, with a codebook of 256 per tensor        encoding-codebook.ts
 *   fp4-e3m0   about half a byte: sign and power of two         encoding-fp4.ts
 *   int2       a quarter of a byte, with a codebook of 4        encoding-codebook.ts; wants error feedback
 */
import type { DecodedTensor } from './aggregate.ts'
import { int2, int8 } from './encoding-codebook.ts'
import { float16 } from './encoding-float16.ts'
import { float32 } from './encoding-float32.ts'
import { fp4 } from './encoding-fp4.ts'

export interface Encoding {
  /** Number in the frame. */
  readonly variant: number
  /** Bytes that a tensor of `size` values takes. */
  tensorBytes(size: number): number
  /** Values are finite and within ±`largestMagnitude`. */
  encodeTensor(values: Float32Array, target: Uint8Array, byteOffset: number): void
  /** Checks the tensor at `byteOffset` and keeps what decoding needs; undefined when a value is not acceptable. */
  openTensor(source: Uint8Array, byteOffset: number, size: number): DecodedTensor | undefined
}

export type EncodingName = 'float32' | 'float16' | 'int8' | 'fp4-e3m0' | 'int2'

export const encodings: Readonly<Record<EncodingName, Encoding>> = {
  float32,
  float16,
  int8,
  'fp4-e3m0': fp4,
  int2,
}

export const encodingNames: readonly EncodingName[] = ['float32', 'float16', 'int8', 'fp4-e3m0', 'int2']
