/**
 * NoLoCo (Kolehmainen et al. 2025, https://arxiv.org/abs/2506.10911): no round of all peers. Every peer has slow
 * parameters φ of its own; after H inner steps from them it exchanges with one other, and both step towards what the two
 * have learnt and towards each other. With Δᵢ = φᵢ − θᵢ over the group g of the peer (a pair, or alone):
 *
 *   m ← μ m − η mean(Δ) + η (mean(φ) − φ),   φ ← φ + m
 *
 * The second term keeps the φ from drifting apart; over a group it sums to zero, so their mean moves as one model would.
 * Published code: η = 0.7, μ = 0.5, H = 50, pairs. Here mean(Δ) has the contributions' weights.
 *
 * Who meets whom is a permutation of the sorted contributors, seeded with the round's seed: `gossipGroups` tells it
 * beforehand, and a peer needs no updates but those of its group. `merge` for nobody in particular (`self` null: a host
 * that only watches) gives the mean of all φ after their steps, with the mean of their momenta as it has seen it.
 */
import { inParts, permutation, seededRandom } from '../core/index.ts'
import { addShares, type DecodedTensor, normOf, sharesOf } from './aggregate.ts'
import { denseBytes, openTensors, writeTensors } from './dense-update.ts'
import { type EncodingName, encodings } from './encodings.ts'
import { type MergeContext, pseudoGradient, type SyncMethod, type TensorLayout } from './method.ts'
import { type OuterState, type OuterStepOptions, sumsFor } from './outer-step.ts'
import {
  noLocal,
  readState,
  requireSize,
  type StateFormat,
  stateFormatBytes,
  writeState,
} from './state-format.ts'
import { expectFrame, type Frame, frameBytes, refusedUpdate, writeFrame } from './wire.ts'

export interface NolocoOptions extends OuterStepOptions {
  /** H */
  readonly innerSteps: number
  /** How Δ travels. */
  readonly encoding: EncodingName
  /** How φ travels. */
  readonly parametersEncoding: EncodingName
}

export interface NolocoState extends OuterState {
  readonly layout: TensorLayout
}

export interface NolocoUpdate {
  readonly delta: readonly DecodedTensor[] // Δ, one per layout entry
  readonly slow: readonly DecodedTensor[] // φ, one per layout entry
}

const version = 1
const stateFormat: StateFormat = { magic: 'GSST', method: 'noloco', version, counters: 0, arrays: 2 }
/** There is no majority in a pair to clip by; and who watches all pairs must do what they do. */
const unclipped = { clipToMedianNorm: false }

/** Who meets whom: pairs, and one alone where the number is odd. */
export function gossipGroups(peers: readonly string[], seed: string): readonly (readonly string[])[] {
  const sorted = [...peers].sort()
  const order = permutation(sorted.length, seededRandom('noloco', seed))
  const groups: string[][] = []
  for (let i = 0; i < sorted.length; i += 2) {
    groups.push([...order.subarray(i, i + 2)].map((at) => sorted[at]!).sort())
  }
  return groups
}

export function noloco(options: NolocoOptions): SyncMethod<NolocoState, null, NolocoUpdate> {
  const { innerSteps, encoding, parametersEncoding } = options
  const updateBytes = ({ entries }: TensorLayout): number =>
    frameBytes + denseBytes(encoding, entries) + denseBytes(parametersEncoding, entries)
  const frameOf = ({ totalSize }: TensorLayout): Frame => ({
    magic: 'GSUP',
    version,
    variant: 16 * encodings[encoding].variant + encodings[parametersEncoding].variant,
    method: 'noloco',
    part: 0,
    count: totalSize,
  })

  return {
    ...noLocal,
    id: `noloco/${version}`,
    quantity: 'parameters',
    innerSteps,
    overlapSteps: 0,
    replicated: false,
    maximumUpdateBytes: updateBytes,
    stateBytes: (layout) => stateFormatBytes(stateFormat, layout),

    createState: (layout, parameters) => {
      requireSize(parameters, layout)
      return { layout, parameters: parameters.slice(), momentum: new Float32Array(layout.totalSize) }
    },
    parameters: (state) => state.parameters,
    startRound: (state) => state.parameters,

    encodeUpdate: inParts(function* ({ state, local, values }, layout) {
      requireSize(values, layout)
      const { entries } = layout
      const bytes = new Uint8Array(updateBytes(layout))
      writeFrame(bytes, frameOf(layout))
      const slowAt = frameBytes + denseBytes(encoding, entries)
      const delta = pseudoGradient(state.parameters, values)
      yield
      yield* writeTensors(encoding, entries, delta, bytes, frameBytes)
      yield* writeTensors(parametersEncoding, entries, state.parameters, bytes, slowAt)
      return { bytes, local }
    }),
    decodeUpdate: (bytes, layout) => {
      const { entries } = layout
      expectFrame(bytes, { ...frameOf(layout), totalBytes: updateBytes(layout) }, refusedUpdate)
      const slowAt = frameBytes + denseBytes(encoding, entries)
      return {
        delta: openTensors(encoding, entries, bytes, frameBytes),
        slow: openTensors(parametersEncoding, entries, bytes, slowAt),
      }
    },
    partners: partnersOf,
    updateNorm: ({ delta }) => normOf(delta),

    /** A peer that took no part keeps its state. */
    merge: inParts(function* (state, contributions, context) {
      const { layout } = state
      const members = partnersOf(
        contributions.map(({ peer }) => peer),
        context,
      )
      const group = contributions.filter(({ peer }) => members.includes(peer))
      if (group.length === 0) return state
      const shares = sharesOf(group)
      const equal = group.map(() => 1 / group.length)
      const next = {
        layout,
        parameters: new Float32Array(layout.totalSize),
        momentum: new Float32Array(layout.totalSize),
      }
      const deltas = sumsFor(layout.entries)
      const slows = sumsFor(layout.entries)
      for (const [index, { offset, size }] of layout.entries.entries()) {
        const delta = deltas.subarray(0, size).fill(0)
        const slow = slows.subarray(0, size).fill(0)
        const deltasOf = group.map(({ update }) => update.delta[index]!)
        const slowsOf = group.map(({ update }) => update.slow[index]!)
        addShares(delta, deltasOf, shares, unclipped)
        addShares(slow, slowsOf, equal, unclipped)
        gossipStep(next, state, offset, { delta, slow, isOwn: context.self !== null }, options)
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
  }
}

/**
 * One tensor's step: along the group's updates, and a pull of the peer's own φ towards that of the group. For nobody in
 * particular, φ is the mean itself and the pull towards it is nothing.
 */
function gossipStep(
  next: OuterState,
  state: OuterState,
  offset: number,
  group: { readonly delta: Float64Array; readonly slow: Float64Array; readonly isOwn: boolean },
  { outerLearningRate: rate, outerMomentum: mu }: OuterStepOptions,
): void {
  const { delta, slow, isOwn } = group
  for (let i = 0; i < delta.length; i++) {
    const at = offset + i
    const own = isOwn ? state.parameters[at]! : slow[i]!
    const momentum = Math.fround(mu * state.momentum[at]! - rate * delta[i]! + rate * (slow[i]! - own))
    next.momentum[at] = momentum
    next.parameters[at] = own + momentum
  }
}

/** The group of a peer, of which it is the group too; all for nobody; none for who took no part. */
function partnersOf(
  contributors: readonly string[],
  { seed, self }: Pick<MergeContext, 'seed' | 'self'>,
): readonly string[] {
  if (self === null) return contributors
  return gossipGroups(contributors, seed).find((group) => group.includes(self)) ?? []
}
