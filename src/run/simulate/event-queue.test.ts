import fc from 'fast-check'
import { expect, test } from 'vitest'
import { EventQueue } from './event-queue.ts'

test('gives what was put in by time, and at one time in the order of putting in', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.boolean())), (pushes) => {
      const queue = new EventQueue<number>()
      const expected: { atMs: number; value: number }[] = []
      const next = (): void => {
        const first = expected.toSorted((a, b) => a.atMs - b.atMs || a.value - b.value)[0]
        if (first !== undefined) expected.splice(expected.indexOf(first), 1)
        const got = queue.pop()
        expect(got && { atMs: got.atMs, value: got.value }).toEqual(first)
      }
      for (const [value, [atMs, alsoPop]] of pushes.entries()) {
        queue.push(atMs, value)
        expected.push({ atMs, value })
        if (alsoPop) next()
      }
      while (expected.length > 0) next()
      expect(queue.pop()).toBeUndefined()
      expect(queue.nextMs).toBe(Number.POSITIVE_INFINITY)
    }),
  )
})

test('keeps the order of those that stay when some are thrown out', () => {
  const queue = new EventQueue<number>()
  for (let value = 0; value < 20; value++) queue.push(value % 3, value)
  const even = queue.filter((value) => value % 2 === 0)
  const order: number[] = []
  for (let entry = even.pop(); entry !== undefined; entry = even.pop()) order.push(entry.value)
  expect(order).toEqual([0, 6, 12, 18, 4, 10, 16, 2, 8, 14])
})
