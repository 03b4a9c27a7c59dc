import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type LearningRateSchedule, learningRateAt } from './schedule.ts'
import { defaultTrainingSettings, scheduleOf, trainingSchema } from './settings.ts'

const learningRates = (schedule: LearningRateSchedule, steps: number): number[] =>
  Array.from({ length: steps }, (_, step) => learningRateAt(schedule, step))

const rounded = (rates: number[]): number[] => rates.map((rate) => Math.round(rate * 100) / 100)

describe('published shapes', () => {
  // Expected values of transformers' own tests of its schedules (tests/optimization/test_optimization.py):
  // peak 10, 2 steps of warm-up, 10 steps in all. Its warm-up starts at 0; after it the curves are the same.
  test('cosine', () => {
    const schedule: LearningRateSchedule = {
      kind: 'cosine',
      peak: 10,
      floor: 0,
      warmupSteps: 2,
      totalSteps: 10,
    }
    const rates = rounded(learningRates(schedule, 10))
    expect(rates.slice(2)).toEqual([10, 9.62, 8.54, 6.91, 5, 3.09, 1.46, 0.38])
    expect(rates.slice(0, 2)).toEqual([5, 10])
  })

  test('warm-up, stable, decay', () => {
    const schedule: LearningRateSchedule = {
      kind: 'wsd',
      peak: 10,
      floor: 1,
      warmupSteps: 2,
      totalSteps: 10,
      decaySteps: 2,
      decayShape: 'linear',
    }
    expect(rounded(learningRates(schedule, 11)).slice(2)).toEqual([10, 10, 10, 10, 10, 10, 10, 5.5, 1])
  })

  test('the 1 − √ decay falls fastest at its start', () => {
    const schedule: LearningRateSchedule = {
      kind: 'wsd',
      peak: 1,
      floor: 0,
      warmupSteps: 0,
      totalSteps: 104,
      decaySteps: 4,
      decayShape: 'one-minus-sqrt',
    }
    const tail = [100, 101, 102, 103, 104].map((step) => learningRateAt(schedule, step))
    expect(tail[0]).toBe(1)
    expect(tail[1]).toBeCloseTo(1 - Math.sqrt(1 / 4), 12)
    expect(tail[2]).toBeCloseTo(1 - Math.sqrt(1 / 2), 12)
    expect(tail[4]).toBe(0)
  })

  test('constant', () => {
    expect(learningRates({ kind: 'constant', peak: 3, warmupSteps: 3 }, 5)).toEqual([1, 2, 3, 3, 3])
  })
})

test('every schedule stays between its floor and its peak, rises only in the warm-up, and ends at the floor', () => {
  const settings = fc.record({
    kind: fc.constantFrom('cosine' as const, 'wsd' as const, 'constant' as const),
    warmupSteps: fc.nat(50),
    finalFraction: fc.double({ min: 0, max: 1, noNaN: true }),
    decaySteps: fc.nat(100),
    decayShape: fc.constantFrom('linear' as const, 'one-minus-sqrt' as const),
  })
  fc.assert(
    fc.property(settings, fc.integer({ min: 1, max: 300 }), (schedule, steps) => {
      const base = defaultTrainingSettings()
      const absolute = scheduleOf({ ...base, steps, schedule })
      const peak = base.optimiser.learningRate
      const floor = schedule.kind === 'constant' ? peak : peak * schedule.finalFraction
      const rates = learningRates(absolute, steps + 60)
      for (const [step, rate] of rates.entries()) {
        expect(rate).toBeGreaterThanOrEqual(0)
        expect(rate).toBeLessThanOrEqual(peak * (1 + 1e-12))
        if (step > schedule.warmupSteps) expect(rate).toBeLessThanOrEqual(rates[step - 1]! * (1 + 1e-12))
      }
      const end = Math.max(steps, schedule.warmupSteps)
      expect(rates[end]!).toBeCloseTo(floor, 12)
    }),
  )
})

describe('settings', () => {
  test('fill in what is not said, and refuse what they do not know', () => {
    const settings = trainingSchema.parse({ steps: 30, optimiser: { learningRate: 2e-3 } })
    expect(settings.steps).toBe(30)
    expect(settings.optimiser).toMatchObject({ learningRate: 2e-3, beta1: 0.9, beta2: 0.95, clipNorm: 1 })
    expect(settings.optimiser.decayNorms).toBe(false)
    expect(trainingSchema.safeParse({ optimiser: { momentum: 0.9 } }).success).toBe(false)
    expect(trainingSchema.safeParse({ batchSize: 0 }).success).toBe(false)
    expect(trainingSchema.safeParse({ optimiser: { beta2: 1 } }).success).toBe(false)
  })
})
