/**
 * How a round opens and closes, by itself and as soon as it can: the part of the machine that needs no event. Opening
 * and closing look at all members; nothing else does.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { Map as PersistentMap, Set as PersistentSet } from 'immutable'
import { base16 } from 'multiformats/bases/base16'
import { encodeCanonical } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'
import {
  boundedSpeed,
  dispense,
  measuredSpeed,
  medianSpeed,
  refillPool,
  returnBatches,
  stepsFor,
} from './leases.ts'
import { giveUpLease, isOutstanding, isRemembered } from './membership.ts'
import {
  ableCount,
  type ClosedRound,
  isPresent,
  type Member,
  type OpenRound,
  type RunState,
  reducerLimits,
} from './state.ts'

/** Advances as far as possible without another event. */
export function settle(state: RunState): RunState {
  // Leases wait for those who fell silent: when all do at once, it is most likely the host's own line.
  let settled = state.counts.present === 0 && !state.cold ? { ...state, cold: true } : state
  for (;;) {
    const next = advance(settled)
    if (next === settled) return settled
    settled = next
  }
}

function advance(state: RunState): RunState {
  switch (state.phase) {
    case 'waiting':
    case 'warmingUp':
      return advanceBetweenRounds(state)
    case 'training':
    case 'closing':
      return advanceOpenRound(state, state.open!)
    // The host's merge, the owner, or nothing.
    case 'coolingDown':
    case 'paused':
    case 'finished':
      return state
    default:
      throw new TypeError(`no phase ${String(state.phase satisfies never)}`)
  }
}

function advanceBetweenRounds(state: RunState): RunState {
  const { counts, policy, phase, nowMs } = state
  if (state.round > state.lastRound) {
    return { ...state, phase: 'finished', round: state.lastRound, warmupDeadlineMs: null }
  }
  if (state.pauseRequested) return { ...state, phase: 'paused', warmupDeadlineMs: null }
  // Who has a lease from before can hand it in, in time or late.
  const able = ableCount(counts)
  if (!state.cold) return able > 0 ? openRound(state) : state
  if (able < policy.minimumPeers) {
    return phase === 'waiting' ? state : { ...state, phase: 'waiting', warmupDeadlineMs: null }
  }
  const warmupDeadlineMs = state.warmupDeadlineMs ?? nowMs + policy.warmupMs
  if (counts.joining === 0 || warmupDeadlineMs <= nowMs) return openRound(state)
  return phase === 'warmingUp' ? state : { ...state, phase: 'warmingUp', warmupDeadlineMs }
}

function advanceOpenRound(state: RunState, open: OpenRound): RunState {
  const { counts, policy, nowMs, phase } = state
  const { outstanding, inTime, quorumReached } = open
  if (open.contributions.isEmpty()) {
    if (outstanding > 0) return state
    // Every lease of this round came back: the round begins anew with those who are ready, or waits for some.
    if (counts.ready === 0 && ableCount(counts) > 0) return state
    return withoutOpenRound(state)
  }
  // Rounded, so that two thirds written as 0.67 are two of three.
  const quorum = Math.max(1, Math.round(policy.quorum * (inTime + outstanding)))
  const reached = quorumReached || inTime >= quorum
  const latestMs = open.openedAtMs + policy.maxRoundMs
  const { graceShare = 0 } = policy
  const graceMs = Math.max(policy.graceMs, Math.round(graceShare * (nowMs - open.openedAtMs)))
  const graceEndsMs = quorumReached ? open.deadlineMs! : nowMs + graceMs
  const deadlineMs = reached ? Math.min(latestMs, graceEndsMs) : latestMs
  if (outstanding === 0 || deadlineMs <= nowMs) return closeRound(state, open)
  const after = reached ? 'closing' : 'training'
  if (phase === after && deadlineMs === open.deadlineMs && reached === quorumReached) return state
  return { ...state, phase: after, open: { ...open, deadlineMs, quorumReached: reached } }
}

/**
 * When the open round closes with what it has, or, where that is nothing while others stand ready to train it, begins
 * anew; null without a deadline.
 */
export function closesAtMs({ open, counts, policy }: RunState): number | null {
  if (open === null) return null
  if (!open.contributions.isEmpty()) return open.deadlineMs
  return counts.ready > 0 ? open.openedAtMs + policy.maxRoundMs : null
}

/**
 * Nobody holds up those who are ready for ever: where nothing was handed in by the deadline, the round begins anew. Only
 * a `ticked` does that, because logs of before have none there and must lead to the states that they led to.
 */
export function takeBackOverdue(state: RunState): RunState {
  const { open, nowMs } = state
  const dueMs = closesAtMs(state)
  if (open === null || !open.contributions.isEmpty() || dueMs === null || dueMs > nowMs) return state
  const over = [...state.members].filter(([, member]) => isOutstanding(member, open))
  const returned = returnLeases(state, over)
  return { ...returned, open: { ...open, outstanding: 0 } }
}

/** Whoever comes next trains this round anew; if the owner wanted it to be the last, the one before it was. */
function withoutOpenRound(state: RunState): RunState {
  const ends = state.endRequested && state.counts.present === 0
  return { ...state, phase: 'waiting', open: null, lastRound: ends ? state.round - 1 : state.lastRound }
}

type Entry = [peer: PeerId, member: Member]

/** Takes back these leases: whoever is present is ready for another, and who went without a trace is forgotten. */
function returnLeases(state: RunState, over: readonly Entry[]): RunState {
  if (over.length === 0) return state
  let { ready } = state.counts
  const members = state.members.withMutations((mutable) => {
    for (const [peer, member] of over) {
      const after = giveUpLease(member)
      if (isPresent(member)) {
        ready += 1
        const stepsPerSecond = slower(member, state.nowMs)
        mutable.set(peer, { ...after, status: 'ready', stepsPerSecond })
      } else if (isRemembered(after)) mutable.set(peer, after)
      else mutable.delete(peer)
    }
  })
  const batches = returnBatches(
    state.batches,
    over.flatMap(([, { lease }]) => lease!.ranges),
  )
  return { ...state, members, batches, counts: { ...state.counts, ready } }
}

/** Who could not do its lease in time is slower than was thought, though not by more than half at once. */
function slower({ stepsPerSecond, lease }: Member, nowMs: number): number {
  const atMost = measuredSpeed(lease!.steps, nowMs - lease!.grantedAtMs)
  return stepsPerSecond === null
    ? atMost
    : boundedSpeed(Math.max(stepsPerSecond / 2, Math.min(stepsPerSecond, atMost)))
}

/** Everyone who is ready gets a lease of this round, whoever came first first. */
function openRound(before: RunState): RunState {
  const { round, nowMs, innerSteps, policy } = before
  const over: Entry[] = []
  const coming: Entry[] = []
  // Of those back in a round that begins anew.
  let outstanding = 0
  before.members.forEach((member, peer) => {
    if (member.status === 'ready') coming.push([peer, member])
    else if (member.lease === null) return
    else if (member.lease.round === round) outstanding += isPresent(member) ? 1 : 0
    else if (!isPresent(member) || round - member.lease.round > policy.maximumStaleness)
      over.push([peer, member])
  })
  const state = forgetLongestGone(returnLeases(before, over))
  for (const [peer, { status }] of over) {
    if (status === 'active') coming.push([peer, state.members.get(peer)!])
  }
  coming.sort(([, a], [, b]) => a.since - b.since)
  const median = medianSpeed(coming.map(([, { stepsPerSecond }]) => stepsPerSecond))
  const dispenser = dispense(refillPool(state.batches))
  const { maximumSpeedup } = policy
  const members = state.members.withMutations((mutable) => {
    for (const [peer, member] of coming) {
      const steps = stepsFor(member.stepsPerSecond, median, { innerSteps, maximumSpeedup })
      const lease = { round, steps, ranges: dispenser.take(steps), grantedAtMs: nowMs }
      mutable.set(peer, { ...member, status: 'active', lease })
    }
  })
  const assigned = coming.length + outstanding
  return {
    ...state,
    phase: 'training',
    members,
    batches: dispenser.rest(),
    counts: { ...state.counts, ready: 0 },
    cold: false,
    // Whoever comes back with its lease still has what its optimiser knows.
    rewarmRound: state.cold && round > 1 && outstanding === 0 ? round : state.rewarmRound,
    warmupDeadlineMs: null,
    open: {
      round,
      openedAtMs: nowMs,
      assigned,
      outstanding: assigned,
      inTime: 0,
      contributions: PersistentMap(),
      deadlineMs: null,
      quorumReached: false,
    },
  }
}

function forgetLongestGone(state: RunState): RunState {
  const excess = state.members.size - state.counts.present - reducerLimits.maxDeparted
  if (excess <= 0) return state
  const gone = [...state.members].filter(([, member]) => !isPresent(member))
  gone.sort(([, a], [, b]) => a.since - b.since)
  return { ...state, members: state.members.deleteAll(gone.slice(0, excess).map(([peer]) => peer)) }
}

function closeRound(state: RunState, { contributions }: OpenRound): RunState {
  const { round } = state
  const accepted = [...contributions.values()].sort((a, b) => (a.peer < b.peer ? -1 : 1))
  const commitment = accepted.map(({ peer, update, weight }) => [peer, update, weight])
  const seed = base16.baseEncode(sha256(encodeCanonical([state.seed, round, commitment])))
  const all = [...state.closed, { round, seed, accepted, checkpoint: null }]
  const closed = all.slice(-reducerLimits.keptRounds)
  const updates = [...state.updates.closed, new Set(accepted.map(({ update }) => update))]
  return {
    ...state,
    phase: 'coolingDown',
    seed,
    open: null,
    closed,
    updates: { open: PersistentSet(), closed: updates.slice(-reducerLimits.keptRounds) },
    medianNorm: medianNorm(closed),
  }
}

/** Of the newest rounds, as many as it takes for a median that no few peers decide. */
function medianNorm(closed: readonly ClosedRound[]): number {
  const newest: number[] = []
  for (const { accepted } of closed.toReversed()) {
    if (newest.length >= reducerLimits.enoughNorms) break
    for (const { norm } of accepted) newest.push(norm)
  }
  const norms = Float64Array.from(newest).sort()
  const middle = norms.length >> 1
  return norms.length % 2 === 1 ? norms[middle]! : (norms[middle - 1]! + norms[middle]!) / 2
}
