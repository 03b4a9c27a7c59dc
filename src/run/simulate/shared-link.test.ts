import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SharedLink, type Transfer } from './shared-link.ts'

/** Runs a link until `untilMs` and notes when each transfer ends. */
function run(link: SharedLink, ends: number[], untilMs = Number.POSITIVE_INFINITY): void {
  while (link.nextEndMs <= untilMs && link.active > 0) {
    for (const transfer of link.takeEnded(link.nextEndMs)) transfer.done()
  }
  expect(ends.length).toBeGreaterThanOrEqual(0)
}

describe('a shared link', () => {
  test('gives one transfer what the narrower of its two ends takes', () => {
    const ends: number[] = []
    const wide = new SharedLink(1_000_000)
    wide.start(0, 50_000, 100_000, () => ends.push(1))
    expect(wide.nextEndMs).toBeCloseTo(500)
    const narrow = new SharedLink(10_000)
    narrow.start(0, 50_000, 100_000, () => ends.push(2))
    expect(narrow.nextEndMs).toBeCloseTo(5000)
  })

  test('shares equally, and gives what a slow one cannot use to the others', () => {
    const link = new SharedLink(100_000)
    const ended: string[] = []
    link.start(0, 10_000, 10_000, () => ended.push('slow')) // 1 s at its own 10 kB/s
    link.start(0, 45_000, 1e9, () => ended.push('a')) // 45 kB/s each for the two others
    link.start(0, 90_000, 1e9, () => ended.push('b'))
    expect(link.nextEndMs).toBeCloseTo(1000)
    for (const each of link.takeEnded(1000)) each.done()
    expect(ended.toSorted()).toEqual(['a', 'slow'])
    expect(link.nextEndMs).toBeCloseTo(1450) // the last 45 kB with all of the link
  })

  test('says how much had passed of a transfer that was broken off', () => {
    const link = new SharedLink(1000)
    const transfer = link.start(0, 1000, 1e9, () => {})
    expect(link.cancel(250, transfer)).toBeCloseTo(250)
    expect(link.active).toBe(0)
  })

  test('ends every transfer when step-by-step integration of the fair shares ends it', () => {
    const transfers = fc.array(
      fc.record({
        startMs: fc.integer({ min: 0, max: 50 }),
        bytes: fc.integer({ min: 1, max: 5000 }),
        rate: fc.integer({ min: 1000, max: 200_000 }),
      }),
      { minLength: 1, maxLength: 12 },
    )
    fc.assert(
      fc.property(transfers, fc.integer({ min: 1000, max: 300_000 }), (given, capacity) => {
        const starts = given.toSorted((a, b) => a.startMs - b.startMs)
        const link = new SharedLink(capacity)
        const ends = new Map<number, number>()
        let now = 0
        const advance = (untilMs: number): void => {
          while (link.nextEndMs <= untilMs) {
            now = link.nextEndMs
            for (const each of link.takeEnded(now)) each.done()
          }
          now = untilMs
        }
        starts.forEach(({ startMs, bytes, rate }, i) => {
          advance(startMs)
          link.start(startMs, bytes, rate, () => ends.set(i, now))
        })
        advance(Number.MAX_VALUE)
        expect(ends.size).toBe(starts.length)
        const expected = integrate(starts, capacity)
        for (const [i, endMs] of expected.entries()) expect(ends.get(i)! / endMs).toBeCloseTo(1, 6)
      }),
    )
  })

  test('keeps no trace of ten thousand transfers that have ended', () => {
    const link = new SharedLink(1_000_000)
    const live: Transfer[] = []
    for (let i = 0; i < 10_000; i++) {
      live.push(link.start(i, 1000 + i, 1000 + ((i * 7919) % 5000), () => {}))
      if (live.length > 20) link.cancel(i, live.shift()!)
    }
    expect(link.active).toBe(20)
    expect(link.waitingEntries).toBeLessThan(1000)
  })

  test('ends at once what has nothing to send', () => {
    const ends: number[] = []
    const link = new SharedLink(1000)
    link.start(5, 0, 1000, () => ends.push(5))
    run(link, ends, 5)
    expect(ends).toEqual([5])
  })
})

/** When each ends, by water-filling at every start and end. */
function integrate(
  starts: readonly { startMs: number; bytes: number; rate: number }[],
  capacity: number,
): number[] {
  const left = starts.map(({ bytes }) => bytes)
  const ends = starts.map(() => Number.NaN)
  let now = 0
  while (ends.some(Number.isNaN)) {
    const active = starts.flatMap(({ startMs }, i) => (startMs <= now && left[i]! > 0 ? [i] : []))
    const paces = new Map<number, number>()
    let spare = capacity / 1000
    const byRate = active.toSorted((a, b) => starts[a]!.rate - starts[b]!.rate)
    byRate.forEach((i, place) => {
      const pace = Math.min(starts[i]!.rate / 1000, spare / (byRate.length - place))
      paces.set(i, pace)
      spare -= pace
    })
    const nextStart = Math.min(
      ...starts.map(({ startMs }) => (startMs > now ? startMs : Number.POSITIVE_INFINITY)),
    )
    const next = Math.min(nextStart, ...active.map((i) => now + left[i]! / paces.get(i)!))
    for (const i of active) {
      left[i] = left[i]! - paces.get(i)! * (next - now)
      if (left[i]! > 1e-6) continue
      left[i] = 0
      ends[i] = next
    }
    now = next
  }
  return ends
}
