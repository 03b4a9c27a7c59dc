/**
 * What lies between a simulated peer's copy of the model and the run's newest round, and what getting it costs: the
 * updates of the rounds that it missed, or, where that is more, the merged state. As run/replica.ts decides.
 */
import type { PeerId } from '../../swarm/index.ts'
import type { ClosedRound } from '../state.ts'
import type { CostModel } from './costs.ts'
import type { RunNews } from './virtual-peer.ts'

export interface Missing {
  readonly bytes: number
  /** The round it then holds. */
  readonly round: number
  /** Rounds to merge; undefined where the merged state is fetched. */
  readonly merges: readonly number[] | undefined
  /** Decoding, adding up and the outer steps. */
  readonly workMs: number
}

interface Copy {
  /** The round whose merged state it has; -1: none. */
  readonly held: number
  /** After a restart it has it on disk alone. */
  readonly inMemory: boolean
  readonly traits: { readonly id: PeerId }
  readonly around: { readonly costs: CostModel }
}

/** With more updates in a round than this, peers fetch the merged state instead. */
const maximumListed = 256
/** And with more bytes than so many of it. */
const dearestMerge = 4

/** `wait`: for the host to merge. */
export function whatIsMissing({ checkpoint, closed }: RunNews, copy: Copy): Missing | 'wait' | undefined {
  const { held, inMemory, around, traits } = copy
  const { costs } = around
  const state = { bytes: costs.stateBytes, round: checkpoint.round, merges: undefined, workMs: 0 }
  if (!inMemory) return held === checkpoint.round ? { ...state, bytes: 0 } : state
  const newer = closed.filter(({ round }) => round > held)
  if (newer.length === 0) return undefined
  const follows = newer[0]!.round === held + 1
  if (costs.pairwise && follows) return pairsOf(newer, costs)
  const updates = newer.reduce((sum, { accepted }) => sum + accepted.length, 0)
  const listed = newer.every(({ accepted }) => accepted.length <= maximumListed)
  const dearest = newer.length === 1 ? dearestMerge : 1
  const cheap = updates * costs.updateBytes <= dearest * costs.stateBytes || updates <= 2
  if (follows && listed && cheap) {
    const foreign = newer.flatMap(({ accepted }) => accepted.filter(({ peer }) => peer !== traits.id))
    return {
      bytes: foreign.reduce((sum, { bytes }) => sum + bytes, 0),
      round: newer.at(-1)!.round,
      merges: newer.map(({ round }) => round),
      workMs: updates * (costs.checkMs + costs.addMs) + newer.length * costs.outerStepMs,
    }
  }
  return checkpoint.round <= held ? 'wait' : state
}

/** One update of each round, about as large as any. */
function pairsOf(closed: readonly ClosedRound[], { checkMs, addMs, outerStepMs }: CostModel): Missing {
  return {
    bytes: closed.reduce((sum, { accepted }) => sum + (accepted[0]?.bytes ?? 0), 0),
    round: closed.at(-1)!.round,
    merges: closed.map(({ round }) => round),
    workMs: closed.length * (checkMs + addMs + outerStepMs),
  }
}
