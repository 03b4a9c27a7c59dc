/**
 * The run as a pure state machine: `step(state, event)` gives the next state and what is to be done about it. No
 * clock, no randomness, no input or output: time and the seed arrive in events. The host runs it, a replay of the
 * log runs it, a test runs it with a thousand peers; all get the same state, and `stateHash` says so.
 *
 *   waiting → training ⇄ (quorum) grace → merging → training … → finished
 *
 * The shape is that of Psyche's coordinator (https://github.com/PsycheFoundation/psyche, shared/coordinator), which
 * advances as soon as it can instead of when a timer ends. Of DiLoCo it knows only that a round has inner steps,
 * contributions and a merge.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { base16 } from 'multiformats/bases/base16'
import { type Cid, encodeCanonical } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'
import type { Accepted, RoundPolicy, RunEvent } from './events.ts'

/** `joining`: fetching what it needs. `ready`: in from the next round on. `active`: has a share of the open round. */
export type MemberStatus = 'joining' | 'ready' | 'active' | 'left' | 'vanished'

export interface Member {
  readonly status: MemberStatus
  readonly name: string
  readonly addresses: readonly string[]
  /** Number of the event with which it came: newcomers get their shares in this order. */
  readonly since: number
  /** Which share of the data it had last, kept from round to round where possible. */
  readonly replica: number | null
  /** Accepted contributions, their tokens, and the round of the newest (0: none). */
  readonly contributions: number
  readonly tokens: number
  readonly lastRound: number
  /** The newest merge that it reported. */
  readonly applied: { readonly round: number; readonly checkpoint: Cid } | null
  /** Merges of which it reported another checkpoint than the host's. */
  readonly disagreements: number
}

export interface OpenRound {
  readonly round: number
  /** Into how many shares the data is cut. */
  readonly replicas: number
  /** Who trains which share. */
  readonly assignments: Readonly<Record<PeerId, number>>
  readonly contributions: Readonly<Record<PeerId, Omit<Accepted, 'peer'>>>
  readonly openedAtMs: number
  /** When the round closes with what it has; null until there is a contribution. */
  readonly deadlineMs: number | null
  readonly quorumReached: boolean
}

export interface ClosedRound {
  readonly round: number
  /** Sorted by peer: the order in which everyone merges. */
  readonly accepted: readonly Accepted[]
  /** The host's result; null while it merges. */
  readonly checkpoint: Cid | null
}

export type Phase = 'waiting' | 'training' | 'grace' | 'merging' | 'finished'

export interface RunState {
  readonly runId: Cid
  readonly policy: RoundPolicy
  /** Events applied so far: the position of the next one in the log. */
  readonly version: number
  readonly nowMs: number
  readonly phase: Phase
  /** The open round, or the one that is being merged, or the next. */
  readonly round: number
  /** The round after which the run is finished. */
  readonly lastRound: number
  /** Random value of this round. It depends on everything accepted before, so no single peer chooses it. */
  readonly seed: string
  readonly members: Readonly<Record<PeerId, Member>>
  readonly open: OpenRound | null
  /** The newest rounds, oldest first, for peers that have to catch up. */
  readonly closed: readonly ClosedRound[]
  /** The newest checkpoint that everyone agrees on; round 0 is the initial one. */
  readonly checkpoint: { readonly round: number; readonly checkpoint: Cid }
}

export type Effect =
  /** Merge these contributions into the checkpoint before, store the result, tell with `checkpointed`. */
  | { readonly type: 'merge'; readonly round: number; readonly accepted: readonly Accepted[] }
  /** Send `ticked` at this time. */
  | { readonly type: 'wake'; readonly atMs: number }
  /** Artifacts of rounds that nobody can ask for any more. */
  | { readonly type: 'drop'; readonly artifacts: readonly Cid[] }
  | { readonly type: 'finish' }

/** Why an event cannot happen now. */
export interface Refusal {
  readonly code: string
  readonly message: string
  readonly remedy?: string
}

export interface Step {
  readonly state: RunState
  readonly effects: readonly Effect[]
  /** Then the state is the one before. */
  readonly refusal?: Refusal
}

export const reducerLimits = {
  /** Closed rounds whose updates and checkpoints are kept. */
  keptRounds: 3,
  /** Members of whom the state keeps an account; those longest gone are forgotten first. The log keeps all. */
  maxMembers: 4096,
} as const

/** The state after the first event. */
export function createRun(event: Extract<RunEvent, { type: 'created' }>): RunState {
  return {
    runId: event.runId,
    policy: event.policy,
    version: 1,
    nowMs: event.atMs,
    phase: 'waiting',
    round: 1,
    lastRound: event.policy.rounds,
    seed: event.seed,
    members: {},
    open: null,
    closed: [],
    checkpoint: { round: 0, checkpoint: event.checkpoint },
  }
}

/** What happens to the state, and what is to be done: the whole coordinator. */
export function step(state: RunState, event: RunEvent): Step {
  const timed = passTime(state, event.atMs)
  const applied = apply(timed, event)
  if ('code' in applied) return { state, effects: [], refusal: applied }
  const next = settle({ ...applied, version: state.version + 1 })
  return { state: next, effects: effectsBetween(state, next) }
}

/** Everything that a host must do that has this state and does not know what was done before it was killed. */
export function pendingEffects(state: RunState): readonly Effect[] {
  const effects: Effect[] = []
  if (state.phase === 'merging') effects.push(mergeEffect(state))
  const deadlineMs = state.open?.deadlineMs ?? null
  if (deadlineMs !== null) effects.push({ type: 'wake', atMs: deadlineMs })
  if (state.phase === 'finished') effects.push({ type: 'finish' })
  return effects
}

/** SHA-256 of the state's canonical encoding, in hexadecimal. */
export function stateHash(state: RunState): string {
  return base16.baseEncode(sha256(encodeCanonical(state)))
}

/** Whether the member takes part, as far as anybody knows. */
export function isPresent(member: Member): boolean {
  return member.status !== 'left' && member.status !== 'vanished'
}

/** Peers of the open round that are still expected to contribute, sorted. */
export function outstandingPeers(state: RunState): PeerId[] {
  const { open, members } = state
  if (open === null) return []
  return peersOf(open.assignments).filter(
    (peer) => !(peer in open.contributions) && members[peer]?.status === 'active',
  )
}

/** Keys in the one order that does not depend on the order of insertion. */
export function peersOf(record: Readonly<Record<PeerId, unknown>>): PeerId[] {
  return (Object.keys(record) as PeerId[]).sort()
}

/** A clock that was set back moves deadlines with it; one that was set forward lets them expire. */
function passTime(state: RunState, atMs: number): RunState {
  const back = Math.min(0, atMs - state.nowMs)
  const { open } = state
  if (back === 0 || open === null) return { ...state, nowMs: atMs }
  const deadlineMs = open.deadlineMs === null ? null : open.deadlineMs + back
  return { ...state, nowMs: atMs, open: { ...open, openedAtMs: open.openedAtMs + back, deadlineMs } }
}

function apply(state: RunState, event: RunEvent): RunState | Refusal {
  if (state.phase === 'finished' && !['applied', 'left', 'vanished'].includes(event.type)) {
    return { code: 'run/finished', message: 'The run is finished.', remedy: 'Fetch its last checkpoint.' }
  }
  switch (event.type) {
    case 'created':
      return { code: 'run/created', message: 'The run exists already.' }
    case 'joined':
      return join(state, event)
    case 'ready': {
      const member = presentMember(state, event.peer)
      if ('code' in member) return member
      if (member.status !== 'joining') return { code: 'member/ready', message: 'The peer was ready already.' }
      return withMember(state, event.peer, { ...member, status: 'ready' })
    }
    case 'left':
    case 'vanished': {
      const member = presentMember(state, event.peer)
      if ('code' in member) return member
      return depart(state, event.peer, { ...member, status: event.type })
    }
    case 'contributed':
      return contribute(state, event)
    case 'ticked': {
      const deadlineMs = state.open?.deadlineMs ?? null
      if (deadlineMs !== null && deadlineMs <= event.atMs) return state
      return { code: 'round/not-due', message: 'Nothing is due yet.' }
    }
    case 'checkpointed': {
      if (state.phase !== 'merging' || event.round !== state.round) {
        return { code: 'round/not-merging', message: `Round ${event.round} is not being merged.` }
      }
      return adoptCheckpoint(state, event.checkpoint)
    }
    case 'applied':
      return report(state, event)
    case 'ending':
      // With nothing under way the round before was the last one.
      if (state.phase === 'waiting') return { ...state, lastRound: state.round - 1 }
      if (state.lastRound === state.round) return { code: 'run/ending', message: 'The run ends already.' }
      return { ...state, lastRound: state.round }
    default:
      throw new TypeError(`no event ${String(event satisfies never)}`)
  }
}

function join(state: RunState, event: Extract<RunEvent, { type: 'joined' }>): RunState | Refusal {
  const { peer, name, addresses } = event
  const known = state.members[peer]
  if (known !== undefined && isPresent(known)) {
    return { code: 'member/present', message: 'The peer is in the run already.' }
  }
  const present = Object.values(state.members).filter(isPresent).length
  if (present >= state.policy.maximumPeers) {
    return {
      code: 'run/full',
      message: `The run has its ${state.policy.maximumPeers} peers.`,
      remedy: 'Try again when one has left.',
    }
  }
  // Whoever comes back while its round is open still has its share of it.
  const owed = state.open !== null && peer in state.open.assignments
  return withMember(state, peer, {
    contributions: 0,
    tokens: 0,
    lastRound: 0,
    replica: null,
    applied: null,
    disagreements: 0,
    ...known,
    status: owed ? 'active' : 'joining',
    name,
    addresses,
    since: state.version,
  })
}

function contribute(state: RunState, event: Extract<RunEvent, { type: 'contributed' }>): RunState | Refusal {
  const { peer, round, update, tokens, loss } = event
  const member = presentMember(state, peer)
  if ('code' in member) return member
  const { open } = state
  if (open === null || round !== open.round) {
    return {
      code: 'round/closed',
      message: `Round ${round} is not open${open === null ? '' : `; round ${open.round} is`}.`,
      remedy: 'Fetch the newest checkpoint and train the next round.',
    }
  }
  if (!(peer in open.assignments)) {
    return { code: 'round/no-share', message: `The peer has no share of round ${round}.` }
  }
  if (peer in open.contributions) {
    return { code: 'round/contributed', message: `The peer has contributed to round ${round} already.` }
  }
  const earlier = [...Object.values(open.contributions), ...state.closed.flatMap(({ accepted }) => accepted)]
  if (earlier.some((other) => other.update === update)) {
    return { code: 'round/copy', message: `Update ${update} was contributed before.` }
  }
  const contributions = { ...open.contributions, [peer]: { update, tokens, loss } }
  return withMember({ ...state, open: { ...open, contributions } }, peer, {
    ...member,
    contributions: member.contributions + 1,
    tokens: member.tokens + tokens,
    lastRound: round,
  })
}

function report(state: RunState, event: Extract<RunEvent, { type: 'applied' }>): RunState | Refusal {
  const { peer, round, checkpoint } = event
  const member = presentMember(state, peer)
  if ('code' in member) return member
  const newest = state.closed.at(-1)?.round ?? 0
  if (round > newest) return { code: 'round/not-closed', message: `Round ${round} is not closed.` }
  if (member.applied !== null && round < member.applied.round) {
    return { code: 'round/past', message: `The peer has reported round ${member.applied.round} already.` }
  }
  if (member.applied?.round === round && member.applied.checkpoint === checkpoint) {
    return { code: 'round/reported', message: `The peer has reported this already.` }
  }
  const agreed = state.closed.find((closed) => closed.round === round)?.checkpoint ?? null
  const disagrees = agreed !== null && agreed !== checkpoint ? 1 : 0
  return withMember(state, peer, {
    ...member,
    applied: { round, checkpoint },
    disagreements: member.disagreements + disagrees,
  })
}

/** The host's result elects: every peer already trusts it for the order of events, and ties cannot arise. */
function adoptCheckpoint(state: RunState, checkpoint: Cid): RunState {
  const { round } = state
  const closed = state.closed.map((each) => (each.round === round ? { ...each, checkpoint } : each))
  const members = Object.fromEntries(
    Object.entries(state.members).map(([peer, member]) => {
      const disagrees = member.applied?.round === round && member.applied.checkpoint !== checkpoint
      return [peer, disagrees ? { ...member, disagreements: member.disagreements + 1 } : member]
    }),
  ) as Record<PeerId, Member>
  const finished = round >= state.lastRound
  return {
    ...state,
    members,
    closed,
    checkpoint: { round, checkpoint },
    phase: finished ? 'finished' : 'waiting',
    round: finished ? round : round + 1,
  }
}

/** Advances as far as possible without another event. */
function settle(state: RunState): RunState {
  if (state.phase === 'waiting') return state.round > state.lastRound ? finishEarly(state) : openRound(state)
  if (state.open === null) return state
  const count = Object.keys(state.open.contributions).length
  const outstanding = outstandingPeers(state).length
  if (count === 0) {
    // Everybody has gone: whoever comes next trains this round anew.
    return outstanding > 0 ? state : openRound({ ...state, open: null, phase: 'waiting' })
  }
  const { deadlineMs: before, openedAtMs, quorumReached } = state.open
  // Rounded, so that two thirds written as 0.67 are two of three.
  const quorum = Math.max(1, Math.round(state.policy.quorum * (count + outstanding)))
  const reachesNow = !quorumReached && count >= quorum
  const latestMs = before ?? openedAtMs + state.policy.maxRoundMs
  const deadlineMs = reachesNow ? Math.min(latestMs, state.nowMs + state.policy.graceMs) : latestMs
  if (outstanding === 0 || deadlineMs <= state.nowMs) return closeRound(state)
  const reached = quorumReached || reachesNow
  return {
    ...state,
    phase: reached ? 'grace' : 'training',
    open: { ...state.open, deadlineMs, quorumReached: reached },
  }
}

function finishEarly(state: RunState): RunState {
  return { ...state, phase: 'finished', round: state.lastRound }
}

/** Opens the round with all who are ready, if they are enough. Each gets one share of the data, no two the same. */
function openRound(state: RunState): RunState {
  const { members, policy, round } = state
  const coming = peersOf(members).filter((peer) => ['ready', 'active'].includes(members[peer]!.status))
  if (coming.length < (round === 1 ? policy.minimumPeers : 1)) return state
  const replicas = coming.length
  coming.sort((a, b) => members[a]!.since - members[b]!.since)
  const taken = new Map<number, PeerId>()
  for (const peer of coming) {
    const { replica } = members[peer]!
    if (replica !== null && replica < replicas && !taken.has(replica)) taken.set(replica, peer)
  }
  const placed = new Set(taken.values())
  for (const peer of coming) {
    if (placed.has(peer)) continue
    let replica = 0
    while (taken.has(replica)) replica += 1
    taken.set(replica, peer)
  }
  const assignments = Object.fromEntries([...taken].map(([replica, peer]) => [peer, replica]))
  const active = Object.fromEntries(
    [...taken].map(([replica, peer]) => [peer, { ...members[peer]!, status: 'active', replica }]),
  )
  return {
    ...state,
    phase: 'training',
    members: { ...members, ...active },
    open: {
      round,
      replicas,
      assignments,
      contributions: {},
      openedAtMs: state.nowMs,
      deadlineMs: null,
      quorumReached: false,
    },
  }
}

function closeRound(state: RunState): RunState {
  const { contributions } = state.open!
  const accepted = peersOf(contributions).map((peer) => ({ peer, ...contributions[peer]! }))
  const commitment = accepted.map(({ peer, update, tokens }) => [peer, update, tokens])
  return {
    ...state,
    phase: 'merging',
    seed: base16.baseEncode(sha256(encodeCanonical([state.seed, state.round, commitment]))),
    open: null,
    closed: [...state.closed, { round: state.round, accepted, checkpoint: null }].slice(
      -reducerLimits.keptRounds,
    ),
  }
}

/** What has become necessary. */
function effectsBetween(before: RunState, after: RunState): Effect[] {
  const effects: Effect[] = []
  if (after.phase === 'merging' && before.phase !== 'merging') effects.push(mergeEffect(after))
  const deadlineMs = after.open?.deadlineMs ?? null
  if (deadlineMs !== null && deadlineMs !== before.open?.deadlineMs) {
    effects.push({ type: 'wake', atMs: deadlineMs })
  }
  if (after.closed !== before.closed) {
    const kept = artifactsOf(after)
    const artifacts = [...artifactsOf(before)].filter((cid) => !kept.has(cid))
    if (artifacts.length > 0) effects.push({ type: 'drop', artifacts })
  }
  if (after.phase === 'finished' && before.phase !== 'finished') effects.push({ type: 'finish' })
  return effects
}

function mergeEffect(state: RunState): Effect {
  return { type: 'merge', round: state.round, accepted: state.closed.at(-1)!.accepted }
}

/** Artifacts of the rounds that somebody may still need. A checkpoint is needed while the round after it can be merged from it. */
export function artifactsOf(state: RunState): Set<Cid> {
  const updates = state.closed.flatMap(({ accepted }) => accepted.map(({ update }) => update))
  const pending = Object.values(state.open?.contributions ?? {}).map(({ update }) => update)
  const checkpoints = state.closed.slice(-2).flatMap(({ checkpoint }) => checkpoint ?? [])
  return new Set([...updates, ...pending, ...checkpoints, state.checkpoint.checkpoint])
}

function presentMember(state: RunState, peer: PeerId): Member | Refusal {
  const member = state.members[peer]
  if (member !== undefined && isPresent(member)) return member
  return { code: 'member/unknown', message: 'The peer is not in the run.', remedy: 'Join again.' }
}

function withMember(state: RunState, peer: PeerId, member: Member): RunState {
  return { ...state, members: { ...state.members, [peer]: member } }
}

/** Who never contributed is forgotten; of the others the account stays, up to a bound. */
function depart(state: RunState, peer: PeerId, member: Member): RunState {
  const members: Record<PeerId, Member> = { ...state.members, [peer]: member }
  const owes = state.open !== null && peer in state.open.assignments
  if (member.contributions === 0 && !owes) delete members[peer]
  if (Object.keys(members).length > reducerLimits.maxMembers) {
    const departed = peersOf(members).filter((each) => !isPresent(members[each]!))
    const oldest = departed.reduce((a, b) => (members[b]!.lastRound < members[a]!.lastRound ? b : a))
    delete members[oldest]
  }
  return { ...state, members }
}
