/**
 * The state of a run: plain values and persistent maps, so that an event costs the same with a hundred members as with
 * ten thousand, and a state that somebody holds never changes. What depends on all members at once is counted along.
 */
import type { List, Map as PersistentMap, Set as PersistentSet } from 'immutable'
import type { Cid } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'
import type { RoundPolicy } from './policy.ts'

/**
 * Batches by number, `start` included and `end` not. A batch is what one inner step consumes; the data room says which
 * windows batch n holds. Each number is trained at most once: it is leased, accepted, or in the pool.
 */
export interface BatchRange {
  readonly start: number
  readonly end: number
}

/** Where the batches are that nobody has a lease of and that are not accepted. */
export interface Batches {
  /** Numbers below were leased at least once. */
  readonly next: number
  /** Those that had come back when the newest round opened: sorted, apart and not empty. */
  readonly pool: readonly BatchRange[]
  /** Those that have come back since, in any order. */
  readonly returned: List<BatchRange>
  /** How many were given up because the pool had too many small ranges: they are not trained in this epoch. */
  readonly skipped: number
}

/** Work given to one peer: these batches in this order, starting from the checkpoint of round `round − 1`. */
export interface Lease {
  readonly round: number
  /** Inner steps, which is the number of batches. */
  readonly steps: number
  readonly ranges: readonly BatchRange[]
  readonly grantedAtMs: number
}

/**
 * `joining`: fetching what it needs. `ready`: gets a lease when the next round opens. `active`: has a lease.
 * `left` said so, `vanished` fell silent (its lease waits for it until the next round), `expelled` had too many refusals.
 */
export type MemberStatus = 'joining' | 'ready' | 'active' | 'left' | 'vanished' | 'expelled'

/** What became of a peer's newest lease, for people: the last line that a contributor sees. */
export interface Verdict {
  /** Round of the lease. */
  readonly round: number
  readonly outcome: 'accepted' | 'late' | 'rejected' | 'expired'
  /** Why it was rejected: a code and one sentence. Empty otherwise. */
  readonly code: string
  readonly reason: string
}

export interface Member {
  readonly status: MemberStatus
  readonly name: string
  readonly addresses: readonly string[]
  /** Number of the event with which it came, or went. */
  readonly since: number
  readonly lease: Lease | null
  /** Inner steps per second, from lease to accepted report; what it said itself before its first. */
  readonly stepsPerSecond: number | null
  /** Accepted contributions, late ones included, their tokens, their bytes, and the round that counted the newest (0: none). */
  readonly contributions: number
  readonly tokens: number
  readonly bytes: number
  readonly lastRound: number
  readonly late: number
  readonly rejected: number
  /** Leases that ran out, or that it gave up by leaving or vanishing. */
  readonly expired: number
  /** Merges of which it got another checkpoint than the host's, and the round of the newest (0: none). */
  readonly disagreements: number
  readonly disagreedRound: number
  /** Rejections since its last accepted contribution. */
  readonly strikes: number
  readonly lastVerdict: Verdict | null
  /** The first round in which an expelled peer may be in again. */
  readonly expelledUntil: number
}

/** One peer's accepted work in one round. */
export interface Accepted {
  readonly peer: PeerId
  /** Artifact of the encoded update. */
  readonly update: Cid
  /** Round of the lease: how late it was is the difference to the round that counts it. */
  readonly leaseRound: number
  /** Batches behind it, in order. */
  readonly ranges: readonly BatchRange[]
  readonly steps: number
  readonly tokens: number
  /** In the merge: tokens / (1 + rounds late). */
  readonly weight: number
  /** Mean training loss over its inner steps, as it says. */
  readonly loss: number
  /** Length of the update. */
  readonly bytes: number
  /** Norm of the update, as the host measured it. */
  readonly norm: number
}

export interface OpenRound {
  readonly round: number
  readonly openedAtMs: number
  /** Peers with a lease of this round when it opened. */
  readonly assigned: number
  /** Present peers whose lease of this round is still out: those that the round waits for. */
  readonly outstanding: number
  /** Of `contributions`, those with a lease of this round. */
  readonly inTime: number
  readonly contributions: PersistentMap<PeerId, Accepted>
  /** When the round closes with what it has; null until there is a contribution. */
  readonly deadlineMs: number | null
  readonly quorumReached: boolean
}

export interface ClosedRound {
  readonly round: number
  /** The seed of the round, for methods that draw from it in the merge. */
  readonly seed: string
  /** Sorted by peer: the order in which everyone merges. */
  readonly accepted: readonly Accepted[]
  /** The host's result; null while it merges. */
  readonly checkpoint: Cid | null
}

/**
 * `waiting` for enough peers · `warmingUp`: enough are ready, others still fetch · `training` · `closing`: the quorum is
 * in, the grace runs · `coolingDown`: merging and storing the checkpoint · `paused` · `finished`.
 */
export type Phase = 'waiting' | 'warmingUp' | 'training' | 'closing' | 'coolingDown' | 'paused' | 'finished'

export interface RunState {
  readonly runId: Cid
  readonly policy: RoundPolicy
  /** Inner steps of the median peer in a round (H of the method). */
  readonly innerSteps: number
  /** Tokens of one batch. */
  readonly batchTokens: number
  /** Events applied so far: the position of the next one in the log. */
  readonly version: number
  /** Run time: milliseconds that hosts have spent on this run. Never goes back, whatever clocks do. */
  readonly nowMs: number
  readonly phase: Phase
  /** The open round, or the one that is being merged, or the next. */
  readonly round: number
  /** The round after which the run is finished. */
  readonly lastRound: number
  /** Random value of this round. It depends on everything accepted before, so no single peer chooses it. */
  readonly seed: string
  /** Those in the run, and those who have gone and did something in it. */
  readonly members: PersistentMap<PeerId, Member>
  /** Of the members: in the run, ready for a lease, and fetching. The rest of those present have a lease. */
  readonly counts: { readonly present: number; readonly ready: number; readonly joining: number }
  /** Everything accepted so far, also of members that are forgotten by now. */
  readonly totals: { readonly contributions: number; readonly tokens: number; readonly bytes: number }
  readonly open: OpenRound | null
  /** When warming up ends; null outside it. */
  readonly warmupDeadlineMs: number | null
  /** The newest rounds, oldest first, for peers that have to catch up. */
  readonly closed: readonly ClosedRound[]
  /** Updates of the open round, and of each of the closed rounds above: sending one again is copying (`isKnownUpdate`). */
  readonly updates: { readonly open: PersistentSet<Cid>; readonly closed: readonly ReadonlySet<Cid>[] }
  /** The newest checkpoint that everyone agrees on; round 0 is the initial one. */
  readonly checkpoint: { readonly round: number; readonly checkpoint: Cid }
  readonly batches: Batches
  /** Median norm of the updates of the newest closed rounds, as many as have `enoughNorms`; null before the first. */
  readonly medianNorm: number | null
  /** Everybody has gone since the newest round opened, or none has opened yet. */
  readonly cold: boolean
  /** The round from which the learning rate rises again after everybody had gone; null when that never happened. */
  readonly rewarmRound: number | null
  /** The owner wants the run to stand still when the open round is done. */
  readonly pauseRequested: boolean
  /** The owner wants the run to end with the open round. */
  readonly endRequested: boolean
}

export const reducerLimits = {
  /** Closed rounds whose updates and checkpoints are kept. */
  keptRounds: 3,
  /** Members that have gone of whom the state keeps an account; those longest gone are forgotten first. The log keeps all. */
  maxDeparted: 16_384,
  /** Norms of updates for a median. */
  enoughNorms: 256,
  /** Ranges of one lease. */
  maxLeaseRanges: 16,
  /** Ranges in the pool; the shortest beyond are given up. */
  maxPoolRanges: 16_384,
} as const

/** How many can hand something in: those who are ready for a lease, or have one. */
export function ableCount({ present, joining }: Pick<RunState['counts'], 'present' | 'joining'>): number {
  return present - joining
}

/** Whether the member takes part, as far as anybody knows. */
export function isPresent(member: Member): boolean {
  return member.status === 'joining' || member.status === 'ready' || member.status === 'active'
}
