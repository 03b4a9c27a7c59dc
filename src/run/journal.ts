/**
 * The order of what happens: an event is decided by the reducer, appended to the log, and only then true, one after
 * the other. Events carry run time: the time that hosts have spent on this run, by a clock that never jumps.
 */
import { type Clock, GroundswellError, messageOf } from '../core/index.ts'
import { encodeEvent, type RunEvent } from './events.ts'
import type { Log } from './log.ts'
import { type Effect, type Refusal, step } from './reducer.ts'
import type { RunState } from './state.ts'

/** An event before it is known when it happens. */
export type Happening = RunEvent extends infer Event
  ? Event extends RunEvent
    ? Omit<Event, 'atMs'>
    : never
  : never

export interface JournalInit {
  readonly log: Log
  readonly clock: Clock
  /** What the log leads to. */
  readonly state: RunState
  /** After an event has been appended. */
  readonly onEvent: (before: RunState, after: RunState, effects: readonly Effect[], event: RunEvent) => void
  /** The log cannot be written to: nothing more can happen here. */
  readonly onFailure: (error: GroundswellError) => void
}

export class Journal {
  private readonly init: JournalInit
  private readonly startedAtMs: number
  private readonly startMs: number
  private newest: RunState
  private decided: Promise<unknown> = Promise.resolve()
  private closed: GroundswellError | null = null

  constructor(init: JournalInit) {
    this.init = init
    this.newest = init.state
    this.startMs = init.state.nowMs
    this.startedAtMs = init.clock.steady()
  }

  get state(): RunState {
    return this.newest
  }

  /** Run time in milliseconds. */
  get nowMs(): number {
    return this.startMs + (this.init.clock.steady() - this.startedAtMs)
  }

  /** Makes it happen, in the order of the calls. Returns why it cannot. */
  propose(happening: Happening): Promise<Refusal | undefined> {
    const decided = this.decided.then(() => this.decide(happening))
    this.decided = decided.catch(() => undefined)
    return decided
  }

  /** Makes it happen, or throws why it cannot; that it `happened` already is no reason to. */
  async commit(happening: Happening, happened?: string): Promise<void> {
    const refusal = await this.propose(happening)
    if (refusal !== undefined && refusal.code !== happened) throw refusalError(refusal)
  }

  /** Why this could not happen now. */
  objection(happening: Happening): Refusal | undefined {
    return step(this.newest, { ...happening, atMs: this.nowMs } as RunEvent).refusal
  }

  /** Decides nothing more, and waits for what is being appended. */
  async close(reason: GroundswellError): Promise<void> {
    this.closed ??= reason
    await this.decided
  }

  private async decide(happening: Happening): Promise<Refusal | undefined> {
    if (this.closed !== null) throw this.closed
    const event = { ...happening, atMs: Math.max(this.newest.nowMs, this.nowMs) } as RunEvent
    const before = this.newest
    const { state, effects, refusal } = step(before, event)
    if (refusal !== undefined) return refusal
    try {
      await this.init.log.append(encodeEvent(event), { expect: before.version })
    } catch (thrown) {
      this.closed = outOfOrder() // the reason is for the host's owner only
      this.init.onFailure(logFailure(thrown))
      throw this.closed
    }
    this.newest = state
    this.init.onEvent(before, state, effects, event)
    return undefined
  }
}

/** Tells the owner of a host why it cannot go on. */
export function logFailure(thrown: unknown): GroundswellError {
  if (!(thrown instanceof GroundswellError)) {
    return new GroundswellError(`The host failed: ${messageOf(thrown)}`, {
      code: 'host/failed',
      cause: thrown,
    })
  }
  return thrown.code === 'log/conflict' ? superseded(thrown) : thrown
}

export function superseded(cause: unknown): GroundswellError {
  return new GroundswellError('Another host has taken over this run, so this one has stopped.', {
    code: 'host/superseded',
    remedy: 'Leave the run to the other host, or stop that one first.',
    cause,
  })
}

/** What members hear when a host cannot go on. */
export function outOfOrder(): GroundswellError {
  return new GroundswellError('The host cannot go on.', {
    code: 'host/failed',
    remedy: 'Wait until its owner has restarted it.',
  })
}

export function refusalError({ code, message, remedy }: Refusal): GroundswellError {
  return new GroundswellError(message, remedy === undefined ? { code } : { code, remedy })
}
