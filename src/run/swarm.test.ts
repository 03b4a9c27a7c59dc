import { afterEach, describe, expect, test } from 'vitest'
import { GroundswellError, memoryFiles, messageOf, seededRandom, systemClock } from '../core/index.ts'
import { MemoryNetwork, memoryBlobs } from '../swarm/index.ts'
import { fileLocalStore } from './local-store.ts'
import type { PeerEvent } from './peer-status.ts'
import { stateHash } from './queries.ts'
import { replay } from './replay.ts'
import { isPresent } from './state.ts'
import type { HostStatus } from './status.ts'
import { impatient, type Member, type SwarmOptions, ToySwarm, toyLoss, toyWorkload } from './swarm-fixture.ts'

let swarm: ToySwarm
afterEach(() => swarm.stop())

const start = async (options: SwarmOptions, ...joining: number[]): Promise<Member[]> => {
  swarm = await ToySwarm.start(options)
  return joining.map((n) => swarm.join(n))
}
const finish = (members: readonly Member[]) => Promise.all(members.map(({ result }) => result))
const memberOf = (status: HostStatus, { identity }: Member) =>
  status.members.find(({ peer }) => peer === identity.peerId)
const expectSameCheckpoint = async (members: readonly Member[]): Promise<void> => {
  const { round, checkpoint, parameters } = swarm.host.checkpoint()
  for (const { status, parameters: theirs } of await finish(members)) {
    expect(status.checkpoint).toEqual({ round, checkpoint })
    expect(theirs).toEqual(parameters)
  }
}

describe('a swarm', () => {
  test('of three peers learns together; after every round all hold the same checkpoint', async () => {
    const members = await start({}, 1, 2, 3)
    const before = toyLoss(swarm.host.checkpoint().parameters)
    await swarm.host.finished
    await expectSameCheckpoint(members)
    const merged = members.map(({ events }) => events.filter(({ type }) => type === 'merged'))
    for (const each of merged) {
      expect(each.map((event) => 'round' in event && event.round)).toEqual([1, 2, 3, 4, 5])
      expect(each).toEqual(merged[0])
    }
    for (const { result } of members) {
      expect(await result).toMatchObject({
        reason: 'finished',
        status: { contributions: 5, lastAccepted: 5 },
      })
    }
    expect(toyLoss(swarm.host.checkpoint().parameters)).toBeLessThan(0.1 * before)
    expect(swarm.host.status()).toMatchObject({ phase: 'finished', refused: {} })
    // The log tells the same story.
    const replayed = await replay(swarm.log)
    expect(stateHash(await replay(swarm.log))).toBe(stateHash(replayed))
    expect(replayed).toMatchObject({ phase: 'finished', checkpoint: { round: 5 } })
  })

  test('learns more from three peers than one learns alone from its share', async () => {
    // Noise is what averaging removes: with a plain outer step, three peers have a third of one peer's variance.
    const sync = { outerLearningRate: 1, outerMomentum: 0, encoding: 'float32' } as const
    const lossWith = async (count: number): Promise<number> => {
      await start({ sync, rounds: { minimumPeers: count, rounds: 8 } }, ...[1, 2, 3].slice(0, count))
      await swarm.host.finished
      const loss = toyLoss(swarm.host.checkpoint().parameters)
      if (count === 1) await swarm.stop()
      return loss
    }
    expect(await lossWith(3)).toBeLessThan(0.6 * (await lossWith(1)))
  })

  test('goes on when a peer vanishes in the middle of a round, and takes in one that joins late', async () => {
    const [ada, ben, cleo] = (await start({ rounds: { ...impatient, rounds: 8 } }, 1, 2, 3)) as [
      Member,
      Member,
      Member,
    ]
    await swarm.until(({ round }) => round === 2)
    const dora = swarm.join(4, { stepMs: 1 })
    await swarm.until((status) => status.checkpoint.round >= 2 && memberOf(status, cleo)!.lastRound > 0)
    await cleo.kill()
    const lastOfCleo = memberOf(swarm.host.status(), cleo)!.lastRound
    await swarm.host.finished
    await expectSameCheckpoint([ada, ben, dora])
    expect(dora.events.some(({ type }) => type === 'fetched')).toBe(true)
    const fromPeers = [ada, ben].map(({ transport }) => transport.ledger.of(dora.identity.peerId).sentBytes)
    expect(Math.max(...fromPeers)).toBeGreaterThan(0)
    expect(memberOf(swarm.host.status(), dora)!.contributions).toBeGreaterThan(0)
    // What the dead peer had contributed still counts.
    expect(memberOf(swarm.host.status(), cleo)).toMatchObject({ status: 'vanished', lastRound: lastOfCleo })
    expect(lastOfCleo).toBeGreaterThan(0)
  })

  test('merges what was accepted from a peer that was killed right afterwards', async () => {
    const [ada, ben] = (await start({ rounds: { ...impatient, rounds: 2 } }, 1, 2)) as [Member, Member]
    const last = swarm.join(3)
    await swarm.until((status) => memberOf(status, last)?.lastRound === 1)
    await last.kill()
    await swarm.host.finished
    await expectSameCheckpoint([ada, ben])
    expect(memberOf(swarm.host.status(), last)!.contributions).toBeGreaterThan(0)
  })

  test('lets a peer leave cleanly and come back with the same identity', async () => {
    const [ada, ben, cleo] = (await start({ rounds: { ...impatient, rounds: 12 } }, 1, 2, 3)) as [
      Member,
      Member,
      Member,
    ]
    await swarm.until(({ checkpoint }) => checkpoint.round >= 1)
    cleo.leave()
    expect(await cleo.result).toMatchObject({ reason: 'left' })
    expect(memberOf(swarm.host.status(), cleo)!.status).toBe('left')
    await cleo.transport.stop()
    const before = memberOf(swarm.host.status(), cleo)!.contributions
    const again = swarm.join(3)
    await swarm.host.finished
    await expectSameCheckpoint([ada, ben, again])
    expect(memberOf(swarm.host.status(), again)!.contributions).toBeGreaterThan(before)
  })

  test('does not wait for a straggler beyond the grace; it catches up and goes on', async () => {
    swarm = await ToySwarm.start({ rounds: { rounds: 6, graceMs: 30 } })
    const quick = [1, 2].map((n) => swarm.join(n, { stepMs: 5 }))
    const slow = swarm.join(3, { stepMs: 60 })
    await swarm.host.finished
    await expectSameCheckpoint([...quick, slow])
    // What became of its leases depends on the moment: handed in in part, late, or run out. It never did as much.
    const tokensOf = (member: Member): number => memberOf(swarm.host.status(), member)?.tokens ?? 0
    for (const each of quick) expect(tokensOf(slow)).toBeLessThan(tokensOf(each))
  })

  test('waits when everybody has gone, and goes on, warmed up again, when enough have come', async () => {
    const members = await start({ rounds: { ...impatient, rounds: 400, rewarmSteps: 6 } }, 1, 2, 3)
    await swarm.until(({ checkpoint }) => checkpoint.round >= 1)
    await Promise.all(members.map(({ kill }) => kill()))
    await swarm.until(({ phase, counts }) => phase === 'waiting' && counts.present === 0)
    const { round } = swarm.host.status()
    const scales: number[] = []
    const onStep = (_: number, __: number, rateScale: number): void => void scales.push(rateScale)
    const others = [4, 5, 6].map((n) => swarm.join(n, { onStep }))
    await swarm.until(({ checkpoint }) => checkpoint.round > round)
    await swarm.host.end()
    await swarm.host.finished
    await expectSameCheckpoint(others)
    // It begins again with small steps.
    expect(Math.min(...scales)).toBeCloseTo(1 / 6)
    expect(Math.max(...scales)).toBeLessThanOrEqual(1)
  })

  test('shows people what happens', async () => {
    const [ada] = (await start({ rounds: { ...impatient, rounds: 3 } }, 1)) as [Member]
    await swarm.until((status) => memberOf(status, ada)?.status === 'ready')
    await swarm.until((status) => memberOf(status, ada)?.progress?.phase === 'waiting')
    expect(ada.peer.status()).toMatchObject({
      phase: 'waiting',
      why: 'for 2 more peers to join',
      lastAccepted: 0,
    })
    swarm.join(2)
    swarm.join(3, { stepMs: 100 })
    await swarm.until((status) => memberOf(status, ada)?.lastRound === 1)
    await swarm.until((status) => status.loss !== null && memberOf(status, ada)?.progress?.loss != null)
    const { progress, name } = memberOf(swarm.host.status(), ada)!
    expect(name).toBe('peer 1')
    expect(progress!.sentBytes).toBeGreaterThan(0)
    expect(progress!.receivedBytes).toBeGreaterThan(0)
    expect(swarm.host.status().loss).toBeGreaterThan(0)
    await swarm.host.finished
    expect(ada.peer.status()).toMatchObject({ round: 3, lastRound: 3, innerSteps: 3 })
  })
})

describe('a host that is killed', () => {
  test('at any moment continues from its log and blobs; nothing accepted is lost', async () => {
    const members = await start({ rounds: { ...impatient, rounds: 10, vanishAfterMs: 3000 } }, 1, 2, 3)
    const random = seededRandom('kill the host')
    for (let kill = 0; kill < 5; kill++) {
      await systemClock().sleep(random.nextInt(150))
      await swarm.killHost()
      const before = await replay(swarm.log)
      await swarm.startHost()
      const after = swarm.host.status()
      expect(after.checkpoint.round).toBeGreaterThanOrEqual(before.checkpoint.round)
      for (const [peer, { contributions }] of before.members) {
        const now = after.members.find((each) => each.peer === peer)!
        expect(now.contributions).toBeGreaterThanOrEqual(contributions)
      }
    }
    await swarm.host.finished
    await expectSameCheckpoint(members)
    const { members: all } = await replay(swarm.log)
    for (const { identity } of members) expect(all.get(identity.peerId)!.contributions).toBeGreaterThan(5)
  })

  test('while it merges does so after its restart', async () => {
    await start({ rounds: { rounds: 1 } }, 1, 2, 3)
    // The moment between the last contribution and the checkpoint: all of it is in the log.
    await swarm.until(({ phase }) => phase === 'coolingDown')
    await swarm.killHost()
    expect((await replay(swarm.log)).phase).toBe('coolingDown')
    await swarm.startHost()
    await swarm.host.finished
    expect(swarm.host.checkpoint().round).toBe(1)
  })

  test('refuses a log that belongs to another run', async () => {
    await start({ rounds: { rounds: 1 } })
    const { manifest } = swarm
    await swarm.killHost()
    swarm.manifest = { ...manifest, seed: manifest.seed + 1 }
    await expect(swarm.startHost()).rejects.toMatchObject({ code: 'run/other-run' })
    swarm.manifest = manifest
    await swarm.hostTransport.stop()
    await swarm.startHost()
  })

  test('by its full disk stops with the reason, tells it to nobody else, and is waited for', async () => {
    const members = await start({ rounds: { rounds: 50 } }, 1, 2, 3)
    await swarm.until(({ checkpoint }) => checkpoint.round === 1)
    const append = swarm.log.append.bind(swarm.log)
    swarm.log.append = async () => {
      throw new GroundswellError('No space is left on /secret/path.', { code: 'log/disk-full' })
    }
    await expect(swarm.host.finished).rejects.toMatchObject({ code: 'log/disk-full' })
    const { failure, checkpoint } = swarm.host.status()
    expect(failure).toMatchObject({ message: expect.stringContaining('/secret/path') })
    const isWaiting = ({ events }: Member): boolean => events.some(({ type }) => type === 'reconnecting')
    await expect.poll(() => members.every(isWaiting), { timeout: 10_000 }).toBe(true)
    swarm.log.append = append
    await swarm.killHost()
    await swarm.startHost()
    await swarm.until((status) =>
      members.every((member) => memberOf(status, member)!.lastRound > checkpoint.round + 1),
    )
    expect(JSON.stringify(members.map(({ events }) => events))).not.toContain('secret')
  })
})

describe('a host at the end', () => {
  test('waits for members that it took for gone: they get the last checkpoint', async () => {
    const network = new MemoryNetwork()
    swarm = await ToySwarm.start({ network, rounds: { ...impatient, rounds: 2, minimumPeers: 2 } })
    const isLastRound = (): boolean => swarm.host.status().round === 2
    const ada = swarm.join(1, { stepMs: () => (isLastRound() ? 500 : 0) })
    const ben = swarm.join(2)
    await swarm.until(isLastRound)
    network.partition([ada.identity.peerId])
    await swarm.host.finished
    await swarm.until((status) => memberOf(status, ada)?.status === 'vanished')
    await ben.result
    const stopped = swarm.host.stop({ lingerMs: 10_000 })
    network.heal()
    await expectSameCheckpoint([ada, ben])
    await stopped
  })

  test('stays for those who looked on until then: they see the end', async () => {
    swarm = await ToySwarm.start({ rounds: { ...impatient, rounds: 1, minimumPeers: 1 } })
    const onlooker = await swarm.client(51)
    expect((await onlooker.status()).phase).not.toBe('finished')
    await swarm.join(1).result
    const stopped = swarm.host.stop({ lingerMs: 10_000 })
    expect((await onlooker.status()).phase).toBe('finished')
    await stopped
  })
})

describe('a bad network', () => {
  test('that loses and breaks requests delays the run and changes nothing else', async () => {
    const faults = { cutRequest: 0.05, cutReply: 0.05, delayMs: { min: 0, max: 5 } }
    const network = new MemoryNetwork({ seed: 3, faults })
    const members = await start(
      { network, rounds: { ...impatient, rounds: 6, vanishAfterMs: 3000 } },
      1,
      2,
      3,
    )
    await swarm.host.finished
    network.faults = {}
    await expectSameCheckpoint(members)
    expect(members.some(({ events }) => events.some(({ type }) => type === 'reconnecting'))).toBe(true)
  })

  test('that cuts a peer off lets it come back into the run', async () => {
    const network = new MemoryNetwork()
    const [ada, ben, cleo] = (await start({ network, rounds: { ...impatient, rounds: 300 } }, 1, 2, 3)) as [
      Member,
      Member,
      Member,
    ]
    await swarm.until(({ checkpoint }) => checkpoint.round >= 1)
    network.partition([cleo.identity.peerId])
    await swarm.until((status) => memberOf(status, cleo)?.status === 'vanished')
    const { lastRound } = memberOf(swarm.host.status(), cleo)!
    network.heal()
    await swarm.until((status) => memberOf(status, cleo)!.lastRound > lastRound)
    await swarm.host.end()
    await swarm.host.finished
    await expectSameCheckpoint([ada, ben, cleo])
  }, 30_000)

  test('that cuts the host off from everybody costs nobody what it has trained meanwhile', async () => {
    const network = new MemoryNetwork()
    const members = await start({ network, rounds: { ...impatient, rounds: 300 } }, 1, 2, 3)
    await swarm.until(({ checkpoint }) => checkpoint.round >= 1)
    network.partition([swarm.link.host])
    await swarm.until(({ counts }) => counts.present === 0)
    const { round } = swarm.host.status().checkpoint
    network.heal()
    await swarm.until(({ checkpoint }) => checkpoint.round >= round + 2)
    await swarm.host.end()
    await swarm.host.finished
    await expectSameCheckpoint(members)
    for (const { events } of members) {
      expect(events.filter((event) => event.type === 'refused' && event.code === 'round/no-lease')).toEqual(
        [],
      )
    }
    expect(swarm.host.status().members.reduce((sum, { expired }) => sum + expired, 0)).toBe(0)
  }, 30_000)

  test('without a host at the other end is said in one sentence', async () => {
    await start({})
    await swarm.killHost()
    const result = swarm.join(1).result
    await expect(result).rejects.toMatchObject({ code: 'join/unreachable' })
    expect(await result.catch(messageOf)).toMatch(/^Nobody answers at .*\.$/)
    await swarm.startHost()
  })
})

describe('a peer whose result differs', () => {
  test('fetches the checkpoint of the others and goes on', async () => {
    swarm = await ToySwarm.start({ rounds: { ...impatient, rounds: 4 } })
    const members = [1, 2].map((n) => swarm.join(n))
    const { trainer, ...rest } = toyWorkload()
    // A peer that writes into what it was told not to write into: its copy of the model is no longer the others'.
    const setParameters = async (flat: Float32Array): Promise<void> => {
      await trainer.setParameters(flat)
      flat[0] = 1234
    }
    const broken = { ...rest, trainer: { ...trainer, setParameters } }
    const odd = swarm.join(3, { workload: broken })
    await swarm.host.finished
    const held = await Promise.all(members.map(async ({ result }) => (await result).status.checkpoint))
    expect(held[0]).toEqual(held[1])
    expect((await odd.result).status.checkpoint).toEqual(held[0])
    expect(odd.events.filter(({ type }) => type === 'disagreed').length).toBeGreaterThan(0)
    expect(memberOf(swarm.host.status(), odd)!.disagreements).toBeGreaterThan(0)
  })
})

describe('stores', () => {
  test('hold the newest rounds only', async () => {
    const members = await start({ rounds: { rounds: 7 } }, 1, 2, 3)
    await swarm.host.finished
    await finish(members)
    const stop = swarm.host.stop()
    await stop
    // Manifest, data, tokenizer (root and chunk); initial and two newest checkpoints; three rounds of three updates.
    expect((await swarm.hostBlobs.list()).length).toBeLessThanOrEqual(5 + 3 * 2 + 9 * 2)
    for (const { blobs } of members)
      expect((await blobs.list()).length).toBeLessThanOrEqual(2 + 2 * 2 + 3 * 2)
    expect([...(await replay(swarm.log)).members.values()].filter(isPresent)).toEqual([])
  })

  test('of a peer that is killed again and again hold no more', async () => {
    await start({ rounds: { ...impatient, rounds: 300, minimumPeers: 1, graceMs: 50 } })
    swarm.join(1, { stepMs: 5 })
    const blobs = memoryBlobs()
    const localStore = fileLocalStore(memoryFiles(), 'peer')
    for (let life = 0; life < 4; life++) {
      const enough = Promise.withResolvers<void>()
      let merges = 0
      const onEvent = ({ type }: PeerEvent): void => {
        if (type === 'merged' && ++merges === 3) enough.resolve()
      }
      const member = swarm.join(2, { blobs, localStore, stepMs: 5, onEvent })
      await enough.promise
      await member.kill()
      await member.result.catch(() => undefined)
    }
    // Of the last life, and the checkpoint with which it began: the manifest, checkpoints, updates of its own and of a merge.
    expect((await blobs.list()).length).toBeLessThanOrEqual(2 + 3 * 2 + 3 * 2 + 2)
  })
})
