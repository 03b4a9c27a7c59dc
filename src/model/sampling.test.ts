import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { seededRandom } from '../core/index.ts'
import { type SamplingSettings, sample } from './sampling.ts'

const logitsOf = (probabilities: number[]): Float32Array => Float32Array.from(probabilities, Math.log)

/** How often each token is drawn. */
function frequencies(logits: Float32Array, settings: SamplingSettings, draws = 20_000): number[] {
  const random = seededRandom('sampling', 1)
  const counts = new Array<number>(logits.length).fill(0)
  for (let i = 0; i < draws; i++) counts[sample(logits, { ...settings, random })]! += 1
  return counts.map((count) => count / draws)
}

const expectClose = (found: number[], expected: number[]): void => {
  for (const [token, probability] of expected.entries()) {
    if (probability === 0) expect(found[token]).toBe(0)
    else expect(Math.abs(found[token]! - probability)).toBeLessThan(0.015)
  }
}

const logits = logitsOf([0.1, 0.4, 0.2, 0.3])

describe('sampling', () => {
  test('draws with the probabilities of the softmax', () => {
    expectClose(frequencies(logits, {}), [0.1, 0.4, 0.2, 0.3])
  })

  test('temperature 0 takes the most likely, the lowest id among equals', () => {
    const random = seededRandom('unused')
    expect(sample(logits, { temperature: 0, random })).toBe(1)
    expect(sample(Float32Array.of(1, 2, 2), { temperature: 0, random })).toBe(1)
  })

  test('temperature 1/2 squares the probabilities', () => {
    const squares = [0.01, 0.16, 0.04, 0.09].map((square) => square / 0.3)
    expectClose(frequencies(logits, { temperature: 0.5 }), squares)
  })

  test('top-k keeps the k most likely', () => {
    expectClose(frequencies(logits, { topK: 2 }), [0, 4 / 7, 0, 3 / 7])
    expectClose(frequencies(logits, { topK: 100 }), [0.1, 0.4, 0.2, 0.3])
  })

  test('top-p keeps the most likely up to the one that reaches p', () => {
    expectClose(frequencies(logits, { topP: 0.5 }), [0, 4 / 7, 0, 3 / 7])
    expectClose(frequencies(logits, { topP: 0.8 }), [0, 4 / 9, 2 / 9, 3 / 9])
    expectClose(frequencies(logits, { topP: 0 }), [0, 1, 0, 0])
  })

  test('top-p counts what top-k has left', () => {
    // Of 4/7 and 3/7 the first alone reaches one half.
    expectClose(frequencies(logits, { topK: 2, topP: 0.5 }), [0, 1, 0, 0])
  })

  test('forbidden tokens are never drawn', () => {
    const some = Float32Array.of(0, Number.NEGATIVE_INFINITY, 0)
    expectClose(frequencies(some, {}), [0.5, 0, 0.5])
    expectClose(frequencies(some, { topP: 0.99 }), [0.5, 0, 0.5])
  })

  test('the same seed draws the same tokens, and every token is one of the vocabulary', () => {
    fc.assert(
      fc.property(
        fc.float32Array({ minLength: 1, maxLength: 40, noNaN: true, noDefaultInfinity: true }),
        fc.record({
          temperature: fc.double({ min: 0, max: 4, noNaN: true }),
          topK: fc.integer({ min: 1, max: 50 }),
          topP: fc.double({ min: 0, max: 1, noNaN: true }),
        }),
        fc.nat(),
        (any, settings, seed) => {
          const draw = (): number => sample(any, { ...settings, random: seededRandom(seed) })
          expect(draw()).toBe(draw())
          expect(any[draw()]).toBeDefined()
        },
      ),
    )
  })

  test.each([
    ['NaN', [0, Number.NaN, 1]],
    ['infinity', [0, Number.POSITIVE_INFINITY]],
    ['nothing possible', [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]],
  ])('logits with %s are refused', (_what, values) => {
    expect(() => sample(Float32Array.from(values), { random: seededRandom(1) })).toThrow(/not finite/)
  })

  test.each([
    { temperature: -1 },
    { temperature: Number.NaN },
    { topK: 0 },
    { topK: 1.5 },
    { topP: 1.1 },
    { topP: -0.1 },
  ])('settings %o are refused', (settings) => {
    expect(() => sample(logits, { ...settings, random: seededRandom(1) })).toThrow(/must/)
  })
})
