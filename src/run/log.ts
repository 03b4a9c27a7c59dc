/**
 * The seam for what must survive a crash: an append-only sequence of entries. An append says at which position it
 * expects to land, so of two hosts that write to one log by accident, or after a takeover, exactly one goes on and the
 * other one learns it. Implementations: `memoryLog` here, `sqliteLog` and `natsLog`, which pass one suite (log-suite.ts).
 */
import { type Clock, GroundswellError } from '../core/index.ts'

export interface LogEntry {
  /** From 0, without gaps. */
  readonly position: number
  readonly bytes: Uint8Array
}

export interface Log {
  /** Entries so far: where the next one goes. */
  length(): Promise<number>
  /**
   * Adds an entry at position `expect`; when this resolves, the entry survives a loss of power.
   * @throws GroundswellError `log/conflict` when the log has another length
   */
  append(bytes: Uint8Array, options: { readonly expect: number }): Promise<void>
  /** Entries from a position on, up to those that were there when the reading began. */
  read(from: number): AsyncIterable<LogEntry>
  close(): Promise<void>
}

/** A log that lives as long as its process. */
export function memoryLog(): Log {
  const entries: Uint8Array[] = []
  let open = true
  const assertOpen = (): void => {
    if (!open) throw closedLog()
  }
  return {
    length: async () => {
      assertOpen()
      return entries.length
    },
    append: async (bytes, { expect }) => {
      assertOpen()
      if (expect !== entries.length) throw logConflict(expect, entries.length)
      entries.push(bytes.slice())
    },
    read: async function* (from) {
      assertOpen()
      const end = entries.length
      for (let position = from; position < end; position++) {
        yield { position, bytes: entries[position]!.slice() }
      }
    },
    close: async () => {
      open = false
    },
  }
}

export interface FollowOptions {
  /** The first position that is wanted. */
  readonly from: number
  readonly clock: Clock
  /** Ends the following without an error. */
  readonly signal: AbortSignal
  /** Between two looks at a log that had nothing new. */
  readonly everyMs?: number
  /** Told when the log cannot be read for now; following goes on. */
  readonly onTrouble?: (trouble: GroundswellError) => void
}

/** What passes by itself: a server that restarts, another process that writes for a long time. */
const passing = new Set(['log/unreachable', 'log/locked'])

/** The entries from a position on, those that are there and those to come: how a standby keeps up with a host. */
export async function* followLog(log: Log, options: FollowOptions): AsyncGenerator<LogEntry, void> {
  const { clock, signal, everyMs = 250, onTrouble } = options
  for (let next = options.from; ; ) {
    try {
      for await (const entry of log.read(next)) {
        if (signal.aborted) return
        yield entry
        next = entry.position + 1
      }
      if (signal.aborted) return
    } catch (thrown) {
      if (!(thrown instanceof GroundswellError) || !passing.has(thrown.code)) throw thrown
      onTrouble?.(thrown)
    }
    try {
      await clock.sleep(everyMs, signal)
    } catch {
      return
    }
  }
}

/** The error of an append that expected another position. */
export function logConflict(expect: number, found: number): GroundswellError {
  return new GroundswellError(
    `The run’s log has ${found} entries where ${expect} were expected: somebody else writes to it.`,
    { code: 'log/conflict', remedy: 'Stop the other host of this run.' },
  )
}

/** The error of a log used after it was closed. */
export function closedLog(): GroundswellError {
  return new GroundswellError('The run’s log is closed.', { code: 'log/closed' })
}
