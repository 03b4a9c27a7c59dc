/**
 * Updates that carry a number for every parameter: the frame, then tensor after tensor in the order of the layout, each
 * as its encoding has it. The length follows from the layout and the encoding.
 */
import { GroundswellError, type Parts } from '../core/index.ts'
import type { DecodedTensor } from './aggregate.ts'
import { type EncodingName, encodings } from './encodings.ts'
import type { TensorEntry, TensorLayout } from './method.ts'
import {
  allWithin,
  expectFrame,
  type Frame,
  frameBytes,
  largestMagnitude,
  type MethodName,
  refusedUpdate,
  writeFrame,
} from './wire.ts'

export interface DenseFormat {
  readonly method: MethodName
  readonly version: number
  readonly encoding: EncodingName
}

/** Which tensors an update holds, where not all of them. */
export interface Part {
  readonly number: number
  readonly entries: readonly TensorEntry[]
}

/** Bytes of these tensors, without the frame. */
export function denseBytes(encoding: EncodingName, entries: readonly TensorEntry[]): number {
  return entries.reduce((total, { size }) => total + encodings[encoding].tensorBytes(size), 0)
}

/**
 * @param values of the whole layout, of which the part's are encoded
 * @throws GroundswellError `sync/diverged`
 */
export function* encodeDense(
  format: DenseFormat,
  layout: TensorLayout,
  values: Float32Array,
  part: Part = { number: 0, entries: layout.entries },
): Parts<Uint8Array> {
  const bytes = new Uint8Array(frameBytes + denseBytes(format.encoding, part.entries))
  writeFrame(bytes, frameOf(format, layout, part))
  yield* writeTensors(format.encoding, part.entries, values, bytes, frameBytes)
  return bytes
}

/** One tensor for each entry of the part. @throws GroundswellError `sync/invalid-update` */
export function decodeDense(
  format: DenseFormat,
  layout: TensorLayout,
  bytes: Uint8Array,
  part: Part = { number: 0, entries: layout.entries },
): readonly DecodedTensor[] {
  const totalBytes = frameBytes + denseBytes(format.encoding, part.entries)
  expectFrame(bytes, { ...frameOf(format, layout, part), totalBytes }, refusedUpdate)
  return openTensors(format.encoding, part.entries, bytes, frameBytes)
}

/** Encodes tensors at a byte offset. @throws GroundswellError `sync/diverged` */
export function* writeTensors(
  encoding: EncodingName,
  entries: readonly TensorEntry[],
  values: Float32Array,
  target: Uint8Array,
  byteOffset: number,
): Parts<void> {
  const codec = encodings[encoding]
  let at = byteOffset
  for (const { offset, size } of entries) {
    const tensor = values.subarray(offset, offset + size)
    if (!allWithin(tensor, largestMagnitude)) throw diverged()
    codec.encodeTensor(tensor, target, at)
    at += codec.tensorBytes(size)
    yield
  }
}

/** Checks and opens tensors at a byte offset. @throws GroundswellError `sync/invalid-update` */
export function openTensors(
  encoding: EncodingName,
  entries: readonly TensorEntry[],
  source: Uint8Array,
  byteOffset: number,
): readonly DecodedTensor[] {
  const codec = encodings[encoding]
  let at = byteOffset
  return entries.map(({ name, size }) => {
    const tensor = codec.openTensor(source, at, size)
    if (tensor === undefined) throw unacceptable(name)
    at += codec.tensorBytes(size)
    return tensor
  })
}

export function diverged(): GroundswellError {
  return new GroundswellError('Training diverged: parameters are not finite or moved absurdly far.', {
    code: 'sync/diverged',
    remedy: 'Lower the inner learning rate, or clip gradients.',
  })
}

export function unacceptable(tensor: string): GroundswellError {
  return new GroundswellError(
    `The update of “${tensor}” holds values that are not finite or beyond ±${largestMagnitude}.`,
    { code: refusedUpdate.code },
  )
}

function frameOf({ method, version, encoding }: DenseFormat, { totalSize }: TensorLayout, part: Part): Frame {
  const { variant } = encodings[encoding]
  return { magic: 'GSUP', version, variant, method, part: part.number, count: totalSize }
}
