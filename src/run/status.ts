/**
 * What the owner of a host sees: the run, its members with what they last said about themselves, and what was
 * refused and why.
 */
import type { Cid, GroundswellError } from '../core/index.ts'
import type { PeerId, Transport } from '../swarm/index.ts'
import type { Progress } from './protocol.ts'
import { type Member, type MemberStatus, type Phase, peersOf, type RunState } from './reducer.ts'

export interface HostStatus {
  readonly runId: Cid
  readonly name: string
  readonly phase: Phase
  readonly round: number
  readonly lastRound: number
  /** Events in the log. */
  readonly version: number
  readonly checkpoint: { readonly round: number; readonly checkpoint: Cid }
  /** Mean training loss that the peers of the newest closed round reported, weighted by tokens. */
  readonly loss: number | null
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
  /** Its share of the data in the open round. */
  readonly replica: number | null
  readonly contributions: number
  readonly tokens: number
  /** Round of its last accepted contribution; 0 when there is none. */
  readonly lastRound: number
  readonly disagreements: number
  /** What it said with its last heartbeat; null before the first. */
  readonly progress: Progress | null
}

export function describeRun(given: {
  readonly state: RunState
  readonly name: string
  readonly progress: ReadonlyMap<PeerId, Progress>
  readonly refusals: ReadonlyMap<string, number>
  readonly transport: Transport
  readonly failure: GroundswellError | null
}): HostStatus {
  const { state, transport } = given
  const { sentBytes, receivedBytes, refusals } = transport.ledger.total()
  const describeMember = (peer: PeerId, member: Member): MemberReport => ({
    peer,
    name: member.name,
    status: member.status,
    replica: state.open?.assignments[peer] ?? null,
    contributions: member.contributions,
    tokens: member.tokens,
    lastRound: member.lastRound,
    disagreements: member.disagreements,
    progress: given.progress.get(peer) ?? null,
  })
  return {
    runId: state.runId,
    name: given.name,
    phase: state.phase,
    round: state.round,
    lastRound: state.lastRound,
    version: state.version,
    checkpoint: state.checkpoint,
    loss: meanLoss(state),
    members: peersOf(state.members).map((peer) => describeMember(peer, state.members[peer]!)),
    refused: { ...refusals, ...Object.fromEntries(given.refusals) },
    sentBytes,
    receivedBytes,
    failure: given.failure,
  }
}

function meanLoss({ closed }: RunState): number | null {
  const accepted = closed.at(-1)?.accepted ?? []
  const tokens = accepted.reduce((total, each) => total + each.tokens, 0)
  if (tokens === 0) return null
  return accepted.reduce((total, each) => total + each.loss * each.tokens, 0) / tokens
}
