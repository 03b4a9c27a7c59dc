/**
 * DiLoCo (Douillard et al. 2023, https://arxiv.org/abs/2311.08105): every peer i takes H steps of its inner optimiser
 * from θ, the pseudo-gradients Δᵢ = θ − θᵢ are averaged with the peers' weights, and an outer Nesterov step moves
 * everyone to the same new θ:
 *
 *   Δ = Σ wᵢ Δᵢ,   m ← μ m + Δ,   θ ← θ − η (Δ + μ m)
 *
 * The order of that arithmetic, in aggregate.ts and outer-step.ts, is part of the format: whoever keeps it gets the
 * same bits. The inner optimiser's own state stays with the peer, across rounds.
 *
 * With error feedback, what an encoding loses is remembered and sent later: e ← β e + Δᵢ, ê = Q(e), e ← e − ê.
 */
import { inParts } from '../core/index.ts'
import { type DecodedTensor, normOf, plainAverage, sharesOf, type TensorAverage } from './aggregate.ts'
import { decodeDense, denseBytes, diverged, encodeDense } from './dense-update.ts'
import type { EncodingName } from './encodings.ts'
import { pseudoGradient, type SyncMethod, type TensorEntry, type TensorLayout } from './method.ts'
import { nesterovStep, type OuterState, type OuterStepOptions, sumsFor } from './outer-step.ts'
import {
  noLocal,
  readState,
  requireSize,
  type StateFormat,
  stateFormatBytes,
  writeState,
} from './state-format.ts'
import { allWithin, frameBytes, largestMagnitude } from './wire.ts'

export interface DilocoOptions extends OuterStepOptions {
  readonly innerSteps: number
  readonly encoding: EncodingName
  /** β: how much of what the encoding lost is remembered; absent to forget it. */
  readonly errorFeedback?: number | undefined
}

export interface DilocoState extends OuterState {
  readonly layout: TensorLayout
}

/** With error feedback: what one peer has learnt and the encoding has lost. */
export type DilocoLocal = {
  readonly layout: TensorLayout
  readonly memory: Float32Array // e, [totalSize]
} | null

/** Validated, and still as compact as it travelled: decoding happens while it is added up. */
export interface DilocoUpdate {
  readonly tensors: readonly DecodedTensor[] // one per layout entry
}

const version = 1

export const diloco = (options: DilocoOptions): SyncMethod<DilocoState, DilocoLocal, DilocoUpdate> =>
  averagedPseudoGradients('diloco', options, () => plainAverage)

/** DiLoCo with what `averageOf` says for each tensor in the place of the mean. */
export function averagedPseudoGradients(
  method: 'diloco' | 'decoupled' | 'muloco',
  options: DilocoOptions,
  averageOf: (entry: TensorEntry) => TensorAverage,
): SyncMethod<DilocoState, DilocoLocal, DilocoUpdate> {
  const { innerSteps, encoding, errorFeedback } = options
  const format = { method, version, encoding } as const
  const stateFormat: StateFormat = { magic: 'GSST', method, version, counters: 0, arrays: 2 }
  const localFormat: StateFormat = { magic: 'GSLO', method, version, counters: 0, arrays: 1 }
  const remembers = errorFeedback !== undefined

  return {
    id: `${method}/${version}`,
    quantity: 'parameters',
    innerSteps,
    overlapSteps: 0,
    replicated: true,
    maximumUpdateBytes: ({ entries }) => frameBytes + denseBytes(encoding, entries),
    stateBytes: (layout) => stateFormatBytes(stateFormat, layout),

    createState: (layout, parameters) => {
      requireSize(parameters, layout)
      return { layout, parameters: parameters.slice(), momentum: new Float32Array(layout.totalSize) }
    },
    parameters: (state) => state.parameters,
    createLocal: (layout) => (remembers ? { layout, memory: new Float32Array(layout.totalSize) } : null),
    startRound: (state) => state.parameters,

    encodeUpdate: inParts(function* ({ state, local, values }, layout) {
      requireSize(values, layout)
      const delta = pseudoGradient(state.parameters, values)
      yield
      if (local === null || !remembers) return { bytes: yield* encodeDense(format, layout, delta), local }
      remember(delta, local.memory, errorFeedback)
      const bytes = yield* encodeDense(format, layout, delta)
      const sums = sumsFor(layout.entries)
      const sent = decodeDense(format, layout, bytes)
      for (const [index, { offset, size }] of layout.entries.entries()) {
        const sum = sums.subarray(0, size).fill(0)
        sent[index]!.addScaled(sum, 1)
        takeOut(delta.subarray(offset, offset + size), sum)
        yield
      }
      return { bytes, local: { layout, memory: delta } }
    }),
    decodeUpdate: (bytes, layout) => ({ tensors: decodeDense(format, layout, bytes) }),
    updateNorm: ({ tensors }) => normOf(tensors),

    merge: inParts(function* (state, contributions, context) {
      const { layout } = state
      const shares = sharesOf(contributions)
      const next = {
        layout,
        parameters: new Float32Array(layout.totalSize),
        momentum: new Float32Array(layout.totalSize),
      }
      for (const [index, entry] of layout.entries.entries()) {
        const tensors = contributions.map(({ update }) => update.tensors[index]!)
        averageOf(entry)(entry.size, tensors, shares, context, (block, from) =>
          nesterovStep(next, state, entry.offset + from, block, options),
        )
        yield
      }
      return next
    }),

    serialiseState: ({ layout, parameters, momentum }) =>
      writeState(stateFormat, layout, { counters: [], arrays: [parameters, momentum] }),
    parseState: (bytes, layout) => {
      const [parameters, momentum] = readState(bytes, stateFormat, layout).arrays
      return { layout, parameters: parameters!, momentum: momentum! }
    },
    serialiseLocal: (local) =>
      local === null
        ? noLocal.serialiseLocal()
        : writeState(localFormat, local.layout, { counters: [], arrays: [local.memory] }),
    parseLocal: (bytes, layout) =>
      remembers
        ? { layout, memory: readState(bytes, localFormat, layout).arrays[0]! }
        : noLocal.parseLocal(bytes),
  }
}

/** e ← βe + Δ, in the place of Δ. @throws GroundswellError `sync/diverged` */
function remember(delta: Float32Array, memory: Float32Array, decay: number): void {
  for (let i = 0; i < delta.length; i++) delta[i] = decay * memory[i]! + delta[i]!
  if (!allWithin(delta, largestMagnitude)) throw diverged()
}

/** e ← e − ê, of one tensor. */
function takeOut(tensor: Float32Array, sent: Float64Array): void {
  for (let i = 0; i < tensor.length; i++) tensor[i] = tensor[i]! - sent[i]!
}
