import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { addShares, clippingFactors, type DecodedTensor, sharesOf } from './aggregate.ts'

const tensorOf = (...values: number[]): DecodedTensor => ({
  addScaled: (target, weight) => {
    values.forEach((value, i) => {
      target[i]! += weight * value
    })
  },
  squaredNorm: () => values.reduce((sum, value) => sum + value * value, 0),
})

const clipped = { clipToMedianNorm: true }
const unclipped = { clipToMedianNorm: false }

describe('clipping to the median norm', () => {
  test('scales what is longer than the median down to it, and nothing up', () => {
    expect(clippingFactors([tensorOf(3, 4), tensorOf(0, 1), tensorOf(0, 50)], clipped)).toEqual([1, 1, 0.1])
  })

  test('takes the mean of the middle two of an even number', () => {
    const factors = clippingFactors([tensorOf(1), tensorOf(2), tensorOf(4), tensorOf(30)], clipped)
    expect(factors).toEqual([1, 1, 0.75, 0.1])
  })

  test('needs three contributions', () => {
    expect(clippingFactors([tensorOf(1), tensorOf(1000)], clipped)).toEqual([1, 1])
  })

  test('leaves zeros alone', () => {
    expect(clippingFactors([tensorOf(0), tensorOf(0), tensorOf(0)], clipped)).toEqual([1, 1, 1])
    expect(clippingFactors([tensorOf(0), tensorOf(0), tensorOf(5)], clipped)).toEqual([1, 1, 0])
  })

  test('gives the same bits as no clipping when all norms are equal', () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 }), {
          minLength: 1,
          maxLength: 9,
        }),
        fc.array(fc.integer({ min: 1, max: 1e6 }), { minLength: 3, maxLength: 6 }),
        (values, weights) => {
          const tensors = weights.map((_, i) =>
            tensorOf(...values.map((value) => (i % 2 === 0 ? value : -value))),
          )
          const shares = sharesOf(weights.map((weight) => ({ peer: '', update: null, weight })))
          const sum = (context: typeof clipped): Float64Array => {
            const target = new Float64Array(values.length)
            addShares(target, tensors, shares, context)
            return target
          }
          expect(sum(clipped)).toEqual(sum(unclipped))
        },
      ),
    )
  })
})

test('shares are parts of the whole weight', () => {
  expect(sharesOf([1, 3, 4].map((weight) => ({ peer: '', update: null, weight })))).toEqual([
    0.125, 0.375, 0.5,
  ])
})
