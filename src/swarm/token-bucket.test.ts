import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { VirtualClock } from '../core/index.ts'
import { TokenBucket } from './token-bucket.ts'

/** When how many bytes were let through, for takers that all come at the times given. */
async function granted(
  bucket: TokenBucket,
  clock: VirtualClock,
  takes: readonly { afterMs: number; bytes: number }[],
  forMs: number,
): Promise<{ at: number; bytes: number; order: number }[]> {
  const grants: { at: number; bytes: number; order: number }[] = []
  const asked = takes.map(async ({ afterMs, bytes }, order) => {
    await clock.sleep(afterMs)
    await bucket.take(bytes)
    grants.push({ at: clock.now(), bytes, order })
  })
  await clock.advance(forMs)
  await Promise.all(asked)
  return grants
}

const rates = fc.record({
  bytesPerSecond: fc.integer({ min: 1000, max: 1e6 }),
  burstBytes: fc.integer({ min: 100, max: 1e5 }),
  takes: fc.array(
    fc.record({ afterMs: fc.integer({ min: 0, max: 2000 }), bytes: fc.integer({ min: 0, max: 2e5 }) }),
    { minLength: 1, maxLength: 20 },
  ),
})

/** Long enough for all of 20 takes of 200 kB at 1 kB/s. */
const longMs = 1e7

describe('a bucket of tokens', () => {
  test('lets no more than rate · time + burst through, over any window', async () => {
    await fc.assert(
      fc.asyncProperty(rates, async ({ bytesPerSecond, burstBytes, takes }) => {
        const clock = new VirtualClock()
        const bucket = new TokenBucket({ bytesPerSecond, burstBytes, clock })
        const grants = await granted(bucket, clock, takes, longMs)
        const largest = Math.max(burstBytes, ...takes.map(({ bytes }) => bytes))
        for (const [i, { at: from }] of grants.entries()) {
          let bytes = 0
          for (const grant of grants.slice(i)) {
            bytes += grant.bytes
            expect(bytes).toBeLessThanOrEqual(((grant.at - from) / 1000) * bytesPerSecond + largest + 1)
          }
        }
      }),
      { numRuns: 50 },
    )
  })

  test('starves nobody: all are served in the order in which they came, at the rate', async () => {
    await fc.assert(
      fc.asyncProperty(rates, async ({ bytesPerSecond, burstBytes, takes }) => {
        const clock = new VirtualClock()
        const bucket = new TokenBucket({ bytesPerSecond, burstBytes, clock })
        const all = takes.map((take) => ({ ...take, afterMs: 0 }))
        const grants = await granted(bucket, clock, all, longMs)
        expect(grants.map(({ order }) => order)).toEqual(all.map((_, i) => i))
        const before = all.slice(0, -1).reduce((sum, { bytes }) => sum + bytes, 0)
        const neededMs = ((before + all.at(-1)!.bytes) / bytesPerSecond) * 1000
        expect(grants.at(-1)!.at).toBeLessThanOrEqual(neededMs + 2 * all.length)
      }),
      { numRuns: 50 },
    )
  })

  test('is not emptied below one burst by what could not wait, and pays that off', async () => {
    const clock = new VirtualClock()
    const bucket = new TokenBucket({ bytesPerSecond: 1000, burstBytes: 500, clock })
    bucket.spend(1e9)
    expect(bucket.debtMs()).toBe(500)
    let at: number | undefined
    const taken = bucket.take(100).then(() => (at = clock.now()))
    await clock.advance(599)
    expect(at).toBeUndefined()
    await clock.advance(1)
    await taken
    expect(at).toBe(600)
  })

  test('takes back what was not used, and the next goes at once', async () => {
    const clock = new VirtualClock()
    const bucket = new TokenBucket({ bytesPerSecond: 1000, burstBytes: 500, clock })
    await bucket.take(100_000)
    const next = bucket.take(500)
    bucket.giveBack(100_000)
    await next
    expect(clock.now()).toBe(0)
  })

  test('who gives up makes way for who comes after', async () => {
    const clock = new VirtualClock()
    const bucket = new TokenBucket({ bytesPerSecond: 1000, burstBytes: 500, clock })
    await bucket.take(500)
    const abort = new AbortController()
    const large = bucket.take(500, abort.signal)
    const small = bucket.take(100)
    abort.abort(new Error('enough'))
    await expect(large).rejects.toThrow('enough')
    await clock.advance(100)
    await small
    expect(bucket.waiting).toBe(0)
  })

  test('a clock that is set back stops nothing for ever', async () => {
    let now = 1e6
    const bucket = new TokenBucket({
      bytesPerSecond: 1000,
      burstBytes: 500,
      clock: {
        now: () => now,
        steady: () => now,
        sleep: async (ms) => {
          now += ms
        },
      },
    })
    await bucket.take(500)
    now -= 1e6
    await bucket.take(500)
    expect(now).toBeLessThan(1000)
  })

  test('a rate of nothing is refused', () => {
    for (const bytesPerSecond of [0, -1, Number.NaN]) {
      expect(() => new TokenBucket({ bytesPerSecond, clock: new VirtualClock() })).toThrow(RangeError)
    }
  })
})
