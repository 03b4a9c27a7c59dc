/**
 * DiLoCo (Douillard et al. 2023, https://arxiv.org/abs/2311.08105): every peer i takes H steps of its inner optimiser
 * from θ, the pseudo-gradients Δᵢ = θ − θᵢ are averaged with the peers' weights, and an outer Nesterov step moves
 * everyone to the same new θ:
 *
 *   Δ = Σ wᵢ Δᵢ,   m ← μ m + Δ,   θ ← θ − η (Δ + μ m)
 *
 * The order of that arithmetic, in aggregate.ts and outer-step.ts, is part of the format: whoever keeps it gets the
 * same bits. The inner optimiser's own state stays with the peer, across rounds.
 */
import { addShares, type DecodedTensor, normOf, sharesOf } from './aggregate.ts'
import { decodeDense, denseBytes, encodeDense } from './dense-update.ts'
import type { EncodingName } from './encodings.ts'
import { pseudoGradient, type SyncMethod, type TensorLayout } from './method.ts'
import { nesterovStep, type OuterState, type OuterStepOptions, sumsFor } from './outer-step.ts'
import {
  noLocal,
  readState,
  requireSize,
  type StateFormat,
  stateFormatBytes,
  writeState,
} from './state-format.ts'
import { frameBytes } from './wire.ts'

export interface DilocoOptions extends OuterStepOptions {
  readonly innerSteps: number
  readonly encoding: EncodingName
}

export interface DilocoState extends OuterState {
  readonly layout: TensorLayout
}

/** Validated, and still as compact as it travelled: decoding happens while it is added up. */
export interface DilocoUpdate {
  readonly tensors: readonly DecodedTensor[] // one per layout entry
}

const version = 1
const stateFormat: StateFormat = { magic: 'GSST', method: 'diloco', version, counters: 0, arrays: 2 }

export function diloco(options: DilocoOptions): SyncMethod<DilocoState, null, DilocoUpdate> {
  const format = { method: 'diloco', version, encoding: options.encoding } as const
  return {
    ...noLocal,
    id: `diloco/${version}`,
    quantity: 'parameters',
    innerSteps: options.innerSteps,
    overlapSteps: 0,
    replicated: true,
    maximumUpdateBytes: ({ entries }) => frameBytes + denseBytes(options.encoding, entries),
    stateBytes: (layout) => stateFormatBytes(stateFormat, layout),

    createState: (layout, parameters) => {
      requireSize(parameters, layout)
      return { layout, parameters: parameters.slice(), momentum: new Float32Array(layout.totalSize) }
    },
    parameters: (state) => state.parameters,
    startRound: (state) => state.parameters,

    encodeUpdate: ({ state, local, values }, layout) => {
      requireSize(values, layout)
      return { bytes: encodeDense(format, layout, pseudoGradient(state.parameters, values)), local }
    },
    decodeUpdate: (bytes, layout) => ({ tensors: decodeDense(format, layout, bytes) }),
    updateNorm: ({ tensors }) => normOf(tensors),

    merge: (state, contributions, context) => {
      const { layout } = state
      const shares = sharesOf(contributions)
      const next = {
        layout,
        parameters: new Float32Array(layout.totalSize),
        momentum: new Float32Array(layout.totalSize),
      }
      const sums = sumsFor(layout.entries)
      layout.entries.forEach((entry, index) => {
        const sum = sums.subarray(0, entry.size).fill(0)
        const tensors = contributions.map(({ update }) => update.tensors[index]!)
        addShares(sum, tensors, shares, context)
        nesterovStep(next, state, entry, sum, options)
      })
      return next
    },

    serialiseState: ({ layout, parameters, momentum }) =>
      writeState(stateFormat, layout, { counters: [], arrays: [parameters, momentum] }),
    parseState: (bytes, layout) => {
      const [parameters, momentum] = readState(bytes, stateFormat, layout).arrays
      return { layout, parameters: parameters!, momentum: momentum! }
    },
  }
}
