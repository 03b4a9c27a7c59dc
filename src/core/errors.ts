/**
 * Errors that a person may meet. A `GroundswellError` carries a stable code for programs, one sentence that names
 * the thing at fault, and the way out; everything else that is thrown is a bug.
 */

export interface ErrorDetails {
  /** Stable and machine-readable, `area/what`, such as `checkpoint/truncated`. */
  readonly code: string
  /** What to do about it: one sentence, imperative. */
  readonly remedy?: string
  readonly cause?: unknown
}

export class GroundswellError extends Error {
  override readonly name = 'GroundswellError'
  readonly code: string
  readonly remedy: string | undefined

  constructor(message: string, details: ErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = details.code
    this.remedy = details.remedy
  }
}

/** The message of anything that was thrown, for one line of output. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}

/** Throws the signal's reason if it was aborted; long loops call it between pieces of work. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason
}
