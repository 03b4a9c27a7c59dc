/**
 * What peers exchange and how it is merged, as one interface that every low-communication method fills in: the
 * state that a late joiner needs, what only the peer itself knows (residuals, momenta), the wire format of one peer's
 * update, the merge that every peer performs for itself, and what all of it costs in bytes.
 *
 * Parameters are one flat Float32Array in the order of a layout. Everything here is arithmetic in a fixed order over
 * typed arrays, so that the same accepted updates give the same bits on every machine and checkpoints can be
 * compared by their CID.
 */
import type { Pieces } from '../core/index.ts'

/** Where each tensor lies in the flat array, and its shape. Sizes and offsets count elements. */
export interface TensorLayout {
  readonly entries: readonly TensorEntry[]
  readonly totalSize: number
}

export interface TensorEntry {
  readonly name: string
  readonly offset: number
  readonly size: number
  /** Its product is `size`. Methods that cut matrices into tiles look at it. */
  readonly shape: readonly number[]
}

/** One peer's decoded update. */
export interface Contribution<Update> {
  /** Who sent it; the same text on every machine. */
  readonly peer: string
  readonly update: Update
  /** Its weight in the merge: training tokens, discounted when it came late. Above 0. */
  readonly weight: number
}

/** What a merge may depend on besides state and contributions: the same values on every machine. */
export interface MergeContext {
  /** Counted from 1. */
  readonly round: number
  /** Random text of this round, fixed by what was committed before it. */
  readonly seed: string
  /** Inner learning rate at this round, for methods that step with averaged gradients. */
  readonly learningRate: number
  /** Clip each contribution's norm, tensor by tensor, to the median over the contributions (three or more). */
  readonly clipToMedianNorm: boolean
  /** Whose merge this is where peers hold different states (gossip); null for a host that only watches. */
  readonly self: string | null
}

export interface EncodeInput<State, Local> {
  readonly state: State
  readonly local: Local
  readonly round: number
  /**
   * `quantity` 'parameters': the peer's parameters θᵢ after its inner steps; 'gradient': its mean gradient at the
   * parameters that `startRound` gave. Flat, not to be written to, not to be kept.
   */
  readonly values: Float32Array
  readonly learningRate: number
}

/** A peer's own parameters: as it last handed them in, and as they are after the steps that it has taken since (up to τ). */
export interface OwnParameters {
  readonly handedIn: Float32Array
  /** The same array where it has taken none. */
  readonly now: Float32Array
}

/**
 * `State`, `Local` and `Update` belong to the method; whoever drives a run passes them along without looking inside.
 * All are values: nothing is changed in place. Where encoding and merging know parts (`inParts`), a peer answers others in
 * between.
 */
export interface SyncMethod<State = unknown, Local = unknown, Update = unknown> {
  /** Name and version of the method and of its formats, such as `diloco/1`. */
  readonly id: string
  /** What `encodeUpdate` is given. */
  readonly quantity: 'parameters' | 'gradient'
  /** Inner optimiser steps of a peer between two exchanges (H); 1 where gradients are exchanged. */
  readonly innerSteps: number
  /** Inner steps of the next round that a peer may take before it applies the merge of this one (τ). */
  readonly overlapSteps: number
  /** Whether all peers hold the same state after a merge, so that its CID can be compared. */
  readonly replicated: boolean

  /** Whether `startRound` looks at a peer's own parameters; if not, nobody needs to keep them. */
  readonly startsFromOwn?: boolean

  createState(layout: TensorLayout, parameters: Float32Array): State
  /** The merged parameters θ. Not to be written to. */
  parameters(state: State): Float32Array
  /** What a peer knows that has taken part in nothing yet. */
  createLocal(layout: TensorLayout): Local
  /**
   * The parameters with which a peer's next inner steps go on: for most methods the merged ones whatever `own` is, which is
   * undefined for a peer that took no part in the round before. Not to be written to.
   */
  startRound(state: State, local: Local, own: OwnParameters | undefined): Float32Array
  /**
   * One peer's update, and its `local` in case the update is accepted; otherwise the one before stays.
   * @throws GroundswellError `sync/diverged` when it would hold what no peer accepts
   */
  encodeUpdate(
    this: void,
    input: EncodeInput<State, Local>,
    layout: TensorLayout,
  ): { readonly bytes: Uint8Array; readonly local: Local }
  /** Checks bytes from a stranger, size first. @throws GroundswellError `sync/invalid-update` */
  decodeUpdate(bytes: Uint8Array, layout: TensorLayout): Update
  /**
   * Of all contributors of a round those whose updates the merge of one peer (`self`) reads: it may be given them alone.
   * Absent where it reads all.
   */
  partners?(contributors: readonly string[], context: Pick<MergeContext, 'seed' | 'self'>): readonly string[]
  /** √Σ over tensors of the update's squares, for checks; as cheap as decoding. */
  updateNorm(update: Update): number
  /** The outer step. The order of `contributions` matters to the last bits: all peers use the one in the log. */
  merge(
    this: void,
    state: State,
    contributions: readonly Contribution<Update>[],
    context: MergeContext,
  ): State

  /** In pieces, some of which are views of the state. */
  serialiseState(state: State): Pieces
  /**
   * Checks bytes from a stranger, size first; what it returns may be a view of them.
   * @throws GroundswellError `sync/invalid-state`
   */
  parseState(bytes: Uint8Array, layout: TensorLayout): State
  /** For a peer's own disk, so that a restart keeps its residuals; in such pieces, too. */
  serialiseLocal(local: Local): Pieces
  /** @throws GroundswellError `sync/invalid-state` */
  parseLocal(bytes: Uint8Array, layout: TensorLayout): Local
  /** No update is longer: a fetch refuses more before it allocates. */
  maximumUpdateBytes(layout: TensorLayout): number
  /** Exact size of a serialised state. */
  stateBytes(layout: TensorLayout): number
}

/** Δ = θ − θᵢ in float32: what one peer learnt in its inner steps, with the sign of a gradient. */
export function pseudoGradient(globalParameters: Float32Array, localParameters: Float32Array): Float32Array {
  if (globalParameters.length !== localParameters.length) {
    throw new RangeError(
      `Pseudo-gradient of ${globalParameters.length} global and ${localParameters.length} local parameters.`,
    )
  }
  const delta = new Float32Array(globalParameters.length)
  for (let i = 0; i < delta.length; i++) delta[i] = globalParameters[i]! - localParameters[i]!
  return delta
}
