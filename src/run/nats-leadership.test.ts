import { setTimeout as sleep } from 'node:timers/promises'
import { jetstream } from '@nats-io/jetstream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { VirtualClock } from '../core/index.ts'
import { type Lease, soleLeadership } from './leadership.ts'
import { connectNats, type NatsConnection } from './nats-connection.ts'
import { type NatsServer, natsInstalled, settling, startNatsServer } from './nats-fixture.ts'
import { type NatsLeadershipInit, natsLeadership } from './nats-leadership.ts'

describe('the sole host of a run', () => {
  test('leads at once and for ever', async () => {
    const lease = await soleLeadership().acquire()
    expect(lease.signal.aborted).toBe(false)
    await lease.release()
  })

  test('does not lead when it was told to stop', async () => {
    await expect(soleLeadership().acquire(AbortSignal.abort(new Error('stop')))).rejects.toThrow('stop')
  })
})

/** A term in which nothing happens unless a test moves a clock; requests to the server may take a sixth of it. */
const ttlMs = 30_000

describe.skipIf(!natsInstalled)('leadership on NATS', () => {
  let server: NatsServer
  let connection: NatsConnection
  let settle: () => Promise<void>
  let runs = 0
  beforeAll(async () => {
    server = await startNatsServer()
    connection = await connectNats(server.url)
    settle = settling(connection)
  })
  afterAll(async () => {
    await connection.close()
    await server.stop()
  })

  /** A host with a clock of its own: as long as nobody moves it, the host is frozen. */
  class TestHost {
    readonly clock = new VirtualClock()
    readonly leaders: string[] = []
    lease: Lease | undefined
    acquiring: Promise<void> | undefined

    async stand(init: Partial<NatsLeadershipInit> & { run: string; holder: string }): Promise<void> {
      const { clock } = this
      const onStandby = (leader: string): number => this.leaders.push(leader)
      const leadership = await natsLeadership({ connection, ttlMs, clock, onStandby, ...init })
      this.acquiring = leadership.acquire().then((lease) => {
        this.lease = lease
      })
      await settle()
    }

    /** Moves on by thirds of a term, and lets every request be answered. */
    async live(thirds: number): Promise<void> {
      for (let i = 0; i < thirds; i++) {
        await this.clock.advance(ttlMs / 3)
        await settle()
      }
    }
  }

  const twoHosts = async (): Promise<[TestHost, TestHost, string]> => {
    const run = `run-${runs++}`
    const hosts: [TestHost, TestHost] = [new TestHost(), new TestHost()]
    await hosts[0].stand({ run, holder: 'first' })
    await hosts[0].acquiring
    await hosts[1].stand({ run, holder: 'second' })
    return [...hosts, run]
  }

  test('of two hosts one leads; the other one is told who, and waits as long as it renews', async () => {
    const [first, second] = await twoHosts()
    for (let i = 0; i < 12; i++) {
      await first.live(1)
      await second.live(1)
    }
    expect(first.lease?.signal.aborted).toBe(false)
    expect(second.lease).toBeUndefined()
    expect(second.leaders).toEqual(['first'])
  })

  test('of many who stand at once one leads', async () => {
    const run = `run-${runs++}`
    const hosts = Array.from({ length: 8 }, () => new TestHost())
    await Promise.all(hosts.map((host, i) => host.stand({ run, holder: `host ${i}` })))
    await Promise.all(hosts.map((host) => host.live(1)))
    expect(hosts.filter(({ lease }) => lease !== undefined)).toHaveLength(1)
  })

  test('a host that stops renewing is replaced after a term, and learns it when it wakes up', async () => {
    const [first, second] = await twoHosts()
    await second.live(2)
    expect(second.lease).toBeUndefined()
    await second.live(2)
    await second.acquiring
    expect(first.lease?.signal.aborted).toBe(false) // it sleeps
    await first.live(1)
    expect(first.lease?.signal.reason).toMatchObject({
      code: 'leadership/lost',
      message: expect.stringContaining('another host has taken over'),
    })
    await second.live(3)
    expect(second.lease?.signal.aborted).toBe(false)
  })

  test('a host whose clock jumped by a term does not trust its lease', async () => {
    const [first] = await twoHosts()
    const { clock } = first
    const now = clock.now.bind(clock)
    clock.now = () => now() + ttlMs
    await first.live(1)
    expect(first.lease?.signal.reason).toMatchObject({ code: 'leadership/lost' })
  })

  test('a clock that jumps does not let a host take over too early', async () => {
    const [, second] = await twoHosts()
    const now = second.clock.now.bind(second.clock)
    second.clock.now = () => now() + 1e9
    await second.live(2)
    expect(second.lease).toBeUndefined()
  })

  test('a lease that was given back is free at once, and its signal is not aborted', async () => {
    const [first, second] = await twoHosts()
    await first.lease?.release()
    await first.lease?.release()
    await second.live(1)
    await second.acquiring
    expect(first.lease?.signal.aborted).toBe(false)
    // Giving back what somebody else has now changes nothing.
    await first.lease?.release()
    await second.live(3)
    expect(second.lease?.signal.aborted).toBe(false)
  })

  test('giving back a lease that was lost does not take it from the next host', async () => {
    const [first, second, run] = await twoHosts()
    await second.live(4)
    await first.lease?.release()
    const third = new TestHost()
    await third.stand({ run, holder: 'third' })
    await second.live(1)
    await third.live(1)
    expect([second.lease?.signal.aborted, third.lease]).toEqual([false, undefined])
  })

  test('waiting ends when it is told to', async () => {
    const [, , run] = await twoHosts()
    const leadership = await natsLeadership({ connection, run, holder: 'x', clock: new VirtualClock() })
    const stop = new AbortController()
    const acquiring = leadership.acquire(stop.signal)
    await settle()
    stop.abort(new Error('enough'))
    await expect(acquiring).rejects.toThrow('enough')
  })

  test('what somebody else wrote into the lease is nobody’s name, and runs out', async () => {
    const run = `run-${runs++}`
    const host = new TestHost()
    await host.stand({ run: `${run}-other`, holder: 'x' }) // makes the bucket
    const forged = JSON.stringify({ holder: 'x'.repeat(900), token: 1 })
    await jetstream(connection).publish(`$KV.groundswell-hosts.${run}`, forged)
    const second = new TestHost()
    await second.stand({ run, holder: 'second' })
    expect(second.leaders).toEqual(['somebody'])
    await second.live(4)
    await second.acquiring
  })

  test('a host that NATS leaves without an answer counts as replaced', async () => {
    await using own = await startNatsServer()
    const connected = await connectNats(own.url, { reconnectAfterMs: 50 })
    const clock = new VirtualClock()
    const ticking = setInterval(() => void clock.advance(20), 10)
    const short = { connection: connected, run: 'r', holder: 'x', ttlMs: 1200, clock }
    const lease = await (await natsLeadership(short)).acquire()
    own.freeze()
    while (!lease.signal.aborted) await sleep(10)
    clearInterval(ticking)
    expect(lease.signal.reason).toMatchObject({ code: 'leadership/lost' })
    own.thaw()
    await connected.close()
  })

  test('a server that starts again costs no lease', async () => {
    await using own = await startNatsServer()
    const connected = await connectNats(own.url, { reconnectAfterMs: 50 })
    const clock = new VirtualClock()
    const init = { connection: connected, run: 'r', holder: 'x', ttlMs: 60_000, clock }
    const lease = await (await natsLeadership(init)).acquire()
    await own.restart()
    const isConnected = (): Promise<boolean> =>
      connected.flush().then(
        () => true,
        () => false,
      )
    while (!(await isConnected())) await sleep(5)
    const answered = settling(connected)
    for (let i = 0; i < 6; i++) {
      await clock.advance(20_000)
      await answered()
    }
    expect(lease.signal.aborted).toBe(false)
    await connected.close()
  })
})
