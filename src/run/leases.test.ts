import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  boundedSpeed,
  countBatches,
  dispense,
  measuredSpeed,
  medianSpeed,
  noBatches,
  refillPool,
  returnBatches,
  splitRanges,
  stepsFor,
} from './leases.ts'
import { type BatchRange, reducerLimits } from './state.ts'

const numbers = (ranges: Iterable<BatchRange>): number[] =>
  [...ranges].flatMap(({ start, end }) => Array.from({ length: end - start }, (_, i) => start + i))

/** Ranges that are apart, not empty, and in any order. */
const scattered = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 1, max: 6 })), { maxLength: 60 })
  .chain((steps) => {
    let at = 0
    const ranges = steps.map(([gap, length]) => {
      const start = at + gap
      at = start + length
      return { start, end: at }
    })
    return fc
      .shuffledSubarray(ranges, { minLength: ranges.length })
      .map((shuffled) => ({ ranges: shuffled, end: at }))
  })

describe('batches', () => {
  test('that come back are one sorted pool, neighbours joined', () => {
    fc.assert(
      fc.property(scattered, ({ ranges, end }) => {
        const { pool, returned } = refillPool(returnBatches({ ...noBatches, next: end }, ranges))
        expect(returned.isEmpty()).toBe(true)
        expect(numbers(pool)).toEqual(numbers(ranges).sort((a, b) => a - b))
        for (const [i, range] of pool.entries())
          if (i > 0) expect(range.start).toBeGreaterThan(pool[i - 1]!.end)
      }),
    )
  })

  test('are given out lowest first, each once, in a few ranges', () => {
    fc.assert(
      fc.property(scattered, fc.array(fc.integer({ min: 1, max: 40 })), ({ ranges, end }, wanted) => {
        const before = refillPool(returnBatches({ ...noBatches, next: end }, ranges))
        const dispenser = dispense(before)
        const leases = wanted.map((steps) => dispenser.take(steps))
        const after = dispenser.rest()
        for (const [i, lease] of leases.entries()) {
          expect(countBatches(lease)).toBe(wanted[i])
          expect(lease.length).toBeLessThanOrEqual(reducerLimits.maxLeaseRanges)
        }
        const all = [...leases.flat(), ...after.pool]
        const fresh = { start: end, end: after.next }
        expect(numbers(all).sort((a, b) => a - b)).toEqual([...numbers(before.pool), ...numbers([fresh])])
        // What came from the pool is its beginning.
        const taken = numbers(leases.flat()).filter((batch) => batch < end)
        expect(taken).toEqual(numbers(before.pool).slice(0, taken.length))
      }),
    )
  })

  test('of a lease are split where its peer stopped', () => {
    fc.assert(
      fc.property(scattered, fc.nat(300), ({ ranges }, count) => {
        const [first, rest] = splitRanges(ranges, count)
        expect(numbers(first)).toEqual(numbers(ranges).slice(0, count))
        expect([...numbers(first), ...numbers(rest)]).toEqual(numbers(ranges))
        for (const { start, end } of [...first, ...rest]) expect(end).toBeGreaterThan(start)
      }),
    )
  })

  test('in more ranges than the pool may have are given up, the fewest that can be', () => {
    const { maxPoolRanges } = reducerLimits
    const ranges = Array.from({ length: maxPoolRanges + 10 }, (_, i) => ({
      start: 10 * i,
      end: 10 * i + (i % 100 === 0 ? 1 : 2),
    }))
    const { pool, skipped } = refillPool(returnBatches(noBatches, ranges))
    expect(pool).toHaveLength(maxPoolRanges)
    expect(skipped).toBe(10)
    expect(pool).toEqual(pool.toSorted((a, b) => a.start - b.start))
    expect(refillPool(returnBatches(noBatches, ranges.slice(10)))).toMatchObject({ skipped: 0 })
  })
})

describe('inner steps', () => {
  const speed = fc.double({ min: 1e-3, max: 1e3, noNaN: true })
  const settings = { innerSteps: 100, maximumSpeedup: 4 }

  test('are in proportion to speed: the median peer does H, none more than the allowed times as many', () => {
    fc.assert(
      fc.property(fc.array(speed, { minLength: 1, maxLength: 20 }), (speeds) => {
        const median = medianSpeed(speeds)!
        expect(speeds).toContain(median)
        expect(stepsFor(median, median, settings)).toBe(100)
        for (const each of speeds) {
          const steps = stepsFor(each, median, settings)
          const exact = Math.min(400, Math.max(1, (100 * each) / median))
          expect(Math.abs(steps - exact)).toBeLessThanOrEqual(0.5)
        }
      }),
    )
  })

  test('of whom nothing is known are those of the median peer', () => {
    expect(medianSpeed([null, null])).toBeNull()
    expect(stepsFor(null, null, settings)).toBe(100)
    expect(stepsFor(null, 7, settings)).toBe(100)
    expect(medianSpeed([null, 3, null, 1, 2])).toBe(2)
  })

  test('of an honest peer do not vanish because the other of two boasts', () => {
    const median = medianSpeed([2, boundedSpeed(Number.MAX_VALUE)])
    expect(stepsFor(2, median, settings)).toBe(100)
    expect(stepsFor(boundedSpeed(Number.MAX_VALUE), median, settings)).toBe(400)
  })

  test('are whole numbers within bounds for every speed that can be said or measured', () => {
    const any = fc.oneof(
      fc.double({ min: Number.MIN_VALUE, max: Number.MAX_VALUE, noNaN: true }),
      fc.constant(null),
    )
    fc.assert(
      fc.property(fc.array(any, { minLength: 1 }), fc.integer({ min: 1, max: 1e6 }), (said, innerSteps) => {
        const speeds = said.map((each) => (each === null ? null : boundedSpeed(each)))
        const median = medianSpeed(speeds)
        for (const each of speeds) {
          const steps = stepsFor(each, median, { innerSteps, maximumSpeedup: 64 })
          expect(Number.isSafeInteger(steps)).toBe(true)
          expect(steps).toBeGreaterThanOrEqual(1)
          expect(steps).toBeLessThanOrEqual(64 * innerSteps)
        }
      }),
    )
    expect(measuredSpeed(1e9, 0)).toBe(1e6)
    expect(measuredSpeed(1, Number.MAX_VALUE)).toBe(1e-6)
    expect(measuredSpeed(10, 2000)).toBe(5)
  })
})
