/**
 * The run as a pure state machine: `step(state, event)` gives the next state and what is to be done about it. No
 * clock, no randomness, no input or output: time and the seed arrive in events. The host runs it, a replay of the
 * log runs it, a test runs it with ten thousand peers; all get the same state, and `stateHash` says so.
 *
 *   waiting → warmingUp → training → closing → coolingDown → waiting … → finished      (between rounds: ⇄ paused)
 *
 * The shape is that of Psyche's coordinator (https://github.com/PsycheFoundation/psyche, shared/coordinator), which
 * advances as soon as it can instead of when a timer ends. Of the method it knows only that a round has inner steps,
 * contributions and a merge.
 */
import { Map as PersistentMap, Set as PersistentSet } from 'immutable'
import type { Cid } from '../core/index.ts'
import { contribute, disagree, reject } from './contributions.ts'
import type { RunEvent } from './events.ts'
import { noBatches } from './leases.ts'
import { becomeReady, join, leave, vanish } from './membership.ts'
import { isKnownUpdate } from './queries.ts'
import { finished, isRefusal, type Refusal } from './refusals.ts'
import { closesAtMs, settle, takeBackOverdue } from './rounds.ts'
import type { Accepted, RunState } from './state.ts'

export type { Refusal } from './refusals.ts'

export type Effect =
  /** Merge these contributions into the checkpoint before, store the result, tell with `checkpointed`. */
  | {
      readonly type: 'merge'
      readonly round: number
      readonly seed: string
      readonly accepted: readonly Accepted[]
    }
  /** Send `ticked` at this run time. */
  | { readonly type: 'wake'; readonly atMs: number }
  /** Artifacts of rounds that nobody can ask for any more. */
  | { readonly type: 'drop'; readonly artifacts: readonly Cid[] }
  | { readonly type: 'finish' }

export interface Step {
  readonly state: RunState
  readonly effects: readonly Effect[]
  /** Then the state is the one before. */
  readonly refusal?: Refusal
}

/** The state after the first event. */
export function createRun(event: Extract<RunEvent, { type: 'created' }>): RunState {
  return {
    runId: event.runId,
    policy: event.policy,
    innerSteps: event.innerSteps,
    batchTokens: event.batchTokens,
    version: 1,
    nowMs: event.atMs,
    phase: 'waiting',
    round: 1,
    lastRound: event.policy.rounds,
    seed: event.seed,
    members: PersistentMap(),
    counts: { present: 0, ready: 0, joining: 0 },
    totals: { contributions: 0, tokens: 0, bytes: 0 },
    open: null,
    warmupDeadlineMs: null,
    closed: [],
    updates: { open: PersistentSet(), closed: [] },
    checkpoint: { round: 0, checkpoint: event.checkpoint },
    batches: noBatches,
    medianNorm: null,
    cold: true,
    rewarmRound: null,
    pauseRequested: false,
    endRequested: false,
  }
}

/** What follows from an event. A refused event changes nothing, not even the time. */
export function step(state: RunState, event: RunEvent): Step {
  const applied = apply({ ...state, nowMs: Math.max(state.nowMs, event.atMs) }, event)
  if (isRefusal(applied)) return { state, effects: [], refusal: applied }
  const after = settle({ ...applied, version: state.version + 1 })
  return { state: after, effects: effectsBetween(state, after) }
}

/** What is still to be done in this state: for a host that starts with it. */
export function pendingEffects(state: RunState): Effect[] {
  const effects: Effect[] = []
  if (state.phase === 'coolingDown') effects.push(mergeEffect(state))
  const atMs = wakeAtMs(state)
  if (atMs !== null) effects.push({ type: 'wake', atMs })
  if (state.phase === 'finished') effects.push({ type: 'finish' })
  return effects
}

const lastWords: readonly RunEvent['type'][] = ['hosted', 'left', 'vanished', 'disagreed']

function apply(state: RunState, event: RunEvent): RunState | Refusal {
  if (state.phase === 'finished' && !lastWords.includes(event.type)) return finished
  switch (event.type) {
    case 'created':
      return { code: 'run/created', message: 'The run exists already.' }
    case 'hosted':
      return state
    case 'joined':
      return join(state, event)
    case 'ready':
      return becomeReady(state, event)
    case 'left':
      return leave(state, event.peer)
    case 'vanished':
      return vanish(state, event.peer)
    case 'contributed':
      return contribute(state, event)
    case 'rejected':
      return reject(state, event)
    case 'disagreed':
      return disagree(state, event)
    case 'ticked': {
      const dueMs = wakeAtMs(state)
      if (dueMs !== null && dueMs <= state.nowMs) return takeBackOverdue(state)
      return { code: 'round/not-due', message: 'Nothing is due yet.' }
    }
    case 'checkpointed':
      return adoptCheckpoint(state, event.round, event.checkpoint)
    case 'paused':
      if (state.pauseRequested) return { code: 'run/paused', message: 'The run is paused, or about to be.' }
      return { ...state, pauseRequested: true }
    case 'resumed':
      if (!state.pauseRequested) return { code: 'run/not-paused', message: 'The run is not paused.' }
      return { ...state, pauseRequested: false, phase: state.phase === 'paused' ? 'waiting' : state.phase }
    case 'policyChanged': {
      if (state.endRequested) return { ...state, policy: event.policy }
      return { ...state, policy: event.policy, lastRound: Math.max(event.policy.rounds, newestRound(state)) }
    }
    case 'ending': {
      const lastRound = Math.min(state.lastRound, newestRound(state))
      if (state.endRequested && lastRound === state.lastRound) {
        return { code: 'run/ending', message: 'The run ends already.' }
      }
      return { ...leavePause(state), endRequested: true, lastRound }
    }
    default:
      throw new TypeError(`no event ${String(event satisfies never)}`)
  }
}

/** The round under way, or the one before when none is. */
function newestRound(state: RunState): number {
  return state.open !== null || state.phase === 'coolingDown' ? state.round : state.round - 1
}

/** A paused run moves on when it is to end. */
function leavePause(state: RunState): RunState {
  return state.phase === 'paused' ? { ...state, phase: 'waiting' } : state
}

/** The host's result elects: every peer already trusts it for the order of events, and ties cannot arise. */
function adoptCheckpoint(state: RunState, round: number, checkpoint: Cid): RunState | Refusal {
  if (state.phase !== 'coolingDown' || round !== state.round) {
    return { code: 'round/not-merging', message: `Round ${round} is not being merged.` }
  }
  const last = state.closed.at(-1)!
  return {
    ...state,
    closed: [...state.closed.slice(0, -1), { ...last, checkpoint }],
    checkpoint: { round, checkpoint },
    phase: 'waiting',
    round: round + 1,
  }
}

/** What has become necessary. */
function effectsBetween(before: RunState, after: RunState): Effect[] {
  const effects: Effect[] = []
  if (after.phase === 'coolingDown' && before.phase !== 'coolingDown') effects.push(mergeEffect(after))
  const atMs = wakeAtMs(after)
  if (atMs !== null && atMs !== wakeAtMs(before)) effects.push({ type: 'wake', atMs })
  if (after.closed !== before.closed) {
    const artifacts = droppedArtifacts(before, after)
    if (artifacts.length > 0) effects.push({ type: 'drop', artifacts })
  }
  if (after.phase === 'finished' && before.phase !== 'finished') effects.push({ type: 'finish' })
  return effects
}

function mergeEffect({ round, closed }: RunState): Effect {
  const { seed, accepted } = closed.at(-1)!
  return { type: 'merge', round, seed, accepted }
}

function wakeAtMs(state: RunState): number | null {
  return state.open === null ? state.warmupDeadlineMs : closesAtMs(state)
}

/** Artifacts of the rounds that somebody may still need. */
export function artifactsOf(state: RunState): Set<Cid> {
  return new Set([
    ...state.updates.open,
    ...state.updates.closed.flatMap((each) => [...each]),
    ...keptCheckpoints(state),
  ])
}

/** A checkpoint is needed while the round after it can be merged from it. */
function keptCheckpoints({ closed, checkpoint }: RunState): Cid[] {
  return [...closed.slice(-2).flatMap((each) => each.checkpoint ?? []), checkpoint.checkpoint]
}

function droppedArtifacts(before: RunState, after: RunState): Cid[] {
  const checkpoints = keptCheckpoints(after)
  const oldest = after.closed[0]!.round
  const updates = before.closed.filter(({ round }) => round < oldest).flatMap(({ accepted }) => accepted)
  const gone = [...updates.map(({ update }) => update), ...keptCheckpoints(before)]
  return [...new Set(gone)].filter((cid) => !isKnownUpdate(after, cid) && !checkpoints.includes(cid))
}
