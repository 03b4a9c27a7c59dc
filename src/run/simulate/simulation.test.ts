import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { RunEvent } from '../events.ts'
import { type RoundPolicy, roundPolicySchema } from '../policy.ts'
import { costsOfSizes } from './costs.ts'
import type { SimulationReport } from './report.ts'
import { type SimulationOptions, simulate } from './simulation.ts'
import { type ChurnSettings, noChurn, type WorldSettings } from './world.ts'

const quietWorld: WorldSettings = {
  peers: 8,
  speedSpread: 1,
  linkSpread: 1,
  stepMs: 1000,
  jitter: 0.05,
  upBytesPerSecond: 2e6,
  downBytesPerSecond: 10e6,
  hostUpBytesPerSecond: 1e8,
  hostDownBytesPerSecond: 1e8,
  reachableShare: 0.5,
  latencyMs: 40,
  arrivalMs: 5000,
  churn: noChurn,
}

const innerSteps = 20
const costs = costsOfSizes({ parameters: 3_300_000, updateBytes: 3_300_000, stateBytes: 26_400_000 })

interface Given {
  readonly seed?: number
  readonly rounds?: Partial<RoundPolicy>
  readonly world?: Partial<WorldSettings>
  readonly churn?: Partial<ChurnSettings>
  readonly over?: Partial<SimulationOptions>
}

function settings({ seed = 1, rounds, world, churn, over }: Given): SimulationOptions {
  return {
    seed,
    policy: roundPolicySchema.parse({ rounds: 6, maximumPeers: 10_000, graceMs: 5000, ...rounds }),
    innerSteps,
    overlapSteps: 0,
    batchTokens: 256,
    world: { ...quietWorld, ...world, churn: { ...noChurn, ...churn } },
    costs,
    checkAlways: true,
    ...over,
  }
}

const run = (given: Given = {}): Promise<SimulationReport> => simulate(settings(given))

const stormy: Partial<ChurnSettings> = { sessionMs: 60_000, absenceMs: 30_000, outageEveryMs: 120_000 }

describe('a simulated run', () => {
  test('finishes all rounds with everybody’s work when nobody goes', async () => {
    const report = await run()
    expect(report.rounds).toHaveLength(6)
    for (const { assigned, inTime, late } of report.rounds.slice(1)) {
      expect({ assigned, inTime, late }).toEqual({ assigned: 8, inTime: 8, late: 0 })
    }
    expect(report.contributions).toMatchObject({ late: 0, expired: 0, refused: 0 })
    expect(report.batches.returned).toBe(0)
    expect(report.tokens).toBe(256 * report.batches.trained)
  })

  test('is the same to the bit for the same seed, and another for another', async () => {
    const events: string[][] = []
    const runs = []
    for (const seed of [3, 3, 4]) {
      const seen: string[] = []
      events.push(seen)
      const onEvent = (event: RunEvent): void => {
        seen.push(JSON.stringify(event))
      }
      runs.push(await run({ seed, churn: stormy, over: { onEvent } }))
    }
    expect(runs[1]).toEqual(runs[0])
    expect(events[1]).toEqual(events[0])
    expect(runs[2]!.traceHash).not.toBe(runs[0]!.traceHash)
    expect(runs[2]!.stateHash).not.toBe(runs[0]!.stateHash)
  })

  test('keeps every batch in one place and every accepted update, whatever the peers do', async () => {
    const chaos = fc.record({
      seed: fc.nat(1_000_000),
      peers: fc.integer({ min: 1, max: 12 }),
      speedSpread: fc.constantFrom(1, 4, 30),
      jitter: fc.constantFrom(0, 0.3),
      sessionMs: fc.constantFrom(5000, 30_000, 300_000),
      absenceMs: fc.constantFrom(1000, 20_000, 120_000),
      crashShare: fc.constantFrom(0, 0.5),
      sleepShare: fc.constantFrom(0, 0.5),
      outageEveryMs: fc.constantFrom(20_000, Number.POSITIVE_INFINITY),
      dropShare: fc.constantFrom(0, 0.3),
      maximumStaleness: fc.integer({ min: 0, max: 3 }),
      quorum: fc.constantFrom(0.3, 0.67, 1),
      graceMs: fc.constantFrom(0, 3000, 30_000),
      minimumPeers: fc.integer({ min: 1, max: 3 }),
    })
    await fc.assert(
      fc.asyncProperty(chaos, async (given) => {
        const { seed, peers, speedSpread, jitter, maximumStaleness, quorum, graceMs, ...rest } = given
        const { minimumPeers, ...churn } = rest
        const report = await run({
          seed,
          world: { peers, speedSpread, jitter, stepMs: 200 },
          churn,
          rounds: {
            ...{ rounds: 4, maximumStaleness, quorum, graceMs, vanishAfterMs: 4000, maxRoundMs: 120_000 },
            minimumPeers: Math.min(minimumPeers, peers),
          },
        }).catch((thrown: unknown) => {
          // Too few stay long enough: that must be said, and what was done until then was checked all the same.
          expect(thrown).toMatchObject({ code: 'simulate/stalled' })
        })
        if (report === undefined) return
        const { leased, trained, returned, out } = report.batches
        expect(leased).toBe(trained + returned + out)
        expect(report.rounds).toHaveLength(4)
      }),
      { numRuns: 60 },
    )
  })

  test('goes on with another round while one slow peer is still busy, and counts its work late', async () => {
    const options = settings({
      world: { peers: 6, speedSpread: 1 },
      rounds: { rounds: 8, quorum: 0.67, graceMs: 2000, maximumStaleness: 4 },
    })
    // One in six takes five naps' worth of time: longer than a round, shorter than its patience.
    const report = await simulate({
      ...options,
      world: {
        ...options.world,
        jitter: 0.05,
        churn: { ...noChurn, sleepShare: 1, crashShare: 0, sessionMs: 150_000, absenceMs: 10_000 },
      },
    })
    const longest = Math.max(
      ...report.rounds.slice(1).map(({ openedAtMs, closedAtMs }) => closedAtMs - openedAtMs),
    )
    expect(longest).toBeLessThan(innerSteps * 1000 * 1.6)
    expect(report.contributions.late + report.contributions.expired).toBeGreaterThan(0)
  })

  test('hands in late what the host has still to check when the round closes', async () => {
    const report = await run({
      rounds: { rounds: 10, quorum: 0.5, graceMs: 0, maximumStaleness: 4 },
      over: { costs: { ...costs, checkMs: 1000 } },
    })
    expect(report.contributions.late).toBeGreaterThan(10)
    expect(report.contributions).toMatchObject({ refused: 0, expired: 0 })
  })

  test('hands in the steps that are done when a round closes before all of a lease’s are', async () => {
    const report = await run({ world: { jitter: 0.4 }, rounds: { rounds: 12, graceMs: 6000, quorum: 0.5 } })
    const { accepted, late, expired } = report.contributions
    expect(report.batches.returned).toBeGreaterThan(0)
    expect(late + expired).toBeLessThan(0.1 * accepted)
  })

  test('starts again when everybody has gone, and loses nothing', async () => {
    const report = await run({
      world: { peers: 3 },
      churn: { outageEveryMs: 90_000, outageShare: 1, outageMs: 60_000 },
      rounds: { rounds: 8, vanishAfterMs: 5000 },
    })
    expect(report.rounds).toHaveLength(8)
    expect(report.membership.returns).toBeGreaterThanOrEqual(3)
    expect(report.returnMs.count).toBeGreaterThan(0)
  })

  test('gives work in proportion to speed, and all are done within the grace', async () => {
    const report = await run({
      world: { peers: 12, speedSpread: 4, jitter: 0, hostDownBytesPerSecond: 1e9 },
      rounds: { rounds: 10, graceMs: 4000, maximumSpeedup: 8 },
    })
    const speeds = report.peers.reduce((sum, { stepsPerSecond }) => sum + stepsPerSecond, 0)
    for (const { stepsPerSecond, acceptedSteps } of report.peers) {
      const share = acceptedSteps / report.batches.trained
      expect(share / (stepsPerSecond / speeds)).toBeGreaterThan(0.85)
      expect(share / (stepsPerSecond / speeds)).toBeLessThan(1.15)
    }
    for (const { assigned, inTime } of report.rounds.slice(2)) expect(inTime).toBe(assigned)
    expect(report.contributions).toMatchObject({ late: 0, expired: 0 })
  })

  test('returns the batches of updates that never arrive, and trains them again', async () => {
    const report = await run({ churn: { dropShare: 0.5 }, rounds: { rounds: 12 } })
    expect(report.contributions.dropped).toBeGreaterThan(20)
    expect(report.batches.returned).toBeGreaterThan(20 * innerSteps * 0.5)
    // Nearly all numbers that were used were trained in the end: none is left behind.
    expect(report.batches.next - report.batches.trained).toBeLessThanOrEqual(8 * innerSteps * 4)
  })

  test('accounts for each peer’s time and for what it sent', async () => {
    const report = await run()
    const { computing, communicating, preparing, waiting } = report.time
    expect(computing + communicating + preparing + waiting).toBeCloseTo(1)
    expect(report.host.receivedBytes).toBe(report.contributions.accepted * costs.updateBytes)
    const received = report.peers.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0)
    const sent = report.peers.reduce((sum, { sentBytes }) => sum + sentBytes, 0)
    expect(sent + report.host.sentBytes).toBeCloseTo(received + report.host.receivedBytes, 0)
  })

  test('slower lines leave less time for computing', async () => {
    const shares = []
    for (const megabits of [1, 10, 100]) {
      const rate = (megabits * 1e6) / 8
      const { time } = await run({ world: { upBytesPerSecond: rate, downBytesPerSecond: rate } })
      shares.push(time.computing)
    }
    expect(shares).toEqual(shares.toSorted((a, b) => a - b))
    expect(shares[2]! - shares[0]!).toBeGreaterThan(0.1)
  })

  test('carries ten thousand peers through three rounds', async () => {
    const report = await run({
      world: { peers: 10_000, speedSpread: 4, arrivalMs: 20_000, hostDownBytesPerSecond: 1e10 },
      churn: { sessionMs: 400_000, absenceMs: 30_000 },
      rounds: { rounds: 3, minimumPeers: 5000 },
      over: {
        checkAlways: false,
        costs: costsOfSizes({ parameters: 1e6, updateBytes: 1e5, stateBytes: 8e6 }),
      },
    })
    expect(report.rounds).toHaveLength(3)
    expect(report.rounds[2]!.inTime).toBeGreaterThan(5000)
  }, 180_000)
})

describe('what cannot be simulated', () => {
  test('is refused above the limits, with the limits', async () => {
    await expect(run({ world: { peers: 10_001 } })).rejects.toMatchObject({ code: 'simulate/too-large' })
    await expect(run({ world: { peers: 9000 }, rounds: { rounds: 9000 } })).rejects.toThrow(/too large/)
  })

  test('a run for which peers are missing says so instead of waiting for ever', async () => {
    await expect(run({ world: { peers: 2 }, rounds: { minimumPeers: 3 } })).rejects.toMatchObject({
      code: 'simulate/stalled',
      message: expect.stringContaining('2 peers present where 3 are needed'),
    })
  })

  test('stops when it is asked to', async () => {
    const signal = AbortSignal.abort(new Error('enough'))
    await expect(run({ over: { signal } })).rejects.toThrow('enough')
  })
})
