/**
 * DiLoCo (Douillard et al. 2023, https://arxiv.org/abs/2311.08105): every peer i takes H steps of its inner optimiser
 * from θ, the pseudo-gradients Δᵢ = θ − θᵢ are averaged with the peers' tokens as weights, and an outer Nesterov step
 * in PyTorch's form moves everyone to the same new θ:
 *
 *   Δ = Σ wᵢ Δᵢ,   m ← μ m + Δ,   θ ← θ − η (Δ + μ m)
 *
 * For every parameter the sum runs in float64 over the contributions in the given order, from zero, and is rounded
 * to float32 once; m and θ are computed in float64 and rounded to float32 once each. That order is part of the
 * format: whoever keeps it gets the same bits. The inner optimiser's own state stays with the peer, across rounds.
 */
import { GroundswellError } from '../core/index.ts'
import { type EncodedTensor, type EncodingName, encodedBytes, encodings } from './encodings.ts'
import type { SyncMethod, TensorLayout } from './method.ts'
import {
  allWithin,
  expectFrame,
  frameBytes,
  largestMagnitude,
  readFloats,
  writeFloats,
  writeFrame,
} from './wire.ts'

export interface DilocoOptions {
  readonly innerSteps: number
  readonly outerLearningRate: number
  readonly outerMomentum: number
  readonly encoding: EncodingName
}

export interface DilocoState {
  readonly layout: TensorLayout
  readonly parameters: Float32Array // θ, [totalSize]
  readonly momentum: Float32Array // m, [totalSize]
}

/** Validated, and still as compact as it travelled: decoding happens while it is added up. */
export interface DilocoUpdate {
  readonly tensors: readonly EncodedTensor[] // one per layout entry
}

const version = 1
const updateMagic = 'GSUP'
const stateMagic = 'GSST'

export function diloco(options: DilocoOptions): SyncMethod<DilocoState, DilocoUpdate> {
  const encoding = encodings[options.encoding]
  const updateBytes = (layout: TensorLayout): number => frameBytes + encodedBytes(encoding, layout)
  const stateBytes = (layout: TensorLayout): number => frameBytes + 8 * layout.totalSize
  const updateFrame = (layout: TensorLayout) => ({
    magic: updateMagic,
    version,
    variant: encoding.variant,
    count: layout.totalSize,
  })
  const stateFrame = (layout: TensorLayout) => ({
    magic: stateMagic,
    version,
    variant: 1,
    count: layout.totalSize,
  })

  return {
    id: `diloco/${version}`,
    innerSteps: options.innerSteps,
    updateBytes,
    stateBytes,

    createState: (layout, parameters) => {
      requireSize(parameters, layout)
      return { layout, parameters: parameters.slice(), momentum: new Float32Array(layout.totalSize) }
    },

    parameters: (state) => state.parameters,

    encodeUpdate: (delta, layout) => {
      requireSize(delta, layout)
      if (!allWithin(delta, largestMagnitude)) {
        throw new GroundswellError('Training diverged: parameters are not finite or moved absurdly far.', {
          code: 'sync/diverged',
          remedy: 'Lower the inner learning rate, or clip gradients.',
        })
      }
      const bytes = new Uint8Array(updateBytes(layout))
      writeFrame(bytes, updateFrame(layout))
      let byteOffset = frameBytes
      for (const { offset, size } of layout.entries) {
        encoding.encodeTensor(delta.subarray(offset, offset + size), bytes, byteOffset)
        byteOffset += encoding.tensorBytes(size)
      }
      return bytes
    },

    decodeUpdate: (bytes, layout) => {
      const error = { code: 'sync/invalid-update', what: 'The update' }
      expectFrame(bytes, { ...updateFrame(layout), totalBytes: updateBytes(layout) }, error)
      let byteOffset = frameBytes
      const tensors = layout.entries.map(({ name, size }) => {
        const tensor = encoding.openTensor(bytes, byteOffset, size)
        if (tensor === undefined) {
          throw new GroundswellError(
            `The update of “${name}” holds values that are not finite or beyond ±${largestMagnitude}.`,
            { code: error.code },
          )
        }
        byteOffset += encoding.tensorBytes(size)
        return tensor
      })
      return { tensors }
    },

    merge: (state, contributions) => {
      const total = contributions.reduce((sum, { tokens }) => sum + tokens, 0)
      if (!(total > 0)) throw new RangeError('A merge needs at least one contribution with tokens.')
      const { layout } = state
      const parameters = new Float32Array(layout.totalSize)
      const momentum = new Float32Array(layout.totalSize)
      const largest = layout.entries.reduce((size, entry) => Math.max(size, entry.size), 0)
      const sums = new Float64Array(largest)
      const { outerLearningRate: rate, outerMomentum: mu } = options
      layout.entries.forEach(({ offset, size }, index) => {
        const sum = sums.subarray(0, size).fill(0)
        for (const { update, tokens } of contributions) update.tensors[index]!.addScaled(sum, tokens / total)
        for (let i = 0; i < size; i++) {
          const at = offset + i
          const delta = Math.fround(sum[i]!)
          const nextMomentum = Math.fround(mu * state.momentum[at]! + delta)
          momentum[at] = nextMomentum
          parameters[at] = state.parameters[at]! - rate * (delta + mu * nextMomentum)
        }
      })
      return { layout, parameters, momentum }
    },

    serialiseState: ({ layout, parameters, momentum }) => {
      const bytes = new Uint8Array(stateBytes(layout))
      writeFrame(bytes, stateFrame(layout))
      writeFloats(bytes, frameBytes, parameters)
      writeFloats(bytes, frameBytes + parameters.byteLength, momentum)
      return bytes
    },

    parseState: (bytes, layout) => {
      const error = { code: 'sync/invalid-state', what: 'The checkpoint' }
      expectFrame(bytes, { ...stateFrame(layout), totalBytes: stateBytes(layout) }, error)
      const parameters = readFloats(bytes, frameBytes, layout.totalSize)
      const momentum = readFloats(bytes, frameBytes + parameters.byteLength, layout.totalSize)
      if (!allWithin(parameters, Number.MAX_VALUE) || !allWithin(momentum, Number.MAX_VALUE)) {
        throw new GroundswellError('The checkpoint holds values that are not finite.', { code: error.code })
      }
      return { layout, parameters, momentum }
    },
  }
}

function requireSize(values: Float32Array, layout: TensorLayout): void {
  if (values.length !== layout.totalSize) {
    throw new RangeError(`Got ${values.length} values for a layout of ${layout.totalSize} parameters.`)
  }
}
