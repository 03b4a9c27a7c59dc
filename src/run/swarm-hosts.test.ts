/**
 * What can happen to hosts, and what their owners can do with a run while it goes on.
 */
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { type Clock, seededRandom, systemClock } from '../core/index.ts'
import { MemoryNetwork, memoryBlobs } from '../swarm/index.ts'
import { decodeEvent, type RunEvent } from './events.ts'
import { verifyLedgerEntry } from './ledger-page.ts'
import { memoryLog } from './log.ts'
import type { LedgerEntry } from './protocol.ts'
import { stateHash } from './queries.ts'
import { artifactsOf } from './reducer.ts'
import { replay } from './replay.ts'
import { identityNumbered, impatient, type Member, ToySwarm } from './swarm-fixture.ts'

let swarm: ToySwarm
afterEach(() => swarm.stop())

const hour = 3_600_000
const owner = identityNumbered(50)
const expectSameCheckpoint = async (members: readonly Member[]): Promise<void> => {
  const { round, checkpoint } = swarm.host.checkpoint()
  for (const { result } of members) expect((await result).status.checkpoint).toEqual({ round, checkpoint })
}
const eventsOf = async (): Promise<RunEvent[]> => {
  const events: RunEvent[] = []
  for await (const { position, bytes } of swarm.log.read(0)) events.push(decodeEvent(bytes, position))
  return events
}

describe('a host that is killed', () => {
  test.each([1, 2, 3])(
    'after any event of a run goes on without losing what it had accepted (seed %i)',
    async (seed) => {
      const random = seededRandom('kill', seed)
      swarm = await ToySwarm.start({ rounds: { ...impatient, rounds: 6, vanishAfterMs: 5000 } })
      const members = [1, 2, 3].map((n) => swarm.join(n))
      for (let kill = 0; kill < 4; kill++) {
        // Counted in events and not in time, so that every kind of event comes to be the last.
        const last = swarm.host.status().version + 1 + random.nextInt(9)
        await swarm.until(({ version, phase }) => version >= last || phase === 'finished')
        await swarm.killHost()
        const before = await replay(swarm.log)
        await swarm.startHost()
        const { members: after, totals } = swarm.host.status()
        expect(totals.contributions).toBeGreaterThanOrEqual(before.totals.contributions)
        for (const [peer, { contributions }] of before.members) {
          expect(after.find((each) => each.peer === peer)!.contributions).toBeGreaterThanOrEqual(
            contributions,
          )
        }
      }
      await swarm.host.finished
      await expectSameCheckpoint(members)
      const replayed = await replay(swarm.log)
      expect(stateHash(await replay(swarm.log))).toBe(stateHash(replayed))
      expect(replayed.totals.contributions).toBe(
        (await eventsOf()).filter(({ type }) => type === 'contributed').length,
      )
    },
  )

  test('before it could do what follows from an event leaves nothing behind in its store', async () => {
    swarm = await ToySwarm.start({
      rounds: { ...impatient, rounds: 8, minimumPeers: 1, vanishAfterMs: 5000 },
    })
    const member = swarm.join(1)
    const append = swarm.log.append.bind(swarm.log)
    for (const round of [4, 5, 6]) {
      const dying = Promise.withResolvers<void>()
      swarm.log.append = async (bytes, options) => {
        await append(bytes, options)
        const { type } = decodeEvent(bytes, options.expect)
        if (type !== 'contributed' || swarm.host.status().round < round) return
        dying.resolve()
        await new Promise(() => undefined) // the round is closed, and nobody drops what it makes superfluous
      }
      await dying.promise
      swarm.log.append = append
      await swarm.hostTransport.stop()
      void swarm.host.stop() // waits for what never comes
      await swarm.startHost()
    }
    await swarm.host.finished
    await expectSameCheckpoint([member])
    await swarm.host.stop()
    // Manifest, data and tokens; of the tokenizer, the initial checkpoint and what the state needs, root and chunk.
    const needed = artifactsOf(await replay(swarm.log)).size
    expect((await swarm.hostBlobs.list()).length).toBeLessThanOrEqual(3 + 2 * (2 + needed))
  })

  test('answers a report whose answer was lost with it', async () => {
    swarm = await ToySwarm.start({ rounds: { ...impatient, rounds: 2, vanishAfterMs: 5000 } })
    const members = [1, 2, 3].map((n) => swarm.join(n))
    // The moment after the append and before the answer.
    const append = swarm.log.append.bind(swarm.log)
    let killed: Promise<void> | undefined
    swarm.log.append = async (bytes, options) => {
      await append(bytes, options)
      const event = decodeEvent(bytes, options.expect)
      if (event.type === 'contributed' && killed === undefined) {
        killed = swarm.hostTransport.stop()
        await killed
      }
    }
    await swarm.until(({ totals }) => totals.contributions > 0)
    await swarm.killHost()
    swarm.log.append = append
    await swarm.startHost()
    await swarm.host.finished
    await expectSameCheckpoint(members)
    const contributed = (await eventsOf()).filter((event) => event.type === 'contributed')
    const each = contributed.map(({ peer, round }) => `${peer} ${round}`)
    expect(new Set(each).size).toBe(each.length)
    expect(members.flatMap(({ events }) => events.filter(({ type }) => type === 'refused'))).toEqual([])
  })
})

test('peers go back with a host whose folder was restored from a copy', async () => {
  const sync = { method: 'sparse-loco', innerSteps: 3 } as const
  const rounds = { ...impatient, rounds: 12, minimumPeers: 2, graceMs: 5000, vanishAfterMs: 1500 }
  swarm = await ToySwarm.start({ sync, rounds })
  const members = [1, 2].map((n) => swarm.join(n, { stepMs: 1 }))
  await swarm.until(({ checkpoint }) => checkpoint.round >= 2)
  const hostBlobs = memoryBlobs()
  for (const { cid } of await swarm.hostBlobs.list()) {
    await hostBlobs.put((await swarm.hostBlobs.get(cid))!, { expected: cid })
  }
  const log = memoryLog()
  for await (const { bytes, position } of swarm.log.read(0)) await log.append(bytes, { expect: position })
  await swarm.until(({ checkpoint }) => checkpoint.round >= 8)
  await swarm.killHost()
  const { version } = swarm.host.status()
  Object.assign(swarm, { log, hostBlobs })
  await swarm.startHost()
  expect(swarm.host.status().version).toBeLessThan(version)
  await swarm.host.finished
  await expectSameCheckpoint(members)
})

describe('two hosts of one run', () => {
  test('write to one log: the first one stops with one sentence, the second one goes on', async () => {
    swarm = await ToySwarm.start({ rounds: { ...impatient, rounds: 50 } })
    const members = [1, 2, 3].map((n) => swarm.join(n, { stepMs: 5 }))
    await swarm.until(({ checkpoint }) => checkpoint.round >= 1)
    const second = await swarm.takeOver()
    await expect(swarm.host.finished).rejects.toMatchObject({
      code: 'host/superseded',
      message: 'Another host has taken over this run, so this one has stopped.',
    })
    const { version } = second.status()
    expect((await replay(swarm.log)).version).toBe(version)
    await second.end()
    await second.stop()
    for (const member of members) member.leave()
  })

  test('a host that loses its lease stops, and what it had written is true', async () => {
    const lease = new AbortController()
    swarm = await ToySwarm.start({ host: { lease: lease.signal }, rounds: { ...impatient, rounds: 50 } })
    const members = [1, 2, 3].map((n) => swarm.join(n))
    await swarm.until(({ checkpoint }) => checkpoint.round >= 1)
    lease.abort(new Error('another one leads'))
    await expect(swarm.host.finished).rejects.toMatchObject({ code: 'host/superseded' })
    const { version, checkpoint } = await replay(swarm.log)
    const second = await swarm.takeOver()
    expect(second.status()).toMatchObject({ version: version + 1 })
    expect(second.status().checkpoint.round).toBeGreaterThanOrEqual(checkpoint.round)
    await second.stop()
    for (const member of members) member.leave()
  })

  test('a standby that takes over while a round is being merged merges it', async () => {
    swarm = await ToySwarm.start({ rounds: { rounds: 1 } })
    for (const n of [1, 2, 3]) swarm.join(n)
    await swarm.until(({ phase }) => phase === 'coolingDown')
    await swarm.killHost()
    const second = await swarm.takeOver()
    await second.finished
    expect(second.checkpoint().round).toBe(1)
    await second.stop()
  })
})

test('clocks that jump by an hour, of the host and of peers, change nothing', async () => {
  let offsetMs = 0
  const jumping: Clock = { ...systemClock(), now: () => Date.now() + offsetMs }
  swarm = await ToySwarm.start({
    host: { clock: jumping },
    rounds: { ...impatient, rounds: 8, vanishAfterMs: 5000 },
  })
  const random = seededRandom('jumps')
  const members = [1, 2, 3].map((n) => swarm.join(n, { clock: jumping, stepMs: 5 }))
  const stop = swarm.host.onChange(() => {
    offsetMs = [-hour, 0, hour][random.nextInt(3)]!
  })
  await swarm.host.finished
  stop()
  await expectSameCheckpoint(members)
  const events = await eventsOf()
  expect(events.filter(({ type }) => type === 'vanished')).toEqual([])
  const times = events.map(({ atMs }) => atMs)
  expect(times).toEqual(times.toSorted((a, b) => a - b))
  expect(times.at(-1)).toBeLessThan(hour)
  expect(members.flatMap((each) => each.events.filter(({ type }) => type === 'missed'))).toEqual([])
})

test('a peer that slept through some rounds comes back, and hears what became of its lease', async () => {
  const network = new MemoryNetwork()
  swarm = await ToySwarm.start({ network, rounds: { ...impatient, rounds: 300, minimumPeers: 2 } })
  const awake = [1, 2].map((n) => swarm.join(n, { stepMs: 5 }))
  const asleep = Promise.withResolvers<unknown>()
  const leased = Promise.withResolvers<void>()
  const sleeper: Member = swarm.join(3, {
    beforeStep: () => asleep.promise,
    onEvent: ({ type }) => type === 'leased' && leased.resolve(),
  })
  const account = () => swarm.host.status().members.find(({ peer }) => peer === sleeper.identity.peerId)
  await leased.promise
  network.partition([sleeper.identity.peerId])
  const { round } = swarm.host.status()
  await swarm.until((status) => account()?.status !== 'active' && status.round > round + 2)
  network.heal()
  asleep.resolve(undefined)
  await swarm.until(() => (account()?.contributions ?? 0) > 0)
  await swarm.host.end()
  await swarm.host.finished
  await expectSameCheckpoint([...awake, sleeper])
  const lost = sleeper.events.filter(({ type }) => type === 'missed' || type === 'refused')
  expect(lost.length).toBeGreaterThan(0)
})

describe('the owner of a run', () => {
  test('pauses it, lets it go on, changes its rules and ends it, while others may only look', async () => {
    swarm = await ToySwarm.start({ host: { owners: [owner.peerId] }, rounds: { ...impatient, rounds: 500 } })
    const members = [1, 2, 3].map((n) => swarm.join(n, { stepMs: 5 }))
    const client = await swarm.client(50)
    const onlooker = await swarm.client(51)
    await swarm.until(({ checkpoint }) => checkpoint.round >= 1)

    expect(await client.control('pause')).toMatchObject({ pauseRequested: true })
    await swarm.until(({ phase }) => phase === 'paused')
    const { checkpoint } = await onlooker.status()
    await swarm.until(({ members: all }) => all.every(({ progress }) => progress?.phase === 'waiting'))
    expect(members[0]!.peer.status().why).toBe('for the owner of the run, who has paused it')
    expect(swarm.host.status()).toMatchObject({ phase: 'paused', checkpoint })

    await client.control('resume')
    await swarm.until(({ checkpoint: newest }) => newest.round > checkpoint.round)

    const { policy } = await client.control({ policy: { graceMs: 77, maximumPeers: 9 } })
    expect(policy).toMatchObject({ graceMs: 77, maximumPeers: 9, quorum: 0.67 })
    await expect(client.control({ policy: { quorum: 2 } })).rejects.toMatchObject({
      remoteCode: 'control/policy',
      message: expect.stringContaining('quorum'),
    })
    await expect(client.control({ policy: { speed: 2 } as object })).rejects.toMatchObject({
      remoteCode: 'control/policy',
    })
    await expect(client.control({ policy: { maximumPeers: 257 } })).rejects.toMatchObject({
      remoteCode: 'control/policy',
      message: expect.stringContaining('room for 256 peers'),
    })
    await expect(onlooker.control('end')).rejects.toMatchObject({ remoteCode: 'control/not-owner' })

    await client.control('end')
    await swarm.host.finished
    await expectSameCheckpoint(members)
    const { policy: kept } = await replay(swarm.log)
    expect(kept).toMatchObject({ graceMs: 77, maximumPeers: 9 })
  })

  test('and everybody else can read and check the whole ledger, page by page', async () => {
    swarm = await ToySwarm.start({ rounds: { ...impatient, rounds: 4 } })
    for (const n of [1, 2, 3]) swarm.join(n)
    await swarm.host.finished
    const onlooker = await swarm.client(51)
    const entries: LedgerEntry[] = []
    for (let from = 0; ; ) {
      const page = await onlooker.ledger({ from, limit: 5 })
      entries.push(...page.entries)
      from = page.next
      if (page.next === page.length) break
    }
    const { runId } = swarm.host
    for (const entry of entries) verifyLedgerEntry(entry, runId, swarm.hostIdentity.peerId)
    const { totals } = await onlooker.status()
    expect(entries).toHaveLength(totals.contributions)
    expect(entries.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(totals.tokens)
    // Any number that is changed in any entry shows.
    fc.assert(
      fc.property(
        fc.constantFrom(...entries),
        fc.constantFrom('steps', 'tokens', 'loss', 'leaseRound'),
        fc.integer({ min: 1, max: 1000 }),
        (entry, field, more) => {
          const changed = { ...entry, [field]: entry[field] + more }
          expect(() => verifyLedgerEntry(changed, runId, swarm.hostIdentity.peerId)).toThrow(/does not hold/)
        },
      ),
    )
  })
})
