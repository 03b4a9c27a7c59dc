/**
 * What becomes of leases in a whole swarm: sized by speed, handed in late or in part, lost, given up, taken up again.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { type Clock, GroundswellError, joinPieces, memoryFiles, systemClock } from '../core/index.ts'
import { MemoryNetwork } from '../swarm/index.ts'
import { createSyncMethod } from '../sync/index.ts'
import { decodeEvent } from './events.ts'
import { countBatches } from './leases.ts'
import { fileLocalStore, LocalMemory, type LocalStore } from './local-store.ts'
import type { PeerEvent } from './peer-status.ts'
import { replay } from './replay.ts'
import { reducerLimits } from './state.ts'
import {
  impatient,
  type Member,
  type SwarmOptions,
  ToySwarm,
  toyLayout,
  toyWorkload,
} from './swarm-fixture.ts'

let swarm: ToySwarm
afterEach(() => swarm.stop())

const all = <Type extends PeerEvent['type']>(
  member: Member,
  type: Type,
): Extract<PeerEvent, { type: Type }>[] =>
  member.events.filter((event): event is Extract<PeerEvent, { type: Type }> => event.type === type)
const rounds = (changes: SwarmOptions['rounds']): SwarmOptions => ({ rounds: { ...impatient, ...changes } })
const finish = async (members: readonly Member[]): Promise<void> => {
  await swarm.host.finished
  const { round, checkpoint } = swarm.host.checkpoint()
  for (const { result } of members) expect((await result).status.checkpoint).toEqual({ round, checkpoint })
}
const accountOf = ({ identity }: Member) =>
  swarm.host.status().members.find(({ peer }) => peer === identity.peerId)!

describe('a slow peer', () => {
  test('gets fewer steps, so that nobody waits for it, and counts in every round', async () => {
    // The grace is longer than the test may take: rounds close because everybody is done.
    swarm = await ToySwarm.start({
      sync: { innerSteps: 12 },
      rounds: { rounds: 4, graceMs: 600_000, vanishAfterMs: 20_000 },
    })
    const quick = [1, 2].map((n) => swarm.join(n, { stepMs: 4 }))
    const slow = swarm.join(3, { stepMs: 300 })
    await finish([...quick, slow])
    expect(accountOf(slow)).toMatchObject({ contributions: 4, late: 0, expired: 0 })
    const tokens = [...quick, slow].map((member) => accountOf(member).tokens)
    expect(tokens[2]).toBeLessThan(Math.min(tokens[0]!, tokens[1]!))
  })

  test('that comes late counts in the round that is open then', async () => {
    swarm = await ToySwarm.start(rounds({ rounds: 3, graceMs: 20, vanishAfterMs: 20_000 }))
    const counted = () => swarm.until(({ members }) => members.some(({ late }) => late > 0))
    const quick = [1, 2].map((n) =>
      swarm.join(n, { beforeStep: async () => swarm.host.status().round === 2 && counted() }),
    )
    const slow = swarm.join(3, {
      beforeStep: () => swarm.until(({ round, phase }) => round > 2 || (round === 2 && phase === 'training')),
    })
    await finish([...quick, slow])
    expect(all(slow, 'accepted')[0]).toMatchObject({ round: 1, countedIn: 2 })
    expect(accountOf(slow).late).toBe(1)
    const { closed } = await replay(swarm.log)
    const late = closed.find(({ round }) => round === 2)!.accepted.find(({ leaseRound }) => leaseRound === 1)
    expect(late).toMatchObject({ peer: slow.identity.peerId, weight: late!.tokens / 2 })
  })

  test('that comes too late is told so, and its batches are trained by others', async () => {
    swarm = await ToySwarm.start(rounds({ rounds: 300, graceMs: 20, vanishAfterMs: 20_000 }))
    const slow: Member = swarm.join(3, { beforeStep: () => swarm.until(({ round }) => round >= 3) })
    const missed = async (): Promise<void> => {
      while (all(slow, 'missed').length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const quick = [1, 2].map((n) =>
      swarm.join(n, { beforeStep: async () => swarm.host.status().round >= 3 && missed() }),
    )
    await swarm.until(() => accountOf(slow)?.contributions > 0)
    expect(accountOf(slow).expired).toBeGreaterThan(0)
    await swarm.host.end()
    await finish([...quick, slow])
    expect(all(slow, 'missed')[0]).toEqual({
      type: 'missed',
      round: 1,
      why: 'the lease of round 1 ran out, and its batches went to others',
    })
  })

  test('that has a round to itself and hands nothing in does not keep those who come from training', async () => {
    swarm = await ToySwarm.start(rounds({ rounds: 2, minimumPeers: 1, maxRoundMs: 1000 }))
    const going = Promise.withResolvers<void>()
    const stuck = swarm.join(1, { beforeStep: () => going.promise })
    await swarm.until(({ phase }) => phase === 'training')
    const others = [2, 3].map((n) => swarm.join(n))
    await swarm.until(({ checkpoint }) => checkpoint.round === 1)
    expect(accountOf(stuck)).toMatchObject({ status: 'active', expired: 1, contributions: 0 })
    going.resolve()
    await finish([stuck, ...others])
    expect(all(stuck, 'missed')[0]?.why).toMatch(/^the lease of round 1 /)
  })

  test('that cannot finish before the round closes hands in what it has done', async () => {
    swarm = await ToySwarm.start({
      sync: { innerSteps: 10 },
      rounds: { rounds: 2, graceMs: 1000, vanishAfterMs: 20_000 },
    })
    // As fast as each other when they measure themselves, so that all get about the same lease.
    const joining = (n: number, laterMs: number): Member => {
      let begun = false
      const stepMs = (): number => (begun ? laterMs : 100)
      return swarm.join(n, { stepMs, onEvent: ({ type }) => (begun ||= type === 'leased') })
    }
    const quick = [1, 2].map((n) => joining(n, 2))
    const slow = joining(3, 400)
    await finish([...quick, slow])
    const [leased] = all(slow, 'leased')
    const [accepted] = all(slow, 'accepted')
    expect(accepted).toMatchObject({ round: 1, countedIn: 1 })
    expect(accepted!.steps).toBeLessThan(leased!.steps)
  })
})

describe('a peer that is asked to leave', () => {
  test('hands in what it has done, and its other batches return to the pool', async () => {
    swarm = await ToySwarm.start({ sync: { innerSteps: 8 }, rounds: { rounds: 1, vanishAfterMs: 20_000 } })
    const gone = Promise.withResolvers<unknown>()
    const others = [1, 2].map((n) => swarm.join(n, { beforeStep: () => gone.promise }))
    const leaving: Member = swarm.join(3, {
      onEvent: (event) => {
        // A busy machine may get a lease of a single step.
        const done = Math.min(2, all(leaving, 'leased')[0]?.steps ?? 2)
        if (event.type === 'step' && event.step === done) leaving.leave()
      },
    })
    expect(await leaving.result).toMatchObject({ reason: 'left', status: { contributions: 1 } })
    const [leased] = all(leaving, 'leased')
    const [accepted] = all(leaving, 'accepted')
    expect(accepted).toMatchObject({ round: 1, steps: Math.min(2, leased!.steps) })
    const { batches, members } = await replay(swarm.log)
    expect(members.get(leaving.identity.peerId)!.status).toBe('left')
    expect(countBatches(batches.pool) + countBatches(batches.returned)).toBe(leased!.steps - accepted!.steps)
    gone.resolve(undefined)
    await finish(others)
  })

  test('while everything is down still leaves', async () => {
    swarm = await ToySwarm.start(rounds({ rounds: 1 }))
    const waiting = swarm.join(1)
    await swarm.until(({ counts }) => counts.ready === 1)
    await swarm.killHost()
    waiting.leave()
    expect(await waiting.result).toMatchObject({ reason: 'left' })
    await swarm.startHost()
  })
})

test('an update counts for its peer, too, when the answer was lost and the rounds have gone on since', async () => {
  const network = new MemoryNetwork()
  swarm = await ToySwarm.start({ network, ...rounds({ rounds: 300, graceMs: 20 }) })
  const others = [1, 2].map((n) => swarm.join(n, { stepMs: 5 }))
  // It waits for no answer for long.
  const real = systemClock()
  const clock: Clock = { ...real, sleep: (ms, signal) => real.sleep(Math.min(ms, 100), signal) }
  const cleo = swarm.join(3, { stepMs: 5, clock })
  const append = swarm.log.append.bind(swarm.log)
  let lost = 0
  swarm.log.append = async (bytes, options) => {
    await append(bytes, options)
    const event = decodeEvent(bytes, options.expect)
    if (lost > 0 || event.type !== 'contributed' || event.peer !== cleo.identity.peerId || event.round < 2)
      return
    lost = event.round
    network.partition([cleo.identity.peerId])
  }
  // So long that another lease of hers has run out, and the host knows no update of that round any more.
  await swarm.until(({ round }) => {
    const verdict = lost > 0 ? accountOf(cleo).lastVerdict : null
    return verdict?.outcome === 'expired' && round > lost + reducerLimits.keptRounds + 1
  })
  network.heal()
  await swarm.until(() => accountOf(cleo).lastRound > lost)
  await swarm.host.end()
  await finish([...others, cleo])
  const ofLost = ({ round }: { round: number }): boolean => round === lost
  expect(all(cleo, 'refused').filter(ofLost)).toEqual([])
  expect(all(cleo, 'accepted').filter(ofLost)).toMatchObject([{ countedIn: lost }])
  expect(all(cleo, 'accepted')).toHaveLength(accountOf(cleo).contributions)
}, 30_000)

describe('a peer whose training goes wrong', () => {
  test('begins anew with the next lease after it diverged, and ends with the reason when that does not help', async () => {
    swarm = await ToySwarm.start(rounds({ rounds: 200, minimumPeers: 1, graceMs: 20 }))
    const steady = swarm.join(1)
    const failing = (times: number): ReturnType<typeof toyWorkload> => {
      const { trainer, ...rest } = toyWorkload()
      let started = false
      const setParameters = async (flat: Float32Array): Promise<void> => {
        started = true
        await trainer.setParameters(flat)
      }
      const step: typeof trainer.step = async (tokens, options) => {
        if (started && times-- > 0) throw new GroundswellError('The loss is NaN.', { code: 'train/diverged' })
        return trainer.step(tokens, options)
      }
      return { ...rest, trainer: { ...trainer, setParameters, step } }
    }
    const once = swarm.join(2, { workload: failing(1) })
    const always = swarm.join(3, { workload: failing(1e9) })
    await expect(always.result).rejects.toMatchObject({ code: 'train/diverged' })
    await swarm.until(() => accountOf(once)?.contributions > 0)
    await swarm.host.end()
    await finish([steady, once])
    // What it was handing in when the run ended is refused, too.
    const refused = all(once, 'refused').filter(({ code }) => code !== 'run/finished')
    expect(refused).toMatchObject([{ code: 'train/diverged' }])
  })

  test('is expelled after several refused updates, says why, and may come back', async () => {
    swarm = await ToySwarm.start(
      rounds({
        ...{ rounds: 300, minimumPeers: 1, maximumNormFactor: 5, graceMs: 20 },
        ...{ maximumStrikes: 2, expulsionRounds: 2, vanishAfterMs: 20_000 },
      }),
    )
    const honest = swarm.join(1, { stepMs: 2 })
    await swarm.until(({ checkpoint }) => checkpoint.round >= 1)
    const { trainer, ...rest } = toyWorkload()
    let broken = true
    const parameters = async (): Promise<Float32Array> =>
      (await trainer.parameters()).map((value) => (broken ? value + 1000 : value))
    const poisoned = swarm.join(2, {
      workload: { ...rest, trainer: { ...trainer, parameters } },
      onEvent: ({ type }) => {
        if (type === 'expelled') broken = false
      },
    })
    await swarm.until(() => accountOf(poisoned)?.contributions > 0)
    await swarm.host.end()
    await finish([honest, poisoned])
    expect(all(poisoned, 'refused')).toMatchObject([
      { code: 'update/too-large' },
      { code: 'update/too-large' },
    ])
    const [expelled] = all(poisoned, 'expelled')
    expect(expelled!.reason).toMatch(/times the median/)
    expect(expelled!.remedy).toMatch(/doctor/)
    const waits = all(poisoned, 'phase').filter(({ phase }) => phase === 'waiting')
    expect(waits.some(({ why }) => why.startsWith(`for round ${expelled!.untilRound}: expelled`))).toBe(true)
  })
})

describe('what only a peer knows', () => {
  test('survives a restart with the same identity', async () => {
    const sync = { method: 'sparse-loco', innerSteps: 3 } as const
    const files = fileLocalStore(memoryFiles(), 'peer')
    let saves = 0
    const localStore: LocalStore = {
      ...files,
      save: async (place, pieces) => {
        await files.save(place, pieces)
        if (place !== 'kept') saves += 1
      },
    }
    swarm = await ToySwarm.start({ sync, rounds: { ...impatient, rounds: 300, graceMs: 20 } })
    const others = [1, 2].map((n) => swarm.join(n, { stepMs: 2 }))
    const first = swarm.join(3, { localStore, stepMs: 2 })
    await swarm.until(() => saves >= 2)
    await first.kill()
    await first.result.catch(() => undefined)
    const method = createSyncMethod(swarm.manifest.sync)
    const { contributions, lastRound, lastVerdict } = accountOf(first)
    const memory = new LocalMemory({ store: localStore, run: swarm.host.runId, method, layout: toyLayout })
    await memory.restore({ contributions, lastRound, lastVerdict })
    // Not what a newcomer has.
    expect(joinPieces(method.serialiseLocal(memory.local))).not.toEqual(
      joinPieces(method.serialiseLocal(method.createLocal(toyLayout))),
    )
    const before = saves
    const again = swarm.join(3, { localStore, stepMs: 2 })
    await swarm.until(() => accountOf(again).contributions > contributions && saves > before)
    await swarm.host.end()
    await finish([...others, again])
  })

  test('is not mixed up when the host accepts an update after its peer has restarted', async () => {
    const judging = Promise.withResolvers<void>()
    const judged = Promise.withResolvers<void>()
    swarm = await ToySwarm.start({
      sync: { method: 'sparse-loco', innerSteps: 3 },
      rounds: { rounds: 3, minimumPeers: 1, quorum: 1, graceMs: 0, vanishAfterMs: 20_000 },
      host: {
        judge: async ({ lease }) => {
          if (lease.round === 2) judging.resolve()
          if (lease.round === 2) await judged.promise
          return { accepted: true }
        },
      },
    })
    const files = fileLocalStore(memoryFiles(), 'peer')
    const saves: number[] = []
    const localStore: LocalStore = {
      ...files,
      save: (place, pieces) => {
        if (place !== 'kept') saves.push(place)
        return files.save(place, pieces)
      },
    }
    const first = swarm.join(1, { localStore })
    await judging.promise
    await first.kill()
    const again = swarm.join(1, {
      localStore,
      stepMs: 20,
      beforeStep: async () => {
        judged.resolve()
        await swarm.until(({ totals }) => totals.contributions >= 2)
      },
    })
    await finish([again])
    // What the second update left is not overwritten by what the third one may leave.
    expect(saves).toEqual([0, 1, 0])
  })
})

describe('methods', () => {
  test.each([
    ['streaming-diloco', { method: 'streaming-diloco', innerSteps: 8, fragments: 1, overlapSteps: 3 }],
    ['sparse-loco', { method: 'sparse-loco', innerSteps: 8, overlapSteps: 3 }],
  ] as const)(
    'that go on while they exchange (%s): the first steps of a lease come before the merge',
    async (_, sync) => {
      const network = new MemoryNetwork({ seed: 1, faults: { delayMs: { min: 20, max: 60 } } })
      swarm = await ToySwarm.start({ sync, network, rounds: { rounds: 5, vanishAfterMs: 20_000 } })
      const members = [1, 2, 3].map((n) => swarm.join(n, { stepMs: 2 }))
      await finish(members)
      // Somewhere a step of round r stands before the merge of round r − 1.
      const overlapped = members.some(({ events }) =>
        events.some(
          (event, i) =>
            event.type === 'step' &&
            events.slice(i).some((later) => later.type === 'merged' && later.round === event.round - 1),
        ),
      )
      expect(overlapped).toBe(true)
      expect(members.flatMap((member) => all(member, 'disagreed'))).toEqual([])
    },
  )

  test('whose peers differ: they gossip in pairs, and whoever comes late begins at the mean', async () => {
    const sync = { method: 'noloco', innerSteps: 3 } as const
    swarm = await ToySwarm.start({ sync, rounds: { ...impatient, rounds: 6, vanishAfterMs: 20_000 } })
    const members = [1, 2, 3].map((n) => swarm.join(n, { stepMs: 2 }))
    await swarm.until(({ round }) => round >= 2)
    const late = swarm.join(4)
    await swarm.host.finished
    const results = await Promise.all([...members, late].map(({ result }) => result))
    expect(new Set(results.map(({ status }) => status.checkpoint!.round))).toEqual(new Set([6]))
    expect(new Set(results.map(({ status }) => status.checkpoint!.checkpoint)).size).toBeGreaterThan(1)
    expect([...members, late].flatMap((member) => all(member, 'disagreed'))).toEqual([])
  })

  test.each([
    ['data-parallel', { method: 'data-parallel' }],
    ['demo', { method: 'demo' }],
    ['distro', { method: 'distro' }],
    ['decoupled', { method: 'decoupled', innerSteps: 4 }],
    ['muloco', { method: 'muloco', innerSteps: 4 }],
  ] as const)('of gradients and others: %s ends with the same checkpoint everywhere', async (_, sync) => {
    swarm = await ToySwarm.start({ sync, rounds: { rounds: 4, vanishAfterMs: 20_000 } })
    const members = [1, 2, 3].map((n) => swarm.join(n))
    await finish(members)
    expect(members.flatMap((member) => all(member, 'disagreed'))).toEqual([])
    expect(swarm.host.status().totals.contributions).toBeGreaterThan(4)
  })
})
