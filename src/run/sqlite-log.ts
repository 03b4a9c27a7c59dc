/**
 * A log in one SQLite file (node:sqlite, in Node since 22): write-ahead journal, `synchronous = FULL`, so that an
 * append returns only after the disk has it (about 3,300 appends per second). Several processes may read it while a
 * host writes.
 */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { GroundswellError, messageOf } from '../core/index.ts'
import { closedLog, type Log, logConflict } from './log.ts'

/** Marks the file as ours (https://www.sqlite.org/pragma.html#pragma_application_id): “GSLG”. */
const applicationId = 0x47534c47
const formatVersion = 1
const rowsPerRead = 256

export interface SqliteLogOptions {
  /** How long to wait for another process that is writing. */
  readonly busyTimeoutMs?: number
  /** A bound on the file, in pages of 4 KiB; beyond it the log is full as on a full disk. */
  readonly maxPages?: number
  /** Only looks, so that nothing changes where a host writes; the file must be there. */
  readonly readOnly?: boolean
}

/**
 * Opens the log at `path`, or makes it.
 * @throws GroundswellError `log/damaged`, `log/foreign`, `log/locked`, `log/not-writable`, `log/disk-full`
 */
export function sqliteLog(path: string, options: SqliteLogOptions = {}): Log {
  const guarded = <Result>(work: () => Result): Result => {
    try {
      return work()
    } catch (thrown) {
      throw thrown instanceof GroundswellError ? thrown : logError(path, thrown)
    }
  }
  const database = guarded(() => {
    if (!options.readOnly) mkdirSync(dirname(path), { recursive: true })
    return openDatabase(path, options)
  })
  const count = database.prepare('SELECT coalesce(max(position) + 1, 0) AS length FROM entries')
  const insert = database.prepare(
    'INSERT INTO entries SELECT ?, ? WHERE (SELECT coalesce(max(position) + 1, 0) FROM entries) = ?',
  )
  const page = database.prepare(
    'SELECT position, bytes FROM entries WHERE position >= ? AND position < ? ORDER BY position LIMIT ?',
  )
  const length = (): number => guarded(() => (count.get() as { length: number }).length)
  const assertOpen = (): void => {
    if (!database.isOpen) throw closedLog()
  }

  return {
    length: async () => {
      assertOpen()
      return length()
    },
    append: async (bytes, { expect }) => {
      assertOpen()
      const { changes } = guarded(() => insert.run(expect, bytes, expect))
      if (Number(changes) !== 1) throw logConflict(expect, length())
    },
    read: async function* (from) {
      assertOpen()
      const end = length()
      for (let next = from; next < end; ) {
        const start = next
        const rows = guarded(() => page.all(start, end, rowsPerRead)) as {
          position: number
          bytes: Uint8Array
        }[]
        for (const { position, bytes } of rows) {
          if (position !== next) throw logDamaged(path, `entry ${next} is missing`)
          yield { position, bytes: new Uint8Array(bytes) }
          next += 1
        }
        if (rows.length === 0) throw logDamaged(path, `entry ${next} is missing`)
      }
    },
    close: async () => {
      if (database.isOpen) guarded(() => database.close())
    },
  }
}

function openDatabase(path: string, options: SqliteLogOptions): DatabaseSync {
  const { busyTimeoutMs = 2000, maxPages, readOnly = false } = options
  const database = new DatabaseSync(path, { timeout: busyTimeoutMs, readOnly })
  try {
    const pragma = (name: string): unknown => Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0]
    const owner = pragma('application_id')
    const tables = database.prepare('SELECT count(*) AS tables FROM sqlite_schema').get() as {
      tables: number
    }
    if (owner !== applicationId && (tables.tables > 0 || readOnly)) {
      throw new GroundswellError(`“${path}” is an SQLite database, but not the log of a run.`, {
        code: 'log/foreign',
        remedy: 'Name another file.',
      })
    }
    if (!readOnly) database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    if (owner !== applicationId) {
      // One transaction: after a crash there is a whole log or an empty file.
      database.exec(`BEGIN IMMEDIATE;
        CREATE TABLE IF NOT EXISTS entries (position INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
        PRAGMA application_id = ${applicationId};
        PRAGMA user_version = ${formatVersion};
        COMMIT`)
    }
    const version = pragma('user_version')
    if (version !== formatVersion) {
      throw new GroundswellError(`The log “${path}” has format ${String(version)}, not ${formatVersion}.`, {
        code: 'log/version',
        remedy: 'Use the version of Groundswell that wrote it.',
      })
    }
    if (maxPages !== undefined) database.exec(`PRAGMA max_page_count = ${maxPages}`)
    return database
  } catch (thrown) {
    database.close()
    throw thrown
  }
}

function logDamaged(path: string, why: string, cause?: unknown): GroundswellError {
  return new GroundswellError(`The log “${path}” is damaged: ${why}.`, {
    code: 'log/damaged',
    remedy: 'Restore it from a copy, or start a new run from the newest checkpoint.',
    cause,
  })
}

/** SQLite's primary result codes (https://www.sqlite.org/rescode.html) as errors that say what to do. */
function logError(path: string, cause: unknown): unknown {
  const code = systemCode(cause)
  const sqlite = cause instanceof Error && 'errcode' in cause ? Number(cause.errcode) & 0xff : undefined
  const say = (what: string, message: string, remedy: string): GroundswellError =>
    new GroundswellError(message, { code: `log/${what}`, remedy, cause })
  if (sqlite === 5 || sqlite === 6) {
    return say(
      'locked',
      `The log “${path}” is in use by another process.`,
      'Stop the other host of this run.',
    )
  }
  if (sqlite === 13 || code === 'ENOSPC') {
    return say(
      'disk-full',
      `The disk is full: the log “${path}” cannot grow.`,
      'Free some space and start again.',
    )
  }
  if (sqlite === 3 || sqlite === 8 || sqlite === 14 || sqlite === 23 || code !== undefined) {
    return say(
      'not-writable',
      `The log “${path}” cannot be opened for writing.`,
      'Check that its folder exists and that you may write to it.',
    )
  }
  if (sqlite === 11 || sqlite === 26) return logDamaged(path, messageOf(cause), cause)
  if (sqlite === 10) return say('unreadable', `The disk failed on “${path}”.`, 'Check the disk.')
  return cause
}

function systemCode(thrown: unknown): string | undefined {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined
  return typeof code === 'string' && /^E[A-Z]+$/.test(code) ? code : undefined
}
