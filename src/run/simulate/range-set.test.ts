import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RangeSet } from './range-set.ts'

test('holds what a set of numbers would hold, as the fewest ranges', () => {
  const range = fc.tuple(fc.nat(40), fc.integer({ min: 1, max: 6 }))
  fc.assert(
    fc.property(fc.array(range, { maxLength: 30 }), (ranges) => {
      const set = new RangeSet()
      const numbers = new Set<number>()
      for (const [start, length] of ranges) {
        const added = Array.from({ length }, (_, i) => start + i)
        const free = added.every((number) => !numbers.has(number))
        expect(set.add({ start, end: start + length })).toBe(free)
        if (free) for (const number of added) numbers.add(number)
      }
      const held = set.ranges.flatMap(({ start, end }) =>
        Array.from({ length: end - start }, (_, i) => start + i),
      )
      expect(held).toEqual([...numbers].toSorted((a, b) => a - b))
      set.ranges.forEach(({ start }, i) => {
        if (i > 0) expect(start).toBeGreaterThan(set.ranges[i - 1]!.end)
      })
    }),
  )
})
