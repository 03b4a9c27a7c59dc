/**
 * Streaming DiLoCo (Douillard et al. 2025, https://arxiv.org/abs/2501.18512): DiLoCo that exchanges one of P fragments
 * of the model every H/P steps instead of all of it every H, so that the peak of traffic falls by P, and goes on
 * training for τ steps while the exchange is under way. With p the fragment of round r (r mod P):
 *
 *   Δᵢ = θ[p] − θᵢ[p],   Δ = Σ wᵢ Δᵢ,   m[p] ← μ m[p] + Δ,   θ[p] ← θ[p] − η (Δ + μ m[p])
 *   then at each peer, τ steps later:   θᵢ[p] ← α θᵢ[p] + (1 − α) θ[p];   the other fragments go on as they are
 *
 * θ and m are the same everywhere; θᵢ stays with its peer, which is why a late joiner needs no more than θ and m and
 * begins at θ. With P = 1, τ = 0 and α = 0 this is DiLoCo, bit for bit. The published runs use three layers per
 * fragment, η = 0.4, μ = 0.9, α = 0.5, τ = 1 (up to 5 advised) and 4-bit updates.
 */
import { inParts } from '../core/index.ts'
import { type DecodedTensor, normOf, plainAverage, sharesOf } from './aggregate.ts'
import { decodeDense, denseBytes, encodeDense, type Part } from './dense-update.ts'
import type { EncodingName } from './encodings.ts'
import { fragmentsOf, requireFragments } from './fragments.ts'
import { pseudoGradient, type SyncMethod, type TensorLayout } from './method.ts'
import { nesterovStep, type OuterState, type OuterStepOptions } from './outer-step.ts'
import {
  noLocal,
  readState,
  requireSize,
  type StateFormat,
  stateFormatBytes,
  writeState,
} from './state-format.ts'
import { frameBytes, refuse, refusedUpdate } from './wire.ts'

export interface StreamingDilocoOptions extends OuterStepOptions {
  /** H: inner steps between two exchanges of the same fragment, a multiple of `fragments`. */
  readonly innerSteps: number
  /** P, at most 255. */
  readonly fragments: number
  /** τ, below H/P. */
  readonly overlapSteps: number
  /** α: how much of its own a peer keeps of the fragment that was just merged. */
  readonly mixing: number
  readonly encoding: EncodingName
}

export interface StreamingDilocoState extends OuterState {
  readonly layout: TensorLayout
  /** The newest merged round, which tells the fragment merged last; 0 at first. */
  readonly round: number
}

export interface StreamingDilocoUpdate {
  readonly fragment: number
  readonly tensors: readonly DecodedTensor[] // one per entry of the fragment
}

const version = 1
const stateFormat: StateFormat = {
  magic: 'GSST',
  method: 'streaming-diloco',
  version,
  counters: 1,
  arrays: 2,
}

export function streamingDiloco(
  options: StreamingDilocoOptions,
): SyncMethod<StreamingDilocoState, null, StreamingDilocoUpdate> {
  const { innerSteps, fragments, overlapSteps, mixing, encoding } = options
  if (innerSteps % fragments !== 0 || overlapSteps >= innerSteps / fragments) {
    throw new RangeError(`H = ${innerSteps} with P = ${fragments} and τ = ${overlapSteps}.`)
  }
  const format = { method: 'streaming-diloco', version, encoding } as const
  const partOf = (layout: TensorLayout, number: number): Part => ({
    number,
    entries: fragmentsOf(layout, fragments)[number]!,
  })

  return {
    ...noLocal,
    id: `streaming-diloco/${version}`,
    quantity: 'parameters',
    innerSteps: innerSteps / fragments,
    overlapSteps,
    replicated: true,
    startsFromOwn: true,
    maximumUpdateBytes: (layout) =>
      frameBytes + Math.max(...fragmentsOf(layout, fragments).map((part) => denseBytes(encoding, part))),
    stateBytes: (layout) => stateFormatBytes(stateFormat, layout),

    createState: (layout, parameters) => {
      requireSize(parameters, layout)
      requireFragments(layout, fragments)
      const momentum = new Float32Array(layout.totalSize)
      return { layout, round: 0, parameters: parameters.slice(), momentum }
    },
    parameters: (state) => state.parameters,

    startRound: ({ layout, round, parameters }, _, own) => {
      if (own === undefined || round === 0) return parameters
      const { now } = own
      const next = now.slice()
      for (const { offset, size } of partOf(layout, round % fragments).entries) {
        for (let i = offset; i < offset + size; i++) {
          next[i] = mixing === 0 ? parameters[i]! : mixing * now[i]! + (1 - mixing) * parameters[i]!
        }
      }
      return next
    },

    encodeUpdate: inParts(function* ({ state, local, round, values }, layout) {
      requireSize(values, layout)
      const part = partOf(layout, round % fragments)
      const delta = pseudoGradient(state.parameters, values)
      yield
      return { bytes: yield* encodeDense(format, layout, delta, part), local }
    }),
    decodeUpdate: (bytes, layout) => {
      if (bytes.byteLength < frameBytes || bytes[7]! >= fragments) {
        refuse(refusedUpdate, `is of none of the ${fragments} fragments`)
      }
      const part = partOf(layout, bytes[7]!)
      return { fragment: part.number, tensors: decodeDense(format, layout, bytes, part) }
    },
    updateNorm: ({ tensors }) => normOf(tensors),

    /** A contribution of another fragment than this round's counts for nothing. */
    merge: inParts(function* (state, contributions, context) {
      const { layout } = state
      const part = partOf(layout, context.round % fragments)
      const due = contributions.filter(({ update }) => update.fragment === part.number)
      const next = {
        layout,
        round: context.round,
        parameters: state.parameters.slice(),
        momentum: state.momentum.slice(),
      }
      if (due.length === 0 && contributions.length > 0) return next
      const shares = sharesOf(due)
      for (const [index, { offset, size }] of part.entries.entries()) {
        const tensors = due.map(({ update }) => update.tensors[index]!)
        plainAverage(size, tensors, shares, context, (block, from) =>
          nesterovStep(next, state, offset + from, block, options),
        )
        yield
      }
      return next
    }),

    serialiseState: ({ layout, round, parameters, momentum }) =>
      writeState(stateFormat, layout, { counters: [round], arrays: [parameters, momentum] }),
    parseState: (bytes, layout) => {
      const { counters, arrays } = readState(bytes, stateFormat, layout)
      return { layout, round: counters[0]!, parameters: arrays[0]!, momentum: arrays[1]! }
    },
  }
}
