/**
 * The run as one peer needs to know it, cut from the state: its lease and verdict, the rounds that it has yet to
 * merge, and whom it may ask for what. What a view costs does not grow with the number of members.
 */
import type { Cid } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'
import { type CheckpointName, type ClosedRoundView, protocolLimits, type RunView } from './protocol.ts'
import { missingPeers, shareOf } from './queries.ts'
import { closesAtMs } from './rounds.ts'
import { type ClosedRound, isPresent, type Member, type RunState } from './state.ts'

/** Who holds which checkpoint, by their own word and in memory only: a host that restarts learns it again. */
export class Holders {
  private readonly heldBy = new Map<PeerId, Cid>()
  private readonly byCheckpoint = new Map<Cid, Set<PeerId>>()

  set(peer: PeerId, held: CheckpointName | null): void {
    if (this.heldBy.get(peer) === held?.checkpoint) return
    this.forget(peer)
    if (held === null) return
    this.heldBy.set(peer, held.checkpoint)
    const holders = this.byCheckpoint.get(held.checkpoint) ?? new Set()
    this.byCheckpoint.set(held.checkpoint, holders.add(peer))
  }

  forget(peer: PeerId): void {
    const held = this.heldBy.get(peer)
    if (held === undefined) return
    this.heldBy.delete(peer)
    const holders = this.byCheckpoint.get(held)
    holders?.delete(peer)
    if (holders?.size === 0) this.byCheckpoint.delete(held)
  }

  of(checkpoint: Cid): ReadonlySet<PeerId> {
    return this.byCheckpoint.get(checkpoint) ?? new Set()
  }

  peers(): Iterable<PeerId> {
    return this.heldBy.keys()
  }
}

export interface ViewContext {
  /** The newest round that the peer has merged, or −1. */
  readonly merged: number
  /** Run time of this view. */
  readonly nowMs: number
  readonly holders: Holders
  /** Name of the host's process, as in its `hosted` event. */
  readonly life: string
}

export function viewFor(state: RunState, peer: PeerId, member: Member, context: ViewContext): RunView {
  const { nowMs, merged, life } = context
  const unmerged = state.closed.filter(({ round }) => round > merged)
  const { lease, contributions, lastRound, lastVerdict, stepsPerSecond, status, expelledUntil } = member
  const { rewarmRound, policy } = state
  return {
    version: state.version,
    life,
    phase: state.phase,
    round: state.round,
    lastRound: state.lastRound,
    missingPeers: missingPeers(state),
    checkpoint: state.checkpoint,
    open: openView(state, nowMs),
    you: {
      status,
      lease: lease,
      contributions,
      lastRound,
      lastVerdict,
      expelledUntil,
      stepsPerSecond,
      share: shareOf(state, peer),
    },
    closed: closedViews(unmerged),
    peers: peersWorthKnowing(state, peer, unmerged, context.holders),
    rewarm: rewarmRound === null ? null : { round: rewarmRound, steps: policy.rewarmSteps },
  }
}

export function openView(state: RunState, nowMs: number): RunView['open'] {
  if (state.open === null) return null
  const { round, assigned, inTime, outstanding } = state.open
  const deadlineMs = closesAtMs(state)
  const closesInMs = deadlineMs === null ? null : Math.max(0, deadlineMs - nowMs)
  return { round, assigned, inTime, outstanding, closesInMs }
}

/** Newest first into the budget: who lacks more than it holds is better served by a checkpoint. */
function closedViews(rounds: readonly ClosedRound[]): ClosedRoundView[] {
  let room: number = protocolLimits.maxAcceptedToldInAll
  const views: ClosedRoundView[] = []
  for (const { round, seed, accepted, checkpoint } of [...rounds].reverse()) {
    const told = accepted.length <= Math.min(room, protocolLimits.maxAcceptedTold)
    if (told) room -= accepted.length
    const list = told ? accepted.map(({ peer, update, weight }) => ({ peer, update, weight })) : null
    views.push({ round, seed, accepted: list, checkpoint })
  }
  return views.reverse()
}

/** Those who contributed to what is to be merged first, then holders of the newest checkpoint. */
function peersWorthKnowing(
  state: RunState,
  self: PeerId,
  closed: readonly ClosedRound[],
  holders: Holders,
): RunView['peers'] {
  const holding = holders.of(state.checkpoint.checkpoint)
  const told = new Map<PeerId, RunView['peers'][number]>()
  const tell = (peer: PeerId): void => {
    const member = state.members.get(peer)
    if (peer === self || told.has(peer) || member === undefined || !isPresent(member)) return
    const addresses = member.addresses.slice(0, protocolLimits.maxAddressesTold)
    if (addresses.length > 0) told.set(peer, { peer, addresses, holdsCheckpoint: holding.has(peer) })
  }
  const candidates = function* (): Iterable<PeerId> {
    for (const { accepted } of closed) for (const { peer } of accepted) yield peer
    yield* holding
  }
  for (const peer of candidates()) {
    if (told.size >= protocolLimits.maxPeersTold) break
    tell(peer)
  }
  return [...told.values()]
}
