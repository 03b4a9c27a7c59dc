/**
 * From a log to the state that it leads to: what a host does when it starts, and anybody who checks a run's history.
 */
import { GroundswellError } from '../core/index.ts'
import { decodeEvent } from './events.ts'
import type { Log } from './log.ts'
import { createRun, type RunState, step } from './reducer.ts'

/** @throws GroundswellError `log/empty`, or `log/damaged` when an entry cannot follow those before it */
export async function replay(log: Log): Promise<RunState> {
  let state: RunState | undefined
  for await (const { position, bytes } of log.read(0)) {
    const event = decodeEvent(bytes, position)
    if (state === undefined) {
      if (event.type !== 'created') throw misplaced(position)
      state = createRun(event)
      continue
    }
    const { state: next, refusal } = step(state, event)
    if (refusal !== undefined) throw misplaced(position)
    state = next
  }
  if (state === undefined) throw new GroundswellError('The run’s log is empty.', { code: 'log/empty' })
  return state
}

function misplaced(position: number): GroundswellError {
  return new GroundswellError(`Entry ${position} of the run’s log cannot follow what is before it.`, {
    code: 'log/damaged',
    remedy: 'Restore the log from a copy, or start a new run from the newest checkpoint.',
  })
}
