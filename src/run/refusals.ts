/** Why an event cannot happen now, in the words that its sender reads: a stable code, one sentence, the way out. */
import type { RunState } from './state.ts'

export interface Refusal {
  readonly code: string
  readonly message: string
  readonly remedy?: string
}

export function isRefusal(result: RunState | Refusal): result is Refusal {
  return 'code' in result
}

/** Codes of refusals that end by themselves: whoever got one asks again when there is news. */
export const notNow: ReadonlySet<string> = new Set(['round/not-open', 'run/paused'])

export const notAMember: Refusal = {
  code: 'member/unknown',
  message: 'The peer is not in the run.',
  remedy: 'Join again.',
}

export const finished: Refusal = {
  code: 'run/finished',
  message: 'The run is finished.',
  remedy: 'Fetch its last checkpoint.',
}
