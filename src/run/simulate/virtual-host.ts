/**
 * The host of a simulated run: the real reducer, and beside it everything that proves it right while it runs. Each
 * event is written as in a log, a second state is led by what was written, and the book of work is checked.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { base16 } from 'multiformats/bases/base16'
import { decodeCanonical } from '../../core/index.ts'
import { decodeEvent, encodeEvent, eventLimits, type RunEvent } from '../events.ts'
import { stateHash } from '../queries.ts'
import { createRun, type Effect, type Refusal, step } from '../reducer.ts'
import type { RunState } from '../state.ts'
import { WorkLedger } from './invariants.ts'

export interface VirtualHostOptions {
  readonly created: Extract<RunEvent, { type: 'created' }>
  /** Each event that the reducer took, in order. */
  readonly onEvent?: ((event: RunEvent) => void) | undefined
  /** Check all members after every event, and not only when a round opens or closes. */
  readonly checkAlways: boolean
}

export interface AppliedEvent {
  readonly before: RunState
  readonly effects: readonly Effect[]
  readonly refusal?: Refusal | undefined
}

export class VirtualHost {
  readonly work: WorkLedger = new WorkLedger()
  private readonly options: VirtualHostOptions
  private readonly trace = sha256.create()
  private current: RunState
  /** Led by the events as they were written and read again. */
  private replayed: RunState

  constructor(options: VirtualHostOptions) {
    this.options = options
    const { created } = options
    this.current = createRun(created)
    const read = this.record(created)
    if (read.type !== 'created') throw new Error('The first event is read as another.')
    this.replayed = createRun(read)
  }

  get state(): RunState {
    return this.current
  }

  /** What the reducer makes of an event; one that it refuses leaves no trace. */
  apply(event: RunEvent): AppliedEvent {
    const before = this.current
    const { state, effects, refusal } = step(before, event)
    if (refusal !== undefined) return { before, effects: [], refusal }
    this.current = state
    this.replay(this.record(event))
    this.account(event, before)
    return { before, effects }
  }

  /** Checks at the end that the log leads to the state, and gives both hashes. */
  finish(): { traceHash: string; stateHash: string } {
    this.work.check(this.current)
    const hash = stateHash(this.current)
    if (stateHash(this.replayed) !== hash) throw new Error('The replayed log leads to another state.')
    return { traceHash: base16.baseEncode(this.trace.clone().digest()), stateHash: hash }
  }

  private record(event: RunEvent): RunEvent {
    const bytes = encodeEvent(event)
    this.trace.update(bytes)
    this.options.onEvent?.(event)
    // What the schema says of every field is checked in small runs; in large ones it would cost more than the rest.
    if (!this.options.checkAlways) return decodeCanonical(bytes, eventLimits.maxEventBytes) as RunEvent
    return decodeEvent(bytes, this.current.version)
  }

  private replay(event: RunEvent): void {
    const { state, refusal } = step(this.replayed, event)
    if (refusal !== undefined) throw new Error(`The replay refuses what was accepted: ${refusal.message}`)
    this.replayed = state
  }

  private account(event: RunEvent, before: RunState): void {
    const { work, current } = this
    if (event.type === 'contributed') {
      const lease = before.members.get(event.peer)?.lease ?? null
      work.accept(event.peer, event.update, lease, event.steps)
    }
    const closed = current.closed.at(-1)
    if (closed !== undefined && closed.round !== before.closed.at(-1)?.round) work.close(closed)
    const turns = current.open?.openedAtMs !== before.open?.openedAtMs || current.phase !== before.phase
    if (turns || this.options.checkAlways) work.check(current)
  }
}
