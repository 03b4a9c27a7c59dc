/**
 * A run as people see it: its owner in all detail, with what members last said about themselves and what was refused
 * and why; everybody else in a summary of bounded size.
 */
import type { Cid, GroundswellError } from '../core/index.ts'
import type { PeerId, Transport } from '../swarm/index.ts'
import { countBatches } from './leases.ts'
import type { RoundPolicy } from './policy.ts'
import {
  type CheckpointName,
  type OpenRoundView,
  type Progress,
  type PublicMember,
  type PublicStatus,
  protocolLimits,
} from './protocol.ts'
import {
  isPresent,
  type Lease,
  type Member,
  type MemberStatus,
  type Phase,
  type RunState,
  type Verdict,
} from './state.ts'
import { openView } from './views.ts'

export interface HostStatus {
  readonly runId: Cid
  readonly name: string
  readonly phase: Phase
  readonly round: number
  readonly lastRound: number
  /** Events in the log. */
  readonly version: number
  /** Run time in milliseconds. */
  readonly nowMs: number
  readonly policy: RoundPolicy
  readonly pauseRequested: boolean
  readonly checkpoint: CheckpointName
  /** Mean training loss that the peers of the newest closed round reported, weighted by tokens. */
  readonly loss: number | null
  readonly counts: RunState['counts']
  readonly totals: RunState['totals']
  readonly open: OpenRoundView | null
  /** All that the state knows, those that have gone included, sorted by peer. */
  readonly members: readonly MemberReport[]
  /** Refused messages, transfers and contributions by reason. */
  readonly refused: Readonly<Record<string, number>>
  readonly sentBytes: number
  readonly receivedBytes: number
  /** Why the host had to stop; null as long as it works. */
  readonly failure: GroundswellError | null
}

export interface MemberReport {
  readonly peer: PeerId
  readonly name: string
  readonly status: MemberStatus
  readonly lease: Lease | null
  readonly stepsPerSecond: number | null
  readonly contributions: number
  readonly tokens: number
  readonly bytes: number
  readonly late: number
  readonly rejected: number
  readonly expired: number
  readonly strikes: number
  /** Round that counted its last accepted contribution; 0 when there is none. */
  readonly lastRound: number
  readonly lastVerdict: Verdict | null
  readonly disagreements: number
  /** What it said with its last heartbeat; null before the first. */
  readonly progress: Progress | null
}

export function describeRun(given: {
  readonly state: RunState
  readonly nowMs: number
  readonly name: string
  readonly progress: ReadonlyMap<PeerId, Progress>
  readonly refusals: ReadonlyMap<string, number>
  readonly transport: Transport
  readonly failure: GroundswellError | null
}): HostStatus {
  const { state, nowMs, transport, name, failure } = given
  const { runId, phase, round, lastRound, version, policy, pauseRequested, checkpoint, counts, totals } =
    state
  const { sentBytes, receivedBytes, refusals } = transport.ledger.total()
  const reportOf = (peer: PeerId, member: Member): MemberReport => ({
    peer,
    name: member.name,
    status: member.status,
    lease: member.lease,
    stepsPerSecond: member.stepsPerSecond,
    contributions: member.contributions,
    tokens: member.tokens,
    bytes: member.bytes,
    late: member.late,
    rejected: member.rejected,
    expired: member.expired,
    strikes: member.strikes,
    lastRound: member.lastRound,
    lastVerdict: member.lastVerdict,
    disagreements: member.disagreements,
    progress: given.progress.get(peer) ?? null,
  })
  return {
    ...{ runId, name, phase, round, lastRound, version, nowMs, policy, pauseRequested, checkpoint },
    ...{ counts, totals, sentBytes, receivedBytes, failure },
    loss: meanLoss(state),
    open: openView(state, nowMs),
    members: [...state.members]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([peer, member]) => reportOf(peer, member)),
    refused: { ...refusals, ...Object.fromEntries(given.refusals) },
  }
}

/** The same for everybody, within `maxStatusBytes`. */
export function publicStatus(given: {
  readonly state: RunState
  readonly nowMs: number
  readonly name: string
  readonly method: string
  readonly progress: ReadonlyMap<PeerId, Progress>
}): PublicStatus {
  const { state, nowMs, name, method, progress } = given
  const { runId, phase, round, lastRound, version, policy, pauseRequested, checkpoint, counts, totals } =
    state
  const { innerSteps, batchTokens, medianNorm, batches } = state
  const worthTelling = [...state.members].sort(
    ([, a], [, b]) => Number(isPresent(b)) - Number(isPresent(a)) || b.tokens - a.tokens,
  )
  return {
    ...{ runId, name, method, phase, round, lastRound, version, nowMs, policy, pauseRequested, checkpoint },
    ...{ counts, totals, innerSteps, batchTokens, medianNorm },
    loss: meanLoss(state),
    open: openView(state, nowMs),
    batches: {
      next: batches.next,
      pooled: countBatches(batches.pool) + countBatches(batches.returned),
      skipped: batches.skipped,
    },
    known: state.members.size,
    members: worthTelling
      .slice(0, protocolLimits.maxMembersTold)
      .map(([peer, member]) => publicMember(peer, member, progress.get(peer)?.phase ?? null)),
  }
}

function publicMember(peer: PeerId, member: Member, phase: PublicMember['phase']): PublicMember {
  const { name, status, contributions, tokens, bytes, late, rejected, expired, strikes } = member
  const { lastRound, stepsPerSecond } = member
  return {
    ...{ peer, name, status, contributions, tokens, bytes, late, rejected, expired, strikes },
    ...{ lastRound, stepsPerSecond, phase: isPresent(member) ? phase : null },
  }
}

function meanLoss({ closed }: RunState): number | null {
  const accepted = closed.at(-1)?.accepted ?? []
  const tokens = accepted.reduce((total, each) => total + each.tokens, 0)
  if (tokens === 0) return null
  return accepted.reduce((total, each) => total + each.loss * each.tokens, 0) / tokens
}
