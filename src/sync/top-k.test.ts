import fc from 'fast-check'
import { expect, test } from 'vitest'
import { TopK } from './top-k.ts'

const topK = new TopK(4096)

test('the largest magnitudes, of equal ones the earlier, in ascending places', () => {
  const value = fc.oneof(
    fc.float({ noNaN: true, noDefaultInfinity: true }),
    fc.constantFrom(0, -0, 1, -1, 0.5),
  )
  fc.assert(
    fc.property(
      fc.array(value, { minLength: 1, maxLength: 300 }),
      fc.integer({ min: 1, max: 80 }),
      (array, wanted) => {
        const values = Float32Array.from(array)
        const count = Math.min(wanted, values.length)
        const expected = [...values.keys()]
          .sort((a, b) => Math.abs(values[b]!) - Math.abs(values[a]!) || a - b)
          .slice(0, count)
          .sort((a, b) => a - b)
        const chosen = new Uint16Array(count)
        topK.select(values, values.length, count, chosen, 0)
        expect([...chosen]).toEqual(expected)
      },
    ),
    { numRuns: 500 },
  )
})
