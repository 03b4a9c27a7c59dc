/**
 * Every wait ends: a signal that aborts with the caller's, or with `peer/timeout` when the time is up.
 */
import { type Clock, GroundswellError } from '../core/index.ts'

export interface Deadline {
  readonly clock: Clock
  /** The longest time without progress. */
  readonly timeoutMs: number
  /** The longest time in all; unlimited unless stated, as long as there is progress. */
  readonly wholeMs?: number
  readonly signal?: AbortSignal | undefined
  /** Completes the sentence “… was not done after 60 s.” */
  readonly what: string
}

/**
 * Runs `work` with a signal and a function to report progress by; rejects as soon as the signal aborts, even if
 * `work` does not listen. Without progress that is after `timeoutMs`, else after at most twice that. No timer
 * survives.
 */
export async function withDeadline<Result>(
  { clock, timeoutMs, wholeMs = Number.POSITIVE_INFINITY, signal, what }: Deadline,
  work: (signal: AbortSignal, progress: () => void) => Promise<Result>,
): Promise<Result> {
  signal?.throwIfAborted()
  const expiry = new AbortController()
  const settled = new AbortController()
  const onAbort = (): void => expiry.abort(signal?.reason)
  signal?.addEventListener('abort', onAbort, { once: true })
  let progressed = false
  const watch = async (): Promise<void> => {
    let elapsedMs = 0
    do {
      progressed = false
      await clock.sleep(timeoutMs, settled.signal)
      elapsedMs += timeoutMs
    } while (progressed && elapsedMs < wholeMs)
    expiry.abort(timedOut(what, progressed ? elapsedMs : timeoutMs))
  }
  watch().catch(() => undefined) // settled in time
  try {
    return await abortable(
      work(expiry.signal, () => {
        progressed = true
      }),
      expiry.signal,
    )
  } finally {
    signal?.removeEventListener('abort', onAbort)
    settled.abort()
  }
}

/** Settles as `promise` does, or rejects with the signal's reason if that comes first. */
export function abortable<Result>(promise: Promise<Result>, signal: AbortSignal): Promise<Result> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

function timedOut(what: string, timeoutMs: number): GroundswellError {
  return new GroundswellError(`${what} was not done after ${timeoutMs / 1000} s.`, {
    code: 'peer/timeout',
    remedy: 'Check that the peer is running and reachable.',
  })
}
