/**
 * States and peers' own memories as bytes: the frame, then counters (uint32), then arrays of one float32 per
 * parameter. Everything that a method keeps has this form, so all are checked by the same few lines.
 */
import type { Pieces } from '../core/index.ts'
import type { TensorLayout } from './method.ts'
import {
  allWithin,
  bytesOfFloats,
  expectFrame,
  type Frame,
  floatsAt,
  frameBytes,
  type MethodName,
  type Refusal,
  refuse,
  refusedLocal,
  refusedState,
  writeFrame,
} from './wire.ts'

/** What a method's state, or its local memory, consists of. */
export interface StateFormat {
  readonly magic: 'GSST' | 'GSLO'
  readonly method: MethodName
  readonly version: number
  readonly counters: number
  readonly arrays: number
}

export interface StateFields {
  /** Whole numbers in [0, 2³²). */
  readonly counters: readonly number[]
  /** Each of the layout's size. */
  readonly arrays: readonly Float32Array[]
}

export function stateFormatBytes({ counters, arrays }: StateFormat, { totalSize }: TensorLayout): number {
  return frameBytes + 4 * counters + 4 * arrays * totalSize
}

/** The arrays are views of those that are given: a copy of a large model costs memory that may not be there. */
export function writeState(format: StateFormat, layout: TensorLayout, fields: StateFields): Pieces {
  const head = new Uint8Array(frameBytes + 4 * format.counters)
  writeFrame(head, frameOf(format, layout))
  const view = new DataView(head.buffer)
  for (const [i, counter] of fields.counters.entries()) view.setUint32(frameBytes + 4 * i, counter, true)
  return [head, ...fields.arrays.map(bytesOfFloats)]
}

/** The arrays may be views of `bytes`, which are not to be written to. @throws GroundswellError `sync/invalid-state` */
export function readState(
  bytes: Uint8Array,
  format: StateFormat,
  layout: TensorLayout,
): { counters: number[]; arrays: Float32Array[] } {
  const refusal = format.magic === 'GSST' ? refusedState : refusedLocal
  expectFrame(bytes, { ...frameOf(format, layout), totalBytes: stateFormatBytes(format, layout) }, refusal)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const counters = Array.from({ length: format.counters }, (_, i) => view.getUint32(frameBytes + 4 * i, true))
  const arrays: Float32Array[] = []
  let byteOffset = frameBytes + 4 * format.counters
  for (let i = 0; i < format.arrays; i++) {
    const array = floatsAt(bytes, byteOffset, layout.totalSize)
    requireFinite(array, refusal)
    arrays.push(array)
    byteOffset += array.byteLength
  }
  return { counters, arrays }
}

/** A state, or a peer's own memory, that is one float32 per parameter and nothing else. */
export interface FlatState {
  readonly layout: TensorLayout
  readonly values: Float32Array // [totalSize]
}

export interface ArrayFormat {
  readonly bytes: (layout: TensorLayout) => number
  readonly write: (state: FlatState) => Pieces
  /** @throws GroundswellError `sync/invalid-state` */
  readonly read: (bytes: Uint8Array, layout: TensorLayout) => FlatState
}

export function arrayFormat(given: Pick<StateFormat, 'magic' | 'method' | 'version'>): ArrayFormat {
  const format: StateFormat = { ...given, counters: 0, arrays: 1 }
  return {
    bytes: (layout) => stateFormatBytes(format, layout),
    write: ({ layout, values }) => writeState(format, layout, { counters: [], arrays: [values] }),
    read: (bytes, layout) => ({ layout, values: readState(bytes, format, layout).arrays[0]! }),
  }
}

/** For methods whose peers keep nothing to themselves. */
export const noLocal = {
  createLocal: (): null => null,
  serialiseLocal: (): Pieces => [],
  parseLocal: (bytes: Uint8Array): null => {
    if (bytes.byteLength > 0)
      refuse(refusedLocal, `has ${bytes.byteLength} bytes where there is nothing to keep`)
    return null
  },
} as const

/** @throws RangeError */
export function requireSize(values: Float32Array, layout: TensorLayout): void {
  if (values.length !== layout.totalSize) {
    throw new RangeError(`Got ${values.length} values for a layout of ${layout.totalSize} parameters.`)
  }
}

function requireFinite(values: Float32Array, refusal: Refusal): void {
  if (!allWithin(values, Number.MAX_VALUE)) refuse(refusal, 'holds values that are not finite')
}

function frameOf({ magic, method, version }: StateFormat, { totalSize }: TensorLayout): Frame {
  return { magic, version, variant: 1, method, part: 0, count: totalSize }
}
