/**
 * The frame of the binary formats of this room: twelve bytes that say what follows, then little-endian numbers.
 *
 *   0  4 bytes  magic, ASCII: GSUP an update, GSST a state, GSLO what one peer keeps for itself
 *   4  uint8    version of the format
 *   5  uint8    variant (how the numbers are encoded)
 *   6  uint8    method, as in `methodNumbers`
 *   7  uint8    part of the model, for methods that exchange it in parts; else zero
 *   8  uint32   number of parameters of the model
 */
import { GroundswellError } from '../core/index.ts'

export const frameBytes = 12

/** Byte 6 of the frame: what one method wrote is never read as another's. */
export const methodNumbers = {
  diloco: 0,
  'streaming-diloco': 1,
  'sparse-loco': 2,
  'data-parallel': 3,
  demo: 4,
  distro: 5,
  noloco: 6,
  decoupled: 7,
  muloco: 8,
  /** Of what documentation and tests make up; no run speaks it. */
  example: 254,
} as const

export type MethodName = keyof typeof methodNumbers

/** What the twelve bytes say. */
export interface Frame {
  readonly magic: string
  readonly version: number
  readonly variant: number
  readonly method: MethodName
  /** 0 for methods that exchange the whole model. */
  readonly part: number
  readonly count: number
}

const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

export function writeFrame(target: Uint8Array, frame: Frame): void {
  const view = new DataView(target.buffer, target.byteOffset, frameBytes)
  for (let i = 0; i < 4; i++) view.setUint8(i, frame.magic.charCodeAt(i))
  view.setUint8(4, frame.version)
  view.setUint8(5, frame.variant)
  view.setUint8(6, methodNumbers[frame.method])
  view.setUint8(7, frame.part)
  view.setUint32(8, frame.count, true)
}

/** What bytes from a stranger are called in the error that refuses them. */
export interface Refusal {
  readonly code: string
  readonly what: string
}

export const refusedUpdate: Refusal = { code: 'sync/invalid-update', what: 'The update' }
export const refusedState: Refusal = { code: 'sync/invalid-state', what: 'The checkpoint' }
export const refusedLocal: Refusal = { code: 'sync/invalid-state', what: 'The peer’s own state' }

export function refuse({ code, what }: Refusal, reason: string): never {
  throw new GroundswellError(`${what} ${reason}.`, { code })
}

/** Checks that `bytes` have the expected length and then the expected frame. */
export function expectFrame(
  bytes: Uint8Array,
  expected: Frame & { readonly totalBytes: number },
  refusal: Refusal,
): void {
  if (bytes.byteLength !== expected.totalBytes) {
    refuse(refusal, `has ${bytes.byteLength} bytes where this model needs ${expected.totalBytes}`)
  }
  expectFrameFields(bytes, expected, refusal)
}

/** The same for formats whose length does not follow from the layout: its bounds are checked instead. */
export function expectFrameWithin(
  bytes: Uint8Array,
  expected: Frame & { readonly leastBytes: number; readonly mostBytes: number },
  refusal: Refusal,
): void {
  const { leastBytes, mostBytes } = expected
  if (bytes.byteLength < leastBytes || bytes.byteLength > mostBytes) {
    refuse(refusal, `has ${bytes.byteLength} bytes where this model needs ${leastBytes} to ${mostBytes}`)
  }
  expectFrameFields(bytes, expected, refusal)
}

function expectFrameFields(bytes: Uint8Array, expected: Frame, refusal: Refusal): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, frameBytes)
  const magic = String.fromCharCode(...bytes.subarray(0, 4))
  if (magic !== expected.magic) refuse(refusal, `does not begin with “${expected.magic}”`)
  if (view.getUint8(4) !== expected.version) {
    refuse(refusal, `has format version ${view.getUint8(4)} where ${expected.version} is spoken`)
  }
  if (view.getUint8(5) !== expected.variant) {
    refuse(refusal, `is encoded as variant ${view.getUint8(5)} where this run uses ${expected.variant}`)
  }
  if (view.getUint8(6) !== methodNumbers[expected.method]) {
    refuse(refusal, `is of method ${view.getUint8(6)}, not of ${expected.method}`)
  }
  if (view.getUint8(7) !== expected.part) {
    refuse(refusal, `is of part ${view.getUint8(7)} where part ${expected.part} is due`)
  }
  if (view.getUint32(8, true) !== expected.count) {
    refuse(refusal, `is for ${view.getUint32(8, true)} parameters where this model has ${expected.count}`)
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

/** float32 values as they travel: a view of them where the machine has them so. */
export function bytesOfFloats(values: Float32Array): Uint8Array {
  if (isLittleEndian) return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  const bytes = new Uint8Array(values.byteLength)
  writeFloats(bytes, 0, values)
  return bytes
}

/** `count` float32 values at a byte offset: a view of them where the machine can read them there, else a copy. */
export function floatsAt(source: Uint8Array, byteOffset: number, count: number): Float32Array {
  const at = source.byteOffset + byteOffset
  const readable = isLittleEndian && at % Float32Array.BYTES_PER_ELEMENT === 0
  return readable ? new Float32Array(source.buffer, at, count) : readFloats(source, byteOffset, count)
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
/** What rounding may make of it in an encoding that rounds. */
export const largestRounded = 1.01e6

/** Whether all values are finite and within `limit`. */
export function allWithin(values: Float32Array, limit: number): boolean {
  // One comparison per value: NaN fails it as infinities do.
  for (let i = 0; i < values.length; i++) if (!(Math.abs(values[i]!) <= limit)) return false
  return true
}
