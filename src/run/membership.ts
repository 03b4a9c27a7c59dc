/**
 * Who is in the run. Every change of a member goes through `withMember`, which keeps the counts in step, so that
 * nothing has to look at all members to know how many are ready or still awaited.
 */
import type { PeerId } from '../swarm/index.ts'
import type { RunEvent } from './events.ts'
import { boundedSpeed, returnBatches } from './leases.ts'
import { notAMember, type Refusal } from './refusals.ts'
import { isPresent, type Member, type OpenRound, type RunState, type Verdict } from './state.ts'

export const newcomer: Omit<Member, 'since'> = {
  status: 'joining',
  name: '',
  addresses: [],
  lease: null,
  stepsPerSecond: null,
  contributions: 0,
  tokens: 0,
  bytes: 0,
  lastRound: 0,
  late: 0,
  rejected: 0,
  expired: 0,
  disagreements: 0,
  disagreedRound: 0,
  strikes: 0,
  lastVerdict: null,
  expelledUntil: 0,
}

/** Whether the open round waits for this member. */
export function isOutstanding(member: Member, open: OpenRound): boolean {
  return member.status === 'active' && member.lease?.round === open.round
}

/** Whether the account of a member that has gone is worth keeping. */
export function isRemembered(member: Member): boolean {
  return member.lease !== null || member.contributions > 0 || member.rejected > 0
}

export function presentMember(state: RunState, peer: PeerId): Member | Refusal {
  const member = state.members.get(peer)
  return member !== undefined && isPresent(member) ? member : notAMember
}

/**
 * Puts `after` in the place of `before`, which the member was until now (null: nobody), and counts. Whoever has gone
 * without a trace is forgotten.
 */
export function withMember(state: RunState, peer: PeerId, before: Member | null, after: Member): RunState {
  const gone = !isPresent(after)
  const change = (holds: (member: Member) => boolean): number =>
    (holds(after) ? 1 : 0) - (before !== null && holds(before) ? 1 : 0)
  const { counts, open } = state
  const outstanding = open === null ? 0 : change((member) => isOutstanding(member, open))
  return {
    ...state,
    members: gone && !isRemembered(after) ? state.members.delete(peer) : state.members.set(peer, after),
    counts: {
      present: counts.present + change(isPresent),
      ready: counts.ready + change(({ status }) => status === 'ready'),
      joining: counts.joining + change(({ status }) => status === 'joining'),
    },
    open:
      open === null || outstanding === 0 ? open : { ...open, outstanding: open.outstanding + outstanding },
  }
}

export function join(state: RunState, event: Extract<RunEvent, { type: 'joined' }>): RunState | Refusal {
  const { peer, name, addresses } = event
  const known = state.members.get(peer)
  if (known !== undefined && isPresent(known)) {
    if (isKnownAs(known, event)) return { code: 'member/present', message: 'The peer is in the run already.' }
    // Another process of it, before the one that died was missed: others are to find that one.
    return withMember(state, peer, known, { ...known, name, addresses })
  }
  if (known !== undefined && state.round < known.expelledUntil) {
    const { reason } = known.lastVerdict!
    return {
      code: 'member/expelled',
      message: `The peer is expelled until round ${known.expelledUntil} for ${known.strikes} refused updates in a row; of the last: ${reason}`,
      remedy: `Find out what is wrong with its updates, and join again in round ${known.expelledUntil}.`,
    }
  }
  const { maximumPeers } = state.policy
  if (state.counts.present >= maximumPeers) {
    return {
      code: 'run/full',
      message: `The run has its ${maximumPeers} peers.`,
      remedy: 'Try again when one has left.',
    }
  }
  const base = known ?? newcomer
  const status = base.lease === null ? 'joining' : 'active'
  return withMember(state, peer, known ?? null, { ...base, status, name, addresses, since: state.version })
}

function isKnownAs(member: Member, { name, addresses }: Pick<Member, 'name' | 'addresses'>): boolean {
  const same = addresses.length === member.addresses.length
  return name === member.name && same && addresses.every((address, i) => address === member.addresses[i])
}

export function becomeReady(
  state: RunState,
  event: Extract<RunEvent, { type: 'ready' }>,
): RunState | Refusal {
  const member = presentMember(state, event.peer)
  if ('code' in member) return member
  if (member.status !== 'joining') return { code: 'member/ready', message: 'The peer was ready already.' }
  // What was measured is worth more than what it says.
  const said = event.stepsPerSecond === null ? null : boundedSpeed(event.stepsPerSecond)
  const stepsPerSecond = member.contributions > 0 ? member.stepsPerSecond : said
  return withMember(state, event.peer, member, { ...member, status: 'ready', stepsPerSecond })
}

/** It says good-bye: its batches are free at once. */
export function leave(state: RunState, peer: PeerId): RunState | Refusal {
  const member = state.members.get(peer)
  if (member === undefined || !(isPresent(member) || member.status === 'vanished')) return notAMember
  const { lease } = member
  const gone: Member = { ...member, status: 'left', since: state.version }
  if (lease === null) return withMember(state, peer, member, gone)
  const batches = returnBatches(state.batches, lease.ranges)
  return withMember({ ...state, batches }, peer, member, giveUpLease(gone))
}

/** It fell silent: nobody waits for it, but its batches do until the next round opens. */
export function vanish(state: RunState, peer: PeerId): RunState | Refusal {
  const member = presentMember(state, peer)
  if ('code' in member) return member
  return withMember(state, peer, member, { ...member, status: 'vanished', since: state.version })
}

/** The member without its lease, which ran out. The caller returns the batches. */
export function giveUpLease(member: Member): Member {
  const lastVerdict: Verdict = { round: member.lease!.round, outcome: 'expired', code: '', reason: '' }
  return { ...member, lease: null, expired: member.expired + 1, lastVerdict }
}
