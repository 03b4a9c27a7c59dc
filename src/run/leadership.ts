/**
 * Who of several hosts of one run works and who stands by. A lease is only a hint that keeps two hosts from racing: a
 * process may sleep for an hour between looking at its lease and acting. What makes two hosts safe is the log, which
 * takes an entry only at the position that its author expects (log.ts); whoever gets `log/conflict` is not the host.
 */
import { GroundswellError } from '../core/index.ts'

export interface Lease {
  /** Aborted, with the reason as an error, when the lease was lost: stop working, and acquire again to stand by. */
  readonly signal: AbortSignal
  /** Gives the lease back, so that the next host need not wait for it to run out. Repeating it does nothing. */
  release(): Promise<void>
}

export interface Leadership {
  /**
   * Waits until this host leads. @throws the signal's reason when it was aborted before
   */
  acquire(signal?: AbortSignal): Promise<Lease>
}

/** For a run that has one host, such as one whose log is a file: a second host is stopped by the log itself. */
export function soleLeadership(): Leadership {
  return {
    acquire: async (signal) => {
      signal?.throwIfAborted()
      return { signal: new AbortController().signal, release: async () => undefined }
    },
  }
}

/** The error of a host that does not lead any more. */
export function leaseLost(why: string): GroundswellError {
  return new GroundswellError(`This host does not lead the run any more: ${why}.`, {
    code: 'leadership/lost',
    remedy: 'Nothing is lost: another host goes on from the same log.',
  })
}
