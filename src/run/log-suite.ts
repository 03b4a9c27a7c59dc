/**
 * What every `Log` must do, whatever it is kept in.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { seededRandom, VirtualClock } from '../core/index.ts'
import { followLog, type Log, type LogEntry } from './log.ts'

export interface LogSuite {
  readonly name: string
  /** An empty log. */
  readonly make: () => Promise<Log>
  /** The same log in another process: what was appended must be there. Absent where nothing outlives the process. */
  readonly reopen?: (log: Log) => Promise<Log>
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)

async function all(log: Log, from = 0): Promise<LogEntry[]> {
  const entries: LogEntry[] = []
  for await (const entry of log.read(from)) entries.push(entry)
  return entries
}

export function runLogSuite({ name, make, reopen }: LogSuite): void {
  describe(name, () => {
    test('is empty at first', async () => {
      const log = await make()
      expect(await log.length()).toBe(0)
      expect(await all(log)).toEqual([])
      await log.close()
    })

    test('gives back what was appended, from any position', async () => {
      const log = await make()
      await fc.assert(
        fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 2000 }), { maxLength: 8 }), async (added) => {
          const start = await log.length()
          for (const [i, bytes] of added.entries()) await log.append(bytes, { expect: start + i })
          expect(await log.length()).toBe(start + added.length)
          expect(await all(log, start)).toEqual(added.map((bytes, i) => ({ position: start + i, bytes })))
        }),
        { numRuns: 20 },
      )
      expect(await all(log, (await log.length()) + 5)).toEqual([])
      await log.close()
    })

    test('refuses an append that expects another position, and keeps what it has', async () => {
      const log = await make()
      await log.append(bytesOf('first'), { expect: 0 })
      for (const expectedPosition of [0, 2, -1]) {
        await expect(log.append(bytesOf('other'), { expect: expectedPosition })).rejects.toMatchObject({
          code: 'log/conflict',
        })
      }
      expect(await all(log)).toEqual([{ position: 0, bytes: bytesOf('first') }])
      await log.close()
    })

    test('of two appends at one position one wins', async () => {
      const log = await make()
      const outcomes = await Promise.allSettled([
        log.append(bytesOf('one'), { expect: 0 }),
        log.append(bytesOf('two'), { expect: 0 }),
      ])
      expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
      expect(await log.length()).toBe(1)
      await log.close()
    })

    test('two who append at random share the positions: each entry is there once, in the order of its author', async () => {
      const first = await make()
      const second = (await reopen?.(first)) ?? first
      const perAuthor = 40
      const author = async (log: Log, name: string): Promise<void> => {
        const random = seededRandom('append', name)
        for (let i = 0; i < perAuthor; ) {
          const position = await log.length()
          if (random.nextFloat() < 0.5) await new Promise((resolve) => setImmediate(resolve))
          try {
            await log.append(bytesOf(`${name}${i}`), { expect: position })
            i += 1
          } catch (thrown) {
            expect(thrown).toMatchObject({ code: 'log/conflict' })
          }
        }
      }
      await Promise.all([author(first, 'a'), author(second, 'b')])
      const names = (await all(second)).map(({ bytes }) => new TextDecoder().decode(bytes))
      expect(names).toHaveLength(2 * perAuthor)
      for (const name of ['a', 'b']) {
        const own = names.filter((entry) => entry.startsWith(name))
        expect(own).toEqual(Array.from({ length: perAuthor }, (_, i) => `${name}${i}`))
      }
      await first.close()
      await second.close()
    })

    test('can be followed from a position while another one appends', async () => {
      const writer = await make()
      const reader = (await reopen?.(writer)) ?? writer
      for (let i = 0; i < 5; i++) await writer.append(Uint8Array.of(i), { expect: i })
      const clock = new VirtualClock()
      const stop = new AbortController()
      const seen: LogEntry[] = []
      const following = (async () => {
        for await (const entry of followLog(reader, { from: 3, clock, signal: stop.signal })) {
          seen.push(entry)
          if (entry.position === 9) stop.abort()
        }
      })()
      for (let i = 5; i < 10; i++) await writer.append(Uint8Array.of(i), { expect: i })
      while (!stop.signal.aborted) {
        await clock.advance(250)
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      await following
      expect(seen).toEqual([3, 4, 5, 6, 7, 8, 9].map((i) => ({ position: i, bytes: Uint8Array.of(i) })))
      await writer.close()
      await reader.close()
    })

    test('keeps a copy: changing the bytes afterwards changes nothing', async () => {
      const log = await make()
      const bytes = bytesOf('mine')
      await log.append(bytes, { expect: 0 })
      bytes.fill(0)
      expect((await all(log))[0]!.bytes).toEqual(bytesOf('mine'))
      await log.close()
    })

    test('reads more entries than any page holds, and not those that come while it reads', async () => {
      const log = await make()
      for (let i = 0; i < 600; i++) await log.append(Uint8Array.of(i & 0xff), { expect: i })
      let seen = 0
      for await (const { position } of log.read(0)) {
        expect(position).toBe(seen++)
        if (position === 10) await log.append(bytesOf('late'), { expect: 600 })
      }
      expect(seen).toBe(600)
      await log.close()
    })

    test('does nothing after it was closed; closing twice is no error', async () => {
      const log = await make()
      await log.close()
      await log.close()
      await expect(log.append(bytesOf('late'), { expect: 0 })).rejects.toMatchObject({ code: 'log/closed' })
      await expect(log.length()).rejects.toMatchObject({ code: 'log/closed' })
      await expect(all(log)).rejects.toMatchObject({ code: 'log/closed' })
    })

    test.skipIf(reopen === undefined)('survives without being closed', async () => {
      const log = await make()
      await log.append(bytesOf('kept'), { expect: 0 })
      const again = await reopen!(log)
      expect(await all(again)).toEqual([{ position: 0, bytes: bytesOf('kept') }])
      await again.append(bytesOf('more'), { expect: 1 })
      // The first one is fenced off: it cannot write over what the second has written.
      await expect(log.append(bytesOf('stale'), { expect: 1 })).rejects.toMatchObject({
        code: 'log/conflict',
      })
      await log.close()
      await again.close()
    })
  })
}
