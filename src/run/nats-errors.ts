/**
 * What NATS answers, as errors that say what to do; and asking again while there is no answer. Everything that is asked
 * here may be asked twice: it reads, or it says what it expects to find. Errors are told apart by their names, because
 * the packages that define them are loaded late.
 */
import { type Clock, GroundswellError, messageOf } from '../core/index.ts'

/**
 * How long a request may stay without an answer, over all attempts. The servers of a cluster take 4 to 9 s to notice
 * that the leader of a stream is gone (constants of nats-server's raft.go), and elect the next one then.
 */
const answerWithinMs = 20_000
/** Attempts that wait for their full time. */
const tries = 10
const pauseMs = 100

/** JetStream's own codes (https://github.com/nats-io/nats-server/blob/main/server/errors.json). */
export const jetStreamCodes = {
  streamNotFound: 10059,
  nameInUse: 10058,
  subjectsOverlap: 10065,
  messageTooLong: 10054,
  wrongLastSequence: 10071,
} as const
/** A cluster that has just started does not know its servers yet. */
const notReadyCodes = new Set([10005])
/** No room: of the account, of the server's memory or disk, of the stream. */
const fullCodes = new Set([10002, 10023, 10028, 10047, 10077])

export interface NatsAsk {
  /** What one attempt may take; requests are to be made with this timeout. */
  readonly tryMs: number
  /**
   * Asks until there is an answer.
   * @throws GroundswellError `AREA/unreachable` without one, `AREA/…` for one that refuses
   */
  <Answer>(request: () => Promise<Answer>): Promise<Answer>
}

/** Asks about `subject`, the thing that an error is to name; `area` is the first half of its code. */
export function natsAsk(init: {
  readonly area: string
  readonly subject: string
  readonly clock: Clock
  readonly withinMs?: number
}): NatsAsk {
  const { area, subject, clock, withinMs = answerWithinMs } = init
  const tryMs = Math.max(1, Math.floor(withinMs / tries))
  const ask = async <Answer>(request: () => Promise<Answer>): Promise<Answer> => {
    for (let leftMs = withinMs; ; ) {
      try {
        return await request()
      } catch (thrown) {
        if (!isPassing(thrown)) throw natsError(area, subject, thrown)
        leftMs -= natsErrorNames(thrown).has('TimeoutError') ? tryMs : 0
        if (leftMs <= 0) {
          throw new GroundswellError(
            `NATS has not answered for ${withinMs / 1000} s about ${subject}: ${messageOf(thrown)}.`,
            {
              code: `${area}/unreachable`,
              remedy: 'Check that the NATS server runs and has JetStream; then start again.',
              cause: thrown,
            },
          )
        }
        await clock.sleep(Math.min(pauseMs, leftMs))
        leftMs -= pauseMs
      }
    }
  }
  return Object.assign(ask, { tryMs })
}

/** Names of an error and of what caused it. */
export function natsErrorNames(thrown: unknown): ReadonlySet<string> {
  return new Set(causesOf(thrown).map(({ name }) => name))
}

/** JetStream's code of an answer that refuses. */
export function jetStreamCode(thrown: unknown): number | undefined {
  const answer = causesOf(thrown).find(isApiError)
  return answer !== undefined && 'code' in answer ? Number(answer.code) : undefined
}

/** Whether the same request may be answered a moment later: nobody there, no leader yet, a lost message. */
export function isPassing(thrown: unknown): boolean {
  if (thrown instanceof GroundswellError) return false
  const names = natsErrorNames(thrown)
  if (names.has('ClosedConnectionError') || names.has('DrainingConnectionError')) return false
  if (names.has('PermissionViolationError')) return false
  const code = jetStreamCode(thrown)
  if (code !== undefined && fullCodes.has(code)) return false
  if (code !== undefined && notReadyCodes.has(code)) return true
  const status = causesOf(thrown).map(statusOf).find(Number.isFinite)
  if (status === 503 || status === 408) return true
  return names.has('TimeoutError') || names.has('RequestError') || names.has('JetStreamNotEnabled')
}

/** What a request about `subject` was answered, in words; `area` is the first half of its code. */
export function natsError(area: string, subject: string, thrown: unknown): unknown {
  if (thrown instanceof GroundswellError) return thrown
  const names = natsErrorNames(thrown)
  const code = jetStreamCode(thrown)
  const say = (what: string, message: string, remedy: string): GroundswellError =>
    new GroundswellError(message, { code: `${area}/${what}`, remedy, cause: thrown })
  if (names.has('ClosedConnectionError') || names.has('DrainingConnectionError')) {
    return say(
      'unreachable',
      `The connection to NATS was closed: ${subject} is out of reach.`,
      'Start again.',
    )
  }
  if (names.has('PermissionViolationError')) {
    return say(
      'not-allowed',
      `NATS does not allow this user to work with ${subject}: ${messageOf(thrown)}.`,
      'Give the user the right to $JS.API.> and groundswell.>.',
    )
  }
  if (code !== undefined && fullCodes.has(code)) {
    return say(
      'disk-full',
      `NATS has no more room for ${subject}: ${messageOf(thrown)}.`,
      'Free some space there, or raise the limits of the account, and start again.',
    )
  }
  if (code !== undefined) {
    return say(
      'refused',
      `NATS refuses a request about ${subject}: ${messageOf(thrown)}.`,
      'Check its setup.',
    )
  }
  return thrown
}

function causesOf(thrown: unknown): Error[] {
  const causes: Error[] = []
  for (let next = thrown; next instanceof Error && causes.length < 8; next = next.cause) causes.push(next)
  return causes
}

/** An answer with an error in it; its subclasses have other names. */
function isApiError(error: Error): boolean {
  return 'apiError' in error
}

/** An HTTP-like status; of direct reads it is the code itself. */
function statusOf(error: Error): number {
  if (isApiError(error) && 'status' in error) return Number(error.status)
  return error.name === 'JetStreamStatusError' && 'code' in error ? Number(error.code) : Number.NaN
}
