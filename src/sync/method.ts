/**
 * What peers exchange and how it is merged, as one interface that every low-communication method fills in: the
 * replicated state (which is all a late joiner needs), the wire format of one peer's update, the merge that every
 * peer performs for itself, and what all of it costs in bytes.
 *
 * Parameters are one flat Float32Array in the order of a layout. Everything here is arithmetic in a fixed order over
 * typed arrays, so that the same accepted updates give the same bits on every machine and checkpoints can be
 * compared by their CID.
 */

/** Where each tensor lies in the flat array. Sizes and offsets count elements. */
export interface TensorLayout {
  readonly entries: readonly { readonly name: string; readonly offset: number; readonly size: number }[]
  readonly totalSize: number
}

/** One peer's decoded update with the number of training tokens behind it, which is its weight in the merge. */
export interface Contribution<Update> {
  readonly update: Update
  readonly tokens: number
}

/**
 * `State` and `Update` belong to the method; whoever drives a run passes them along without looking inside. States
 * are values: `merge` makes a new one.
 */
export interface SyncMethod<State = unknown, Update = unknown> {
  /** Name and version of the method and of both formats, such as `diloco/1`. */
  readonly id: string
  /** Inner optimiser steps of a peer between two merges (H). */
  readonly innerSteps: number
  createState(layout: TensorLayout, parameters: Float32Array): State
  /** The merged parameters θ, from which the next inner steps start. Not to be written to. */
  parameters(state: State): Float32Array
  /** Encodes the pseudo-gradient Δ = θ − θᵢ of one peer; throws `sync/diverged` when it holds what no peer accepts. */
  encodeUpdate(pseudoGradient: Float32Array, layout: TensorLayout): Uint8Array
  /** Checks bytes from a stranger, size first; throws `sync/invalid-update`. */
  decodeUpdate(bytes: Uint8Array, layout: TensorLayout): Update
  /** The outer step. The order of `contributions` matters to the last bits: all peers use the one in the log. */
  merge(state: State, contributions: readonly Contribution<Update>[]): State
  serialiseState(state: State): Uint8Array
  /** Checks bytes from a stranger, size first; throws `sync/invalid-state`. */
  parseState(bytes: Uint8Array, layout: TensorLayout): State
  /** Exact size of an encoded update: a fetch may refuse anything else before it allocates. */
  updateBytes(layout: TensorLayout): number
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
