/**
 * Of two hosts over one log one takes over when the other one freezes: whatever was acknowledged to the first is in what
 * the second reads, and the first can never write over it, whenever it froze and whatever it had under way.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GroundswellError, type Random, seededRandom, VirtualClock } from '../core/index.ts'
import type { Lease } from './leadership.ts'
import type { Log } from './log.ts'
import { connectNats, type NatsConnection } from './nats-connection.ts'
import { type NatsServer, natsInstalled, settling, startNatsServer } from './nats-fixture.ts'
import { natsLeadership } from './nats-leadership.ts'
import { natsLog } from './nats-log.ts'

const ttlMs = 30_000

/** The same host as a process of its own, with the clock of the machine: says what was acknowledged to it. */
const script = `
import { connectNats } from './src/run/nats-connection.ts'
import { natsLeadership } from './src/run/nats-leadership.ts'
import { natsLog } from './src/run/nats-log.ts'

const [url, run, holder] = process.argv.slice(1)
const connection = await connectNats(url)
const log = await natsLog({ connection, run })
const leadership = await natsLeadership({ connection, run, holder, ttlMs: 1200 })
console.log('standing')
const lease = await leadership.acquire()
let next = await log.length()
for (let i = 0; ; ) {
  try {
    await log.append(new TextEncoder().encode(holder + i), { expect: next })
    console.log(holder + i)
    next += 1
    i += 1
  } catch (error) {
    if (i > 0) {
      console.log(error.code)
      break
    }
    next = await log.length() // an append of the host before was still under way
  }
  await new Promise((resolve) => setTimeout(resolve, 2))
}
await connection.close()
`

class HostProcess {
  readonly child: ChildProcess
  readonly lines: string[] = []
  readonly ended: Promise<unknown>
  private partial = ''
  private onLine: () => void = () => undefined

  constructor(url: string, run: string, holder: string) {
    this.child = spawn(process.execPath, ['--input-type=module', '--eval', script, url, run, holder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.ended = new Promise((resolve) => this.child.on('close', resolve))
    this.child.stdout!.on('data', (data: Buffer) => {
      const lines = (this.partial + data.toString()).split('\n')
      this.partial = lines.pop()!
      this.lines.push(...lines)
      this.onLine()
    })
  }

  [Symbol.dispose](): void {
    this.child.kill('SIGKILL')
  }

  async said(lines: number): Promise<void> {
    while (this.lines.length < lines) await new Promise<void>((resolve) => (this.onLine = resolve))
  }
}

/** The smallest host there is: it leads, replays, and appends what it numbers. */
class Appender {
  readonly clock = new VirtualClock()
  readonly name: string
  readonly log: Log
  readonly acknowledged: string[] = []
  /** What it believes to be in the log. */
  view: string[] = []
  lease: Lease | undefined
  private readonly settle: () => Promise<void>

  private constructor(name: string, log: Log, settle: () => Promise<void>) {
    this.name = name
    this.log = log
    this.settle = settle
  }

  static async stand(name: string, run: string, connection: NatsConnection): Promise<Appender> {
    const settle = settling(connection)
    const appender = new Appender(name, await natsLog({ connection, run }), settle)
    const { clock } = appender
    const leadership = await natsLeadership({ connection, run, holder: name, ttlMs, clock })
    void leadership.acquire().then((lease) => {
      appender.lease = lease
    })
    await settle()
    return appender
  }

  /** Moves its own time on. A host whose time stands still is frozen: it renews nothing, as after SIGSTOP. */
  async live(ms: number): Promise<void> {
    await this.clock.advance(ms)
    await this.settle()
  }

  async replay(): Promise<void> {
    this.view = []
    for await (const { bytes } of this.log.read(0)) this.view.push(new TextDecoder().decode(bytes))
  }

  /** One numbered event at the end of what it knows. @throws GroundswellError `log/conflict` */
  async append(): Promise<void> {
    const event = `${this.name}${this.acknowledged.length}`
    await this.log.append(new TextEncoder().encode(event), { expect: this.view.length })
    this.acknowledged.push(event)
    this.view.push(event)
  }
}

describe.skipIf(!natsInstalled)('taking over', () => {
  let server: NatsServer
  const connections: NatsConnection[] = []
  beforeAll(async () => {
    server = await startNatsServer()
  })
  afterAll(async () => {
    await Promise.all(connections.map((connection) => connection.close()))
    await server.stop()
  })
  const connect = async (): Promise<NatsConnection> => {
    const connection = await connectNats(server.url)
    connections.push(connection)
    return connection
  }
  const twoAppenders = async (run: string): Promise<[Appender, Appender]> => {
    const first = await Appender.stand('a', run, await connect())
    expect(first.lease).toBeDefined()
    await first.replay()
    return [first, await Appender.stand('b', run, await connect())]
  }

  /** The leader works for a random while; returns an append that was under way when it froze, if there was one. */
  const workUntilFrozen = async (host: Appender, random: Random): Promise<Promise<unknown> | undefined> => {
    for (let left = random.nextInt(30); left > 0; left--) {
      await host.append()
      if (random.nextInt(4) === 0) await host.live(random.nextInt(ttlMs / 3))
    }
    return random.nextInt(2) === 0 ? host.append().catch((thrown: unknown) => thrown) : undefined
  }

  test.each(Array.from({ length: 12 }, (_, seed) => seed))(
    'from a host that froze at a random moment: nothing lost, nothing written over (seed %i)',
    async (seed) => {
      const random = seededRandom('takeover', seed)
      const [a, b] = await twoAppenders(`random-${seed}`)
      const underWay = await workUntilFrozen(a, random)
      while (b.lease === undefined) await b.live(ttlMs / 3)

      // An append that was under way may still arrive between reading and writing: then the new host reads again.
      for (let left = 1 + random.nextInt(10); left > 0; ) {
        try {
          if (b.acknowledged.length === 0) await b.replay()
          await b.append()
          left -= 1
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: 'log/conflict' })
        }
      }

      // The old one wakes up and goes on as if nothing had happened, before it has looked at its lease.
      await underWay
      await expect(a.append()).rejects.toMatchObject({ code: 'log/conflict' })
      await a.live(ttlMs / 3)
      expect(a.lease?.signal.reason).toMatchObject({ code: 'leadership/lost' })
      expect(b.lease?.signal.aborted).toBe(false)

      const seen = [...b.view]
      await b.replay()
      expect(b.view).toEqual(seen)
      expect(b.view.slice(0, a.acknowledged.length)).toEqual(a.acknowledged)
      // At most the one append of which the old host had no answer lies between.
      expect(b.view.length - a.acknowledged.length - b.acknowledged.length).toBeLessThanOrEqual(1)
      expect(b.view.slice(-b.acknowledged.length)).toEqual(b.acknowledged)
    },
  )

  test('and back again, many times: each goes on where the other one stopped', async () => {
    const run = 'back-and-forth'
    const acknowledged: string[] = []
    let leader = await Appender.stand('h0-', run, await connect())
    for (let turn = 1; turn <= 5; turn++) {
      const next = await Appender.stand(`h${turn}-`, run, await connect())
      await leader.replay()
      expect(leader.view).toEqual(acknowledged)
      for (let i = 0; i < 3; i++) await leader.append()
      acknowledged.push(...leader.acknowledged)
      if (turn % 2 === 0) await leader.lease?.release()
      while (next.lease === undefined) await next.live(ttlMs / 3)
      leader = next
    }
  })

  test('two that both believe to lead share no position', async () => {
    const [a, b] = await twoAppenders('both')
    await b.replay()
    const race = async (host: Appender, random: Random): Promise<void> => {
      for (let left = 40; left > 0; left--) {
        try {
          await host.append()
        } catch (thrown) {
          if (!(thrown instanceof GroundswellError) || thrown.code !== 'log/conflict') throw thrown
          if (random.nextInt(2) === 0) await host.replay()
        }
      }
      await host.replay()
    }
    await Promise.all([race(a, seededRandom('race', 'a')), race(b, seededRandom('race', 'b'))])
    await Promise.all([a.replay(), b.replay()])
    expect(a.view).toEqual(b.view)
    expect(a.view.filter((event) => event.startsWith('a'))).toEqual(a.acknowledged)
    expect(a.view.filter((event) => event.startsWith('b'))).toEqual(b.acknowledged)
  })

  test.skipIf(process.platform === 'win32')(
    'from a process that is stopped (SIGSTOP), and then from one that is killed (SIGKILL)',
    async () => {
      const run = 'processes'
      const log = await natsLog({ connection: await connect(), run })
      using first = new HostProcess(server.url, run, 'a')
      await first.said(20)
      using second = new HostProcess(server.url, run, 'b')
      await second.said(1)
      first.child.kill('SIGSTOP')
      await second.said(20)
      first.child.kill('SIGCONT')
      await first.ended
      expect(first.lines.at(-1)).toBe('log/conflict')
      using third = new HostProcess(server.url, run, 'c')
      await third.said(1)
      second.child.kill('SIGKILL')
      await Promise.all([second.ended, third.said(20)])
      third.child.kill('SIGKILL')
      await third.ended

      const view: string[] = []
      for await (const { bytes } of log.read(0)) view.push(new TextDecoder().decode(bytes))
      for (const { lines } of [first, second, third]) {
        const acknowledged = lines.filter((line) => /^[abc]\d+$/.test(line))
        const own = view.filter((event) => event[0] === acknowledged[0]![0])
        // A host that was killed may have appended one event more than it could say.
        expect(own.slice(0, acknowledged.length)).toEqual(acknowledged)
        expect(own.length - acknowledged.length).toBeLessThanOrEqual(1)
      }
      expect(view.map((event) => event[0]).join('')).toMatch(/^a+b+c+$/)
    },
    120_000,
  )
})
