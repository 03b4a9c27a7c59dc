import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, describe, expect, test } from 'vitest'
import type { Log } from './log.ts'
import { memoryLog } from './log.ts'
import { runLogSuite } from './log-suite.ts'
import { sqliteLog } from './sqlite-log.ts'

const folder = mkdtempSync(join(tmpdir(), 'groundswell-log-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let files = 0
const freshPath = (): string => join(folder, `${files++}`, 'run.log')
const paths = new WeakMap<Log, string>()
const openAt = (path: string): Log => {
  const log = sqliteLog(path, { busyTimeoutMs: 50 })
  paths.set(log, path)
  return log
}

runLogSuite({ name: 'memoryLog', make: async () => memoryLog() })
runLogSuite({
  name: 'sqliteLog',
  make: async () => openAt(freshPath()),
  reopen: async (log) => openAt(paths.get(log)!),
})

describe('sqliteLog', () => {
  test('says that a file is no database at all', () => {
    const path = join(folder, 'text')
    writeFileSync(path, 'not a database, but long enough to look at '.repeat(100))
    expect(() => sqliteLog(path)).toThrow(expect.objectContaining({ code: 'log/damaged' }))
  })

  test('says that a database is not the log of a run, and leaves it as it is', () => {
    const path = join(folder, 'other.db')
    const other = new DatabaseSync(path)
    other.exec('CREATE TABLE recipes (name TEXT)')
    other.close()
    const before = readFileSync(path)
    expect(() => sqliteLog(path)).toThrow(expect.objectContaining({ code: 'log/foreign' }))
    expect(readFileSync(path)).toEqual(before)
  })

  test('says that another process holds the log', async () => {
    const path = join(folder, 'held.log')
    const log = openAt(path)
    const other = new DatabaseSync(path)
    other.exec('BEGIN IMMEDIATE')
    await expect(log.append(Uint8Array.of(1), { expect: 0 })).rejects.toMatchObject({ code: 'log/locked' })
    other.exec('ROLLBACK')
    other.close()
    await log.append(Uint8Array.of(1), { expect: 0 })
    await log.close()
  })

  test('says that an entry is missing', async () => {
    const path = join(folder, 'gap.log')
    const log = openAt(path)
    for (let i = 0; i < 3; i++) await log.append(Uint8Array.of(i), { expect: i })
    await log.close()
    const database = new DatabaseSync(path)
    database.exec('DELETE FROM entries WHERE position = 1')
    database.close()
    const damaged = openAt(path)
    const read = async (): Promise<void> => {
      for await (const entry of damaged.read(0)) expect(entry.position).toBe(0)
    }
    await expect(read()).rejects.toThrow(/entry 1 is missing/)
    await damaged.close()
  })

  test('says that its folder cannot be written to', () => {
    writeFileSync(join(folder, 'file'), '')
    expect(() => sqliteLog(join(folder, 'file', 'run.log'))).toThrow(
      expect.objectContaining({ code: 'log/not-writable' }),
    )
    expect(() => sqliteLog(folder)).toThrow(expect.objectContaining({ code: 'log/not-writable' }))
  })

  test('says that the disk is full, and goes on when there is room again', async () => {
    const path = join(folder, 'full.log')
    const log = openAt(path)
    await log.append(new Uint8Array(100), { expect: 0 })
    // SQLite's own way of having no more room.
    const limited = new DatabaseSync(path)
    const { page_count: pages } = limited.prepare('PRAGMA page_count').get() as { page_count: number }
    limited.close()
    const full = sqliteLog(path, { maxPages: pages })
    await expect(full.append(new Uint8Array(100_000), { expect: 1 })).rejects.toMatchObject({
      code: 'log/disk-full',
    })
    expect(await full.length()).toBe(1)
    await full.close()
    await log.append(new Uint8Array(100_000), { expect: 1 })
    await log.close()
  })
})
