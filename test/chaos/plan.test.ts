import fc from 'fast-check'
import { expect, test } from 'vitest'
import { endOfPlan, type FaultKind, faultKinds, mostPeersAway, type PlanOptions, planFaults } from './plan.ts'

const options: PlanOptions = { seed: 1, faults: 200, peers: 4, meanGapMs: 2000 }
const anyOptions = fc.record({
  seed: fc.nat(),
  faults: fc.integer({ min: 1, max: 120 }),
  peers: fc.integer({ min: 1, max: 6 }),
  meanGapMs: fc.integer({ min: 50, max: 5000 }),
})

test('the same seed gives the same faults, another one others', () => {
  expect(planFaults(options)).toEqual(planFaults(options))
  expect(planFaults(options)).not.toEqual(planFaults({ ...options, seed: 2 }))
})

test('every kind happens to a peer and to the host, also in a plan of only that many', () => {
  const kinds = Object.keys(faultKinds).sort()
  const plan = planFaults({ ...options, faults: 2 * kinds.length })
  for (const isMeant of [(target: unknown) => target === 'host', (target: unknown) => target !== 'host']) {
    expect(
      plan
        .filter(({ target }) => isMeant(target))
        .map(({ kind }) => kind)
        .sort(),
    ).toEqual(kinds)
  }
})

test('what a machine cannot do is left out', () => {
  const without: FaultKind[] = ['disk', 'clock']
  const kinds = new Set(planFaults({ ...options, without }).map(({ kind }) => kind))
  expect(kinds.has('disk') || kinds.has('clock')).toBe(false)
  expect(kinds.size).toBe(Object.keys(faultKinds).length - 2)
})

test('faults come in order, last as long as their kind does, and never have two of a process or of a line at once', () => {
  fc.assert(
    fc.property(anyOptions, (given) => {
      const plan = planFaults(given)
      expect(plan.map(({ number }) => number)).toEqual(Array.from({ length: given.faults }, (_, i) => i + 1))
      for (const [i, fault] of plan.entries()) {
        const [least, most] = faultKinds[fault.kind].durationMs
        expect(fault.durationMs).toBeGreaterThanOrEqual(least / 2)
        expect(fault.durationMs).toBeLessThanOrEqual(most)
        for (const earlier of plan.slice(0, i)) {
          expect(fault.atMs).toBeGreaterThanOrEqual(earlier.atMs)
          const overlap = earlier.atMs + earlier.durationMs >= fault.atMs
          const sameKindOfThing = faultKinds[earlier.kind].of === faultKinds[fault.kind].of
          const lines = faultKinds[fault.kind].of === 'line'
          const common =
            earlier.target === fault.target ||
            (lines && (earlier.target === 'host' || fault.target === 'host'))
          expect(overlap && sameKindOfThing && common).toBe(false)
        }
      }
    }),
    { numRuns: 30 },
  )
})

test('one peer of several always remains', () => {
  fc.assert(
    fc.property(anyOptions, (given) => {
      const away = planFaults(given).filter(({ kind, target }) => faultKinds[kind].away && target !== 'host')
      for (const { atMs } of away) {
        const targets = new Set(
          away
            .filter((other) => other.atMs <= atMs && other.atMs + other.durationMs >= atMs)
            .map(({ target }) => target),
        )
        expect(targets.size).toBeLessThanOrEqual(mostPeersAway(given.peers))
      }
    }),
    { numRuns: 30 },
  )
})

test('a plan takes about as long as its gaps say', () => {
  const plan = planFaults(options)
  expect(endOfPlan(plan)).toBeGreaterThan(0.5 * 200 * options.meanGapMs)
  expect(endOfPlan(plan)).toBeLessThan(3 * 200 * options.meanGapMs)
})
