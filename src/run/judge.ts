/**
 * The one place where an update is judged before it counts. Whatever can be said against an update, from a norm that
 * is out of all proportion to a recomputation that came to something else, is said here, and with the same
 * consequences: the peer learns the reason and the way out, and its signed report goes into the log with both.
 */
import { GroundswellError, messageOf } from '../core/index.ts'
import { FetchError, type PeerId } from '../swarm/index.ts'
import type { SyncMethod, TensorLayout } from '../sync/index.ts'
import type { Lease, RunState } from './state.ts'

/** All that is known about an update that was fetched and decoded. */
export interface Evidence {
  readonly peer: PeerId
  readonly lease: Lease
  /** Decoded by `method`, so of the right size and finite. */
  readonly update: unknown
  readonly norm: number
  /** Inner steps, and the mean loss over them, as the peer says. */
  readonly steps: number
  readonly loss: number
  readonly state: RunState
  readonly method: SyncMethod
  readonly layout: TensorLayout
}

export type Judgement =
  | { readonly accepted: true }
  | { readonly accepted: false; readonly code: string; readonly reason: string }

export type Judge = (evidence: Evidence) => Judgement | Promise<Judgement>

/** What every host checks; it costs no more than decoding. */
export const plausible: Judge = ({ norm, loss, state }) => {
  const { medianNorm, policy } = state
  if (!Number.isFinite(loss)) return rejected('update/no-loss', 'The reported loss is not a number.')
  if (!Number.isFinite(norm))
    return rejected('update/no-number', 'The update holds values that are no numbers.')
  if (norm === 0) return rejected('update/empty', 'The update changes nothing at all.')
  if (medianNorm !== null && norm > policy.maximumNormFactor * medianNorm) {
    const times = (norm / medianNorm).toPrecision(3)
    const allowed = policy.maximumNormFactor
    return rejected(
      'update/too-large',
      `The norm of the update is ${times} times the median of the run; at most ${allowed} times is allowed.`,
    )
  }
  return { accepted: true }
}

/** One judge that asks several in turn; the first objection stands. */
export function judgeInTurn(...judges: readonly Judge[]): Judge {
  return async (evidence) => {
    for (const judge of judges) {
      const judgement = await judge(evidence)
      if (!judgement.accepted) return judgement
    }
    return { accepted: true }
  }
}

export function rejected(code: string, reason: string): Judgement {
  return { accepted: false, code, reason }
}

/** What a fetched update must be thrown back for, if that is what went wrong; trouble of the line is not. */
export function objectionTo(thrown: unknown): Judgement | undefined {
  if (!(thrown instanceof GroundswellError)) return undefined
  if (thrown instanceof FetchError && thrown.failures.some(({ reason }) => notAsNamed.has(reason))) {
    return rejected('update/not-as-named', 'The peer sent something else than the artifact that it named.')
  }
  return unfit.has(thrown.code) ? rejected(thrown.code, messageOf(thrown)) : undefined
}

const notAsNamed: ReadonlySet<string> = new Set(['oversized', 'wrong-hash', 'malformed'])

const unfit = new Set([
  'sync/invalid-update',
  'artifact/oversized',
  'artifact/malformed',
  'message/malformed',
  'update/not-given',
])

/** The way out for whoever was rejected; a view tells the code only. */
export function remedyFor(code: string): string {
  switch (code) {
    case 'update/too-large':
    case 'update/no-loss':
    case 'update/no-number':
    case 'update/empty':
      return 'Check this machine’s backend with “groundswell doctor”; if others see the same, the learning rate is too high.'
    case 'update/not-as-named':
    case 'sync/invalid-update':
    case 'artifact/oversized':
    case 'artifact/malformed':
    case 'message/malformed':
      return 'Install the version of Groundswell that the host runs.'
    case 'update/not-given':
      return 'Keep this machine awake and connected until its update has been taken.'
    default:
      return 'Ask the owner of the run.'
  }
}
