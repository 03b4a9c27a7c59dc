/**
 * From a log to the state that it leads to: what a host does when it starts, and anybody who checks a run's history.
 */
import { GroundswellError } from '../core/index.ts'
import { decodeEvent, type RunEvent } from './events.ts'
import type { Log } from './log.ts'
import { createRun, type Effect, step } from './reducer.ts'
import type { RunState } from './state.ts'

/** One event of a history: the states around it, and what it made necessary. Nothing is before the first. */
export interface ReplayedEvent {
  readonly event: RunEvent
  readonly before: RunState | null
  readonly after: RunState
  readonly effects: readonly Effect[]
}

/**
 * Calls `visit` after each event, in order.
 * @throws GroundswellError `log/empty`, or `log/damaged` when an entry cannot follow those before it
 */
export async function replay(log: Log, visit?: (replayed: ReplayedEvent) => void): Promise<RunState> {
  let state: RunState | null = null
  for await (const { position, bytes } of log.read(0)) {
    const event = decodeEvent(bytes, position)
    const before: RunState | null = state
    if (before === null) {
      if (event.type !== 'created') throw misplaced(position)
      state = createRun(event)
      visit?.({ event, before, after: state, effects: [] })
      continue
    }
    const { state: after, effects, refusal } = step(before, event)
    if (refusal !== undefined) throw misplaced(position)
    state = after
    visit?.({ event, before, after, effects })
  }
  if (state === null) throw new GroundswellError('The run’s log is empty.', { code: 'log/empty' })
  return state
}

function misplaced(position: number): GroundswellError {
  return new GroundswellError(`Entry ${position} of the run’s log cannot follow what is before it.`, {
    code: 'log/damaged',
    remedy: 'Restore the log from a copy, or start a new run from the newest checkpoint.',
  })
}
