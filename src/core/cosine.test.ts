import fc from 'fast-check'
import { expect, test } from 'vitest'
import { cosineOfPi } from './cosine.ts'

test('cosines are those of the library to the last bits', () => {
  fc.assert(
    fc.property(fc.integer({ min: -5000, max: 5000 }), fc.integer({ min: 1, max: 256 }), (m, n) => {
      expect(Math.abs(cosineOfPi(m, n) - Math.cos((Math.PI * m) / n))).toBeLessThan(1e-12)
    }),
  )
})
