/** What becomes of a lease: an update that counts, now or late, an update that was refused, a merge that came out otherwise. */
import type { RunEvent } from './events.ts'
import { measuredSpeed, returnBatches, splitRanges } from './leases.ts'
import { presentMember, withMember } from './membership.ts'
import { isKnownUpdate } from './queries.ts'
import type { Refusal } from './refusals.ts'
import type { Accepted, Lease, Member, RunState } from './state.ts'

type Contributed = Extract<RunEvent, { type: 'contributed' }>
type Rejected = Extract<RunEvent, { type: 'rejected' }>
type Disagreed = Extract<RunEvent, { type: 'disagreed' }>

export function contribute(state: RunState, event: Contributed): RunState | Refusal {
  const { peer, update, steps, loss, bytes, norm } = event
  const member = presentMember(state, peer)
  if ('code' in member) return member
  const lease = leaseFor(member, event)
  if ('code' in lease) return lease
  const { open } = state
  if (open === null) return notOpen(state)
  if (steps > lease.steps) {
    return {
      code: 'lease/too-many-steps',
      message: `The update claims ${steps} inner steps of a lease of ${lease.steps}.`,
      remedy: 'Train the batches of the lease, each once.',
    }
  }
  if (isKnownUpdate(state, update)) {
    return {
      code: 'round/copy',
      message: `Update ${update} was contributed before.`,
      remedy: 'Train the batches of the lease and send what comes of them.',
    }
  }
  const lateness = open.round - lease.round
  const [ranges, rest] = splitRanges(lease.ranges, steps)
  const tokens = steps * state.batchTokens
  const weight = tokens / (1 + lateness)
  const accepted: Accepted = {
    peer,
    update,
    leaseRound: lease.round,
    ranges,
    steps,
    tokens,
    weight,
    loss,
    bytes,
    norm,
  }
  const { totals } = state
  const inTime = open.inTime + (lateness === 0 ? 1 : 0)
  const counted: RunState = {
    ...state,
    batches: returnBatches(state.batches, rest),
    updates: { ...state.updates, open: state.updates.open.add(update) },
    totals: {
      contributions: totals.contributions + 1,
      tokens: totals.tokens + tokens,
      bytes: totals.bytes + bytes,
    },
    open: { ...open, inTime, contributions: open.contributions.set(peer, accepted) },
  }
  const measured = measuredSpeed(steps, state.nowMs - lease.grantedAtMs)
  const known = member.contributions > 0 ? member.stepsPerSecond : null
  return withMember(counted, peer, member, {
    ...member,
    status: 'ready',
    lease: null,
    stepsPerSecond: known === null ? measured : (known + measured) / 2,
    contributions: member.contributions + 1,
    tokens: member.tokens + tokens,
    bytes: member.bytes + bytes,
    lastRound: open.round,
    late: member.late + (lateness === 0 ? 0 : 1),
    strikes: 0,
    lastVerdict: {
      round: lease.round,
      outcome: lateness === 0 ? 'accepted' : 'late',
      code: '',
      reason: '',
    },
  })
}

/** A refused update costs its sender the lease, and the third in a row its place. */
export function reject(state: RunState, event: Rejected): RunState | Refusal {
  const { peer, round, code, reason } = event
  const member = presentMember(state, peer)
  if ('code' in member) return member
  const lease = leaseFor(member, event)
  if ('code' in lease) return lease
  const strikes = member.strikes + 1
  const expelled = strikes >= state.policy.maximumStrikes
  return withMember({ ...state, batches: returnBatches(state.batches, lease.ranges) }, peer, member, {
    ...member,
    status: expelled ? 'expelled' : 'ready',
    since: expelled ? state.version : member.since,
    lease: null,
    rejected: member.rejected + 1,
    strikes,
    lastVerdict: { round, outcome: 'rejected', code, reason },
    expelledUntil: expelled ? state.round + state.policy.expulsionRounds : member.expelledUntil,
  })
}

/** Each peer says so once per round: what it merged is its own trouble, or the host's, but not to be repeated. */
export function disagree(state: RunState, event: Disagreed): RunState | Refusal {
  const { peer, round, checkpoint } = event
  const member = presentMember(state, peer)
  if ('code' in member) return member
  const closed = state.closed.find((each) => each.round === round)
  if (closed === undefined || closed.checkpoint === null) {
    const past = round <= state.checkpoint.round
    return {
      code: past ? 'round/past' : 'round/not-closed',
      message: past ? `Round ${round} is too long ago to compare.` : `Round ${round} is not merged.`,
    }
  }
  if (closed.checkpoint === checkpoint) {
    return { code: 'round/agreed', message: `That is the checkpoint of round ${round}.` }
  }
  if (round <= member.disagreedRound) {
    return { code: 'round/reported', message: `The peer has disagreed with round ${round} already.` }
  }
  const disagreements = member.disagreements + 1
  return withMember(state, peer, member, { ...member, disagreements, disagreedRound: round })
}

/** What tells a lease from every other one of its peer; older logs, and reports of older peers, name the round alone. */
type LeaseName = Pick<Contributed, 'round' | 'grantedAtMs'>

/** Whether the member has this very lease: of a round that began anew there may be another one. */
export function isLeaseOf({ lease }: Member, { round, grantedAtMs }: LeaseName): boolean {
  return lease?.round === round && (grantedAtMs === undefined || lease.grantedAtMs === grantedAtMs)
}

function leaseFor(member: Member, name: LeaseName): Lease | Refusal {
  if (isLeaseOf(member, name)) return member.lease!
  const { lease, lastVerdict } = member
  const { round } = name
  if (lastVerdict?.round === round) {
    if (lastVerdict.outcome === 'expired') {
      return {
        code: 'lease/expired',
        message: `The lease of round ${round} has run out; its batches are given to others.`,
        remedy: 'Train the next lease.',
      }
    }
    if (lastVerdict.outcome !== 'rejected') {
      return { code: 'round/contributed', message: `The peer has contributed its lease of round ${round}.` }
    }
  }
  const other = lease?.round === round ? 'another one of that round' : `one of round ${lease?.round}`
  return {
    code: 'round/no-lease',
    message: `The peer has no lease of round ${round}${lease === null ? '' : `, but ${other}`}.`,
    remedy: 'Train the lease that it gets with a round.',
  }
}

function notOpen(state: RunState): Refusal {
  if (state.phase === 'paused') {
    return {
      code: 'run/paused',
      message: 'The run is paused by its owner.',
      remedy: 'Come again when it is resumed.',
    }
  }
  return {
    code: 'round/not-open',
    message: 'No round is open: the newest is being merged, or the run waits for peers.',
    remedy: 'Come again when the next one opens.',
  }
}
