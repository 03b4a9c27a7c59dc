import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type BatchOptions,
  batchAt,
  batchNumbered,
  batchWindows,
  validationBatches,
  windowCount,
} from './index.ts'
import { shuffle } from './shuffle.ts'

/** Tokens that say where they stand. */
const counting = (length: number): Uint32Array => Uint32Array.from({ length }, (_, i) => i)

/** The windows of a replica in order, over so many steps. */
const visited = (tokens: number, options: Omit<BatchOptions, 'step'>, steps: number): number[] =>
  Array.from({ length: steps }, (_, step) => batchWindows(tokens, { ...options, step })).flat()

const setup = fc
  .record({
    seed: fc.nat(),
    windows: fc.integer({ min: 1, max: 200 }),
    replicas: fc.integer({ min: 1, max: 7 }),
    batchSize: fc.integer({ min: 1, max: 9 }),
    sequenceLength: fc.integer({ min: 1, max: 5 }),
  })
  .filter(({ windows, replicas }) => windows >= replicas)

describe('shuffle', () => {
  test('is a permutation of any size, another one for another seed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3000 }), fc.nat(), (size, seed) => {
        const order = shuffle(size, seed)
        const images = Array.from({ length: size }, (_, i) => order(i))
        expect([...images].sort((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i))
      }),
      { numRuns: 50 },
    )
    const first = Array.from({ length: 100 }, (_, i) => shuffle(100, 1)(i))
    expect(Array.from({ length: 100 }, (_, i) => shuffle(100, 2)(i))).not.toEqual(first)
  })

  test('sends every index to every place about equally often', () => {
    const hits = Array.from({ length: 6 }, () => new Array<number>(6).fill(0))
    for (let seed = 0; seed < 3000; seed++) {
      const order = shuffle(6, seed)
      for (let i = 0; i < 6; i++) hits[i]![order(i)]!++
    }
    // 500 expected, standard deviation 20.
    expect(Math.min(...hits.flat())).toBeGreaterThan(400)
    expect(Math.max(...hits.flat())).toBeLessThan(600)
  })
})

describe('batchAt', () => {
  test('each replica visits every window of its share once per epoch, and together they visit all', () => {
    fc.assert(
      fc.property(setup, ({ seed, windows, replicas, batchSize, sequenceLength }) => {
        const tokens = windows * sequenceLength + 1
        const all: number[] = []
        for (let replica = 0; replica < replicas; replica++) {
          const share = Math.floor((windows - replica - 1) / replicas) + 1
          const options = { seed, replica, replicas, batchSize, sequenceLength }
          const seen = visited(tokens, options, Math.ceil((2 * share) / batchSize))
          const first = seen.slice(0, share)
          expect(new Set(first).size).toBe(share)
          expect(new Set(seen.slice(share, 2 * share))).toEqual(new Set(first))
          all.push(...first)
        }
        expect(all.sort((a, b) => a - b)).toEqual(Array.from({ length: windows }, (_, i) => i))
      }),
    )
  })

  test('a row is a window and the token behind it', () => {
    const options = { seed: 1, step: 4, replica: 1, replicas: 3, batchSize: 5, sequenceLength: 8 }
    const windows = batchWindows(1000, options)
    const batch = batchAt({ trainTokens: counting(1000) }, options)
    expect(batch).toHaveLength(5 * 9)
    for (const [row, window] of windows.entries()) {
      expect([...batch.slice(row * 9, row * 9 + 9)]).toEqual(
        Array.from({ length: 9 }, (_, i) => window * 8 + i),
      )
    }
  })

  test('depends on nothing but its arguments: any step can be asked for first', () => {
    const dataset = { trainTokens: counting(5000) }
    const options = { seed: 9, replica: 0, replicas: 2, batchSize: 4, sequenceLength: 16 }
    const inOrder = Array.from({ length: 60 }, (_, step) => batchAt(dataset, { ...options, step }))
    for (const step of [59, 0, 31]) expect(batchAt(dataset, { ...options, step })).toEqual(inOrder[step])
    expect(batchAt(dataset, { ...options, seed: 10, step: 0 })).not.toEqual(inOrder[0])
  })

  test('the order is drawn afresh in every epoch', () => {
    const options = { seed: 1, replica: 0, replicas: 1, batchSize: 50, sequenceLength: 4 }
    const [first, second] = [0, 1].map((step) => batchWindows(201, { ...options, step }))
    expect(second).not.toEqual(first)
    expect(new Set(second)).toEqual(new Set(first))
  })

  test('too little data for the replicas is refused with the numbers', () => {
    const options = { seed: 0, step: 0, replica: 0, replicas: 4, batchSize: 2, sequenceLength: 100 }
    expect(() => batchAt({ trainTokens: counting(300) }, options)).toThrow(
      'The training data has 300 tokens, which makes 2 windows of 100 + 1; 4 replicas must have at least one each.',
    )
    expect(() => batchAt({ trainTokens: counting(300) }, { ...options, replica: 4 })).toThrow(RangeError)
  })
})

describe('batchNumbered', () => {
  test('goes through all windows once per epoch, whoever takes which number', () => {
    fc.assert(
      fc.property(setup, fc.integer({ min: 1, max: 3 }), (options, epochs) => {
        const { seed, windows, batchSize, sequenceLength } = options
        const dataset = { trainTokens: counting(windows * sequenceLength + 1) }
        const batches = Math.ceil((epochs * windows) / batchSize)
        // From the last to the first: no batch depends on those before it.
        const rows = Array.from({ length: batches }, (_, i) => batches - 1 - i)
          .map((batch) => batchNumbered(dataset, { seed, batch, batchSize, sequenceLength }))
          .reverse()
          .flatMap((batch) =>
            Array.from(
              { length: batchSize },
              (_, row) => batch[row * (sequenceLength + 1)]! / sequenceLength,
            ),
          )
        for (let epoch = 0; epoch < epochs; epoch++) {
          const seen = rows.slice(epoch * windows, (epoch + 1) * windows)
          expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: windows }, (_, i) => i))
        }
      }),
    )
  })

  test('are the batches of one who trains alone', () => {
    const dataset = { trainTokens: counting(5000) }
    const options = { seed: 9, batchSize: 4, sequenceLength: 16 }
    for (const batch of [0, 7, 1_000_000_007]) {
      const alone = batchAt(dataset, { ...options, step: batch, replica: 0, replicas: 1 })
      expect(batchNumbered(dataset, { ...options, batch })).toEqual(alone)
    }
  })

  test('a number that cannot be counted is refused', () => {
    const options = { seed: 9, batchSize: 4, sequenceLength: 16 }
    for (const batch of [-1, 0.5, Number.MAX_SAFE_INTEGER]) {
      expect(() => batchNumbered({ trainTokens: counting(5000) }, { ...options, batch })).toThrow(RangeError)
    }
  })
})

describe('validationBatches', () => {
  const options = { batchSize: 4, sequenceLength: 10 }

  test('are always the same and do not overlap', () => {
    const dataset = { validationTokens: counting(500) }
    const batches = validationBatches(dataset, options)
    expect(batches).toEqual(validationBatches(dataset, options))
    const starts = batches.flatMap((batch) => Array.from({ length: 4 }, (_, row) => batch[row * 11]!))
    expect(starts).toHaveLength(Math.floor(windowCount(500, 10) / 4) * 4)
    expect(new Set(starts).size).toBe(starts.length)
  })

  test('fewer batches are spread over all of the text', () => {
    const [only, ...more] = validationBatches(
      { validationTokens: counting(10_001) },
      { ...options, maxBatches: 1 },
    )
    expect(more).toEqual([])
    expect([0, 1, 2, 3].map((row) => only![row * 11])).toEqual([0, 2500, 5000, 7500])
  })

  test('too few windows for a batch repeat; not even one is refused', () => {
    const [only] = validationBatches({ validationTokens: counting(25) }, options)
    expect([0, 1, 2, 3].map((row) => only![row * 11])).toEqual([0, 10, 0, 10])
    expect(() => validationBatches({ validationTokens: counting(10) }, options)).toThrow(
      /10 tokens.*0 windows/,
    )
  })
})
