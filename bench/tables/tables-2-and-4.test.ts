/** Tables 2 and 4: times to a loss, and what is read off a sweep of outer settings. */
import { describe, expect, test } from 'vitest'
import { defaultShape } from './loss.ts'
import type { TrainingCell } from './loss-cells.ts'
import { outerGrid, outerMarkdown } from './outer.ts'
import { bestGaps, type Gap, publishedShape } from './outer-gaps.ts'
import { methodCase } from './settings.ts'
import type { TrainingKey, TrainingValue } from './training-cell.ts'
import { type ClockRow, clockRow, type Timing, timeToLoss, worstEnd } from './wallclock.ts'

const provenance = { date: '2026-01-01T00:00Z', machine: 'a machine', commit: 'abc' }

function cell(
  key: Partial<TrainingKey>,
  losses: readonly number[],
  value: Partial<TrainingValue> = {},
): TrainingCell {
  const { sync, optimiser } = methodCase('diloco')
  return {
    key: {
      ...{
        method: 'diloco',
        sync,
        optimiser,
        bits: 'bits',
        model: '0.4M',
        text: 'text',
        replicas: 1,
        seed: 1,
      },
      ...{ shape: defaultShape, ...key },
    },
    value: {
      losses: losses.map((loss, i) => ({ tokens: (i + 1) * 10_240, loss })),
      ...{ parameters: 400_000, rounds: losses.length, steps: 10 * losses.length },
      ...{ bytesPerParameterPerRound: 1, bytesPerPeer: 400_000 * losses.length, seconds: 1, ...value },
    },
    provenance,
  }
}

describe('the time to a loss', () => {
  const curve = [
    { seconds: 10, loss: 5 },
    { seconds: 20, loss: 3 },
    { seconds: 30, loss: 3.5 },
  ]
  test('lies between the points around it', () => {
    expect(timeToLoss(curve, 4)).toBe(15)
    expect(timeToLoss(curve, 3)).toBe(20)
    expect(timeToLoss(curve, 6)).toBe(10)
    expect(timeToLoss(curve, 2.9)).toBeUndefined()
  })

  test('is asked for a loss that every method reaches', () => {
    expect(worstEnd([cell({}, [5, 3]), cell({}, [6, 4, 4.2])])).toBe(4)
  })

  test('grows as lines get slower by what travels, computing and bytes being the same', async () => {
    const cost = {
      bitsPerParameter: 8,
      encode: 0,
      decode: 0,
      add: 0,
      outerStep: 0,
      stateBytesPerParameter: 8,
    }
    const timing: Timing = { stepSeconds: 0.1, cost }
    const group = [cell({ replicas: 4 }, [5, 4, 3, 2])]
    const rows = [100, 1].map((megabits) => clockRow(group, { replicas: 4, megabits, timing, goal: 2 }))
    const [fast, slow] = await Promise.all(rows)
    expect(fast!.curve).toHaveLength(4)
    // 4 rounds of 10 steps, and little else.
    expect(fast!.secondsToLoss).toBeGreaterThan(4)
    expect(fast!.secondsToLoss).toBeLessThan(6)
    // 3.2 Mb up, and three times that down, in each round.
    expect(slow!.secondsToLoss! - fast!.secondsToLoss!).toBeGreaterThan(3 * (3.2 + 3 * 3.2))
    expect(slow!.computing).toBeLessThan(fast!.computing)
  })
})

describe('the times of several seeds', () => {
  const cost = { bitsPerParameter: 8, encode: 0, decode: 0, add: 0, outerStep: 0, stateBytesPerParameter: 8 }
  const row = (goal: number): Promise<ClockRow> =>
    clockRow(
      [
        cell({ seed: 1 }, [5, 4, 3, 2]),
        cell({ seed: 2 }, [5, 4, 2, 1]),
        cell({ seed: 3 }, [5, 4.5, 4.2, 4.1]),
      ],
      { replicas: 1, megabits: 100, timing: { stepSeconds: 0.1, cost }, goal },
    )

  test('give their median, and the one that never gets there is the last', async () => {
    const { bySeed, secondsToLoss } = await row(2)
    expect(bySeed.map(({ seed }) => seed)).toEqual([1, 2, 3])
    expect(bySeed[1]!.seconds).toBeLessThan(bySeed[0]!.seconds!)
    expect(bySeed[2]!.seconds).toBeNull()
    expect(secondsToLoss).toBe(bySeed[0]!.seconds)
  })

  test('give none where most never get there', async () => {
    expect((await row(1)).secondsToLoss).toBeNull()
  })
})

describe('a sweep of outer settings', () => {
  const [mild, harsh] = outerGrid([10], [0.7], [0.6, 0.9])
  const parallel = methodCase('data-parallel')
  const cells = [
    cell({ method: 'data-parallel', sync: parallel.sync }, [2]),
    cell({ sync: mild! }, [1.98]),
    cell({ sync: harsh! }, [2.2]),
    cell({ sync: mild!, replicas: 4 }, [2.1]),
    cell({ sync: harsh!, replicas: 4 }, [2.3]),
  ]

  test('has every combination once', () => {
    const grid = outerGrid([10, 30], [0.4, 0.7, 1], [0, 0.9])
    expect(grid).toHaveLength(12)
    expect(new Set(grid.map((each) => JSON.stringify(each))).size).toBe(12)
  })

  test('takes the best settings of each, against data parallelism with the same seed and model', () => {
    const gaps = bestGaps(cells)
    expect(gaps.map(({ replicas, outerMomentum }) => [replicas, outerMomentum])).toEqual([
      [1, 0.6],
      [4, 0.6],
    ])
    expect(gaps[0]!.gap).toBeCloseTo(-0.01, 12)
    expect(gaps[1]!.gap).toBeCloseTo(0.05, 12)
    expect(outerMarkdown(cells, { there: 5, of: 9 })).toContain(
      'One replica beats data parallelism: in 1 of 1 comparisons: shows.',
    )
  })

  test('chooses among settings with the most seeds, by the median of their gaps', () => {
    const more = [
      ...cells,
      cell({ method: 'data-parallel', sync: parallel.sync, seed: 2 }, [2.2]),
      cell({ sync: harsh!, replicas: 4, seed: 2 }, [2.31]),
    ]
    const [single, four] = bestGaps(more)
    expect(single!.gaps.size).toBe(1)
    expect(four!.outerMomentum).toBe(0.9) // the other is better, with one seed
    expect(four!.gap).toBeCloseTo((0.15 + 0.05) / 2, 12)
    const markdown = outerMarkdown(more, { there: 7, of: 9 })
    expect(markdown).toContain(
      '| 0.4M | 4 | 10 | 2.305 (2.300–2.310) | +10.00 % (+5.00 to +15.00) | 0.7 / 0.9 | 2 |',
    )
    expect(markdown).toContain('7 of the 9 runs')
  })

  test('counts a sign seed by seed, too, where both sides have the seed', () => {
    const gap = (replicas: number, gaps: readonly (readonly [number, number])[], middle: number): Gap => ({
      ...{ model: 'm', parameters: 1, replicas, innerSteps: 10, outerLearningRate: 0.7, outerMomentum: 0.6 },
      ...{ losses: new Map(), gaps: new Map(gaps), gap: middle },
    })
    const one = gap(
      1,
      [
        [1, -0.01],
        [2, 0.01],
        [3, -0.02],
      ],
      -0.01,
    )
    const two = gap(
      2,
      [
        [1, -0.02],
        [2, 0.03],
      ],
      0.005,
    )
    const [beats, grows] = publishedShape([one, two])
    expect(beats).toMatchObject({ holds: 1, of: 1, seedsHold: 2, seedsOf: 3 })
    expect(grows).toMatchObject({ holds: 1, of: 1, seedsHold: 1, seedsOf: 2 })
  })

  test('says how often the published shape shows, and compares neighbours only', () => {
    const gap = (parameters: number, replicas: number, value: number): Gap => ({
      ...{ model: String(parameters), parameters, replicas, innerSteps: 10 },
      ...{ outerLearningRate: 0.7, outerMomentum: 0.6, losses: new Map() },
      ...{ gaps: new Map([[1, value]]), gap: value },
    })
    const gaps = [
      gap(1, 1, -0.01),
      gap(1, 2, 0.02),
      gap(1, 4, 0.01),
      gap(2, 1, 0.01),
      gap(2, 2, 0.015),
      gap(2, 4, 0.03),
    ]
    expect(publishedShape(gaps).map(({ holds, of }) => [holds, of])).toEqual([
      [1, 2],
      [3, 4],
      [1, 2],
    ])
  })
})
