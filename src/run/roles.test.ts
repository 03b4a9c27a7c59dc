/** The small parts of which host and peers are made, each by itself. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { VirtualClock } from '../core/index.ts'
import { createSyncMethod, syncSettingsSchema } from '../sync/index.ts'
import { type Evidence, judgeInTurn, plausible, rejected, remedyFor } from './judge.ts'
import { Liveness, livenessLimits } from './liveness.ts'
import { JoinQuota, MessageQuota, newcomersRate, QuestionQuota, quotaLimits } from './quota.ts'
import { createRun } from './reducer.ts'
import { rewarmFactor, schedulePosition } from './schedule-position.ts'
import { created, peerNumber } from './story.ts'
import { toyLayout } from './swarm-fixture.ts'

describe('the place of a step in the schedule', () => {
  const whole = fc.integer({ min: 1, max: 500 })

  test('of a lease of any size lies within its round, and never goes back', () => {
    fc.assert(
      fc.property(whole, whole, whole, (round, steps, innerSteps) => {
        const places = Array.from({ length: steps }, (_, index) =>
          schedulePosition({ round, index, steps, innerSteps }),
        )
        expect(places[0]).toBe((round - 1) * innerSteps)
        expect(places.at(-1)).toBeLessThan(round * innerSteps)
        expect(places).toEqual(places.toSorted((a, b) => a - b))
      }),
    )
  })

  test('of a lease of the usual size is the number of the step', () => {
    const places = Array.from({ length: 10 }, (_, index) =>
      schedulePosition({ round: 3, index, steps: 10, innerSteps: 10 }),
    )
    expect(places).toEqual([20, 21, 22, 23, 24, 25, 26, 27, 28, 29])
  })

  test('decides how far the rate has risen again after everybody had gone', () => {
    const rewarm = { round: 3, steps: 4 }
    expect([18, 20, 21, 22, 23, 24, 99].map((step) => rewarmFactor(rewarm, step, 10))).toEqual([
      1, 0.25, 0.5, 0.75, 1, 1, 1,
    ])
    expect(rewarmFactor(null, 0, 10)).toBe(1)
    expect(rewarmFactor({ round: 1, steps: 0 }, 0, 10)).toBe(1)
  })
})

describe('the quota of messages', () => {
  const { member, strangers } = quotaLimits
  const admitted = (quota: MessageQuota, peer: number, known: boolean, times: number): number =>
    Array.from({ length: times }, () => quota.admit(peerNumber(peer), known)).filter(Boolean).length

  test('lets a member send a burst, and then at its rate, whatever the others do', async () => {
    const clock = new VirtualClock()
    const quota = new MessageQuota(clock)
    expect(admitted(quota, 1, true, 1000)).toBe(member.burst)
    expect(admitted(quota, 2, true, 1000)).toBe(member.burst)
    await clock.advance(1000)
    expect(admitted(quota, 1, true, 1000)).toBe(member.perSecond)
    await clock.advance(3_600_000)
    expect(admitted(quota, 1, true, 1000)).toBe(member.burst)
  })

  test('is one for all strangers together, so that new identities are of no use', () => {
    const quota = new MessageQuota(new VirtualClock())
    let sum = 0
    for (let peer = 0; peer < 1000; peer++) sum += admitted(quota, peer, false, 1)
    expect(sum).toBe(strangers.burst)
    expect(admitted(quota, 7, true, 1)).toBe(1)
  })

  test('does not depend on the wall clock', () => {
    const clock = new VirtualClock()
    const quota = new MessageQuota(clock)
    admitted(quota, 1, true, 1000)
    clock.jump(3_600_000)
    expect(admitted(quota, 1, true, 10)).toBe(0)
  })
})

describe('the quota of joins', () => {
  const { joins } = quotaLimits
  const admitted = (quota: JoinQuota, peer: number, contributed: boolean, times: number): number =>
    Array.from({ length: times }, () => quota.take(peerNumber(peer), contributed)).filter(Boolean).length

  test('lets an identity come back a few times and then at its rate, also when it has contributed', async () => {
    const clock = new VirtualClock()
    const quota = new JoinQuota(clock, () => 256)
    expect(admitted(quota, 1, false, 100)).toBe(joins.burst)
    expect(admitted(quota, 2, true, 100)).toBe(joins.burst)
    await clock.advance(1000 / joins.perSecond)
    expect([1, 2].map((peer) => admitted(quota, peer, peer === 2, 100))).toEqual([1, 1])
  })

  test('lets in as many newcomers as the run has room for, then at a rate for all, and members besides', async () => {
    const clock = new VirtualClock()
    const quota = new JoinQuota(clock, () => 1024)
    const rate = newcomersRate(1024)
    let sum = 0
    for (let peer = 0; peer < 2000; peer++) sum += admitted(quota, peer, false, 1)
    expect(sum).toBe(rate.burst)
    expect(admitted(quota, 3000, true, 1)).toBe(1)
    await clock.advance(1000)
    for (let peer = 4000; peer < 5000; peer++) sum += admitted(quota, peer, false, 1)
    expect(sum).toBe(rate.burst + rate.perSecond)
  })

  test('takes no place for a join that came to nothing', () => {
    const quota = new JoinQuota(new VirtualClock(), () => 8)
    for (let n = 0; n < 1000; n++) {
      expect(quota.take(peerNumber(1), false)).toBe(true)
      quota.giveBack(peerNumber(1), false)
    }
  })

  test('remembers an identity until its bucket is full again, and no longer', async () => {
    const clock = new VirtualClock()
    const quota = new JoinQuota(clock, () => 256)
    for (let peer = 0; peer < 256; peer++) admitted(quota, peer, false, 1)
    expect(quota.size).toBe(256)
    await clock.advance((1000 * joins.burst) / joins.perSecond)
    admitted(quota, 1000, false, 1)
    expect(quota.size).toBe(1)
  })
})

describe('the quota of questions', () => {
  const { perSecond, burst } = quotaLimits.questions

  test('counts what answers cost, of all strangers together, and of the others apart from them', async () => {
    const clock = new VirtualClock()
    const quota = new QuestionQuota(clock)
    const answered = (isStranger: boolean, most: number, cost: number): number => {
      const places = Array.from({ length: 1000 }, (_, peer) => {
        const place = quota.take(peerNumber(peer), isStranger, most)
        place?.settle(cost)
        return place
      })
      return places.filter((place) => place !== undefined).length
    }
    expect(answered(true, 1, 1)).toBe(burst)
    expect(answered(false, 1, 0.5)).toBe(2 * burst - 1) // whoever may cost a whole one needs it
    await clock.advance(1000)
    expect(answered(true, 0.1, 0.1)).toBeGreaterThanOrEqual(10 * perSecond - 1)
  })

  test('has one place for each peer at a time', () => {
    const quota = new QuestionQuota(new VirtualClock())
    const first = quota.take(peerNumber(1), true, 1)
    expect(quota.take(peerNumber(1), true, 1)).toBeUndefined()
    expect(quota.take(peerNumber(2), true, 1)).toBeDefined()
    first!.settle(1)
    expect(quota.take(peerNumber(1), true, 1)).toBeDefined()
  })
})

describe('the judge', () => {
  const method = createSyncMethod(syncSettingsSchema.parse({ method: 'diloco' }))
  const evidence = (changes: Partial<Evidence>, medianNorm: number | null = 2): Evidence => ({
    ...{ peer: peerNumber(1), lease: { round: 1, steps: 1, ranges: [{ start: 0, end: 1 }], grantedAtMs: 0 } },
    ...{ update: null, norm: 2, steps: 1, loss: 1, method, layout: toyLayout },
    state: { ...createRun(created), medianNorm },
    ...changes,
  })
  const codeOf = async (given: Evidence): Promise<string> => {
    const judgement = await plausible(given)
    return judgement.accepted ? 'accepted' : judgement.code
  }

  test('accepts what is of the size of the others, and refuses what is not', async () => {
    expect(await codeOf(evidence({}))).toBe('accepted')
    expect(await codeOf(evidence({ norm: 20 }))).toBe('accepted') // ten times the median, as the policy allows
    expect(await codeOf(evidence({ norm: 20.1 }))).toBe('update/too-large')
    expect(await codeOf(evidence({ norm: 1e9 }, null))).toBe('accepted') // nothing to compare with
    expect(await codeOf(evidence({ norm: 0 }))).toBe('update/empty')
    expect(await codeOf(evidence({ norm: Number.NaN }))).toBe('update/no-number')
    expect(await codeOf(evidence({ loss: Number.POSITIVE_INFINITY }))).toBe('update/no-loss')
  })

  test('of several lets the first objection stand, and asks no further', async () => {
    const asked: number[] = []
    const judge = judgeInTurn(
      plausible,
      () => {
        asked.push(1)
        return rejected('check/recomputed', 'The work comes to something else.')
      },
      () => {
        asked.push(2)
        return { accepted: true }
      },
    )
    expect(await judge(evidence({}))).toMatchObject({ accepted: false, code: 'check/recomputed' })
    expect(await judge(evidence({ norm: 0 }))).toMatchObject({ code: 'update/empty' })
    expect(asked).toEqual([1])
  })

  test('has a way out for every reason', () => {
    for (const code of ['update/too-large', 'sync/invalid-update', 'check/recomputed', '']) {
      expect(remedyFor(code)).toMatch(/\.$/)
    }
  })
})

test('a member is gone after so many sweeps in which it said nothing, and not before', async () => {
  const clock = new VirtualClock()
  const [ada, ben] = [peerNumber(1), peerNumber(2)]
  const gone: string[] = []
  const stop = new AbortController()
  const liveness = new Liveness({
    clock,
    vanishAfterMs: () => 4000,
    present: () => [ada, ben].filter((peer) => !gone.includes(peer)),
    onVanished: async (peer) => void gone.push(peer),
    onSwept: () => liveness.heard(ada),
  })
  const running = liveness.run(stop.signal).catch(() => undefined)
  const sweepMs = 4000 / livenessLimits.silentSweeps
  await clock.advance(livenessLimits.silentSweeps * sweepMs)
  clock.jump(3_600_000)
  expect(gone).toEqual([])
  await clock.advance(sweepMs)
  expect(gone).toEqual([ben])
  await clock.advance(100 * sweepMs)
  expect(gone).toEqual([ben])
  stop.abort()
  await running
})
