/**
 * The frame of both binary formats of this room: twelve bytes that say what follows, then little-endian numbers.
 *
 *   0  4 bytes  magic, ASCII
 *   4  uint8    version of the format
 *   5  uint8    variant (how the numbers are encoded)
 *   6  uint16   zero
 *   8  uint32   number of parameters
 */
import { GroundswellError } from '../core/index.ts'

export const frameBytes = 12

/** What the twelve bytes say. */
export interface Frame {
  readonly magic: string
  readonly version: number
  readonly variant: number
  readonly count: number
}

const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

export function writeFrame(target: Uint8Array, frame: Frame): void {
  const view = new DataView(target.buffer, target.byteOffset, frameBytes)
  for (let i = 0; i < 4; i++) view.setUint8(i, frame.magic.charCodeAt(i))
  view.setUint8(4, frame.version)
  view.setUint8(5, frame.variant)
  view.setUint16(6, 0, true)
  view.setUint32(8, frame.count, true)
}

/** Checks that `bytes` have the expected length and then the expected frame; `code` and `what` go into the error. */
export function expectFrame(
  bytes: Uint8Array,
  expected: Frame & { readonly totalBytes: number },
  error: { readonly code: string; readonly what: string },
): void {
  const refuse = (reason: string): never => {
    throw new GroundswellError(`${error.what} ${reason}.`, { code: error.code })
  }
  if (bytes.byteLength !== expected.totalBytes) {
    refuse(`has ${bytes.byteLength} bytes where this model needs ${expected.totalBytes}`)
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, frameBytes)
  const magic = String.fromCharCode(...bytes.subarray(0, 4))
  if (magic !== expected.magic) refuse(`does not begin with “${expected.magic}”`)
  if (view.getUint8(4) !== expected.version) {
    refuse(`has format version ${view.getUint8(4)} where ${expected.version} is spoken`)
  }
  if (view.getUint8(5) !== expected.variant) {
    refuse(`is encoded as variant ${view.getUint8(5)} where this run uses ${expected.variant}`)
  }
  if (view.getUint16(6, true) !== 0) refuse('has set bits that are reserved')
  if (view.getUint32(8, true) !== expected.count) {
    refuse(`is for ${view.getUint32(8, true)} parameters where this model has ${expected.count}`)
  }
}

/** Writes float32 values at a byte offset, which need not be aligned. */
export function writeFloats(target: Uint8Array, byteOffset: number, values: Float32Array): void {
  if (isLittleEndian) {
    target.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), byteOffset)
    return
  }
  const view = new DataView(target.buffer, target.byteOffset + byteOffset, values.byteLength)
  for (let i = 0; i < values.length; i++) view.setFloat32(4 * i, values[i]!, true)
}

/** A copy of `count` float32 values at a byte offset, which need not be aligned. */
export function readFloats(source: Uint8Array, byteOffset: number, count: number): Float32Array {
  const values = new Float32Array(count)
  if (isLittleEndian) {
    new Uint8Array(values.buffer).set(source.subarray(byteOffset, byteOffset + 4 * count))
    return values
  }
  const view = new DataView(source.buffer, source.byteOffset + byteOffset, 4 * count)
  for (let i = 0; i < count; i++) values[i] = view.getFloat32(4 * i, true)
  return values
}

/**
 * Parameter differences and momenta beyond this are refused as nonsense. The bound is far above anything a training
 * run produces and far enough below float32's largest value that no sequence of merges can reach infinity.
 */
export const largestMagnitude = 1e6

/** Whether all values are finite and within `limit`. */
export function allWithin(values: Float32Array, limit: number): boolean {
  // One comparison per value: NaN fails it as infinities do.
  for (let i = 0; i < values.length; i++) if (!(Math.abs(values[i]!) <= limit)) return false
  return true
}
