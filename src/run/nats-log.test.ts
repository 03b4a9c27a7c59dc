import { connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { jetstreamManager } from '@nats-io/jetstream'
import { nanos } from '@nats-io/transport-node'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { VirtualClock } from '../core/index.ts'
import { eventLimits } from './events.ts'
import { followLog, type Log, type LogEntry } from './log.ts'
import { runLogSuite } from './log-suite.ts'
import { connectNats, type NatsConnection } from './nats-connection.ts'
import { type NatsServer, natsInstalled, startNatsCluster, startNatsServer } from './nats-fixture.ts'
import { type NatsLogInit, natsLog } from './nats-log.ts'

let runs = 0
const freshRun = (): string => `run-${runs++}`

/** Asks again soon where an answer was lost, and still waits long for a server that starts again. */
const soon = { answerWithinMs: 5000 }

async function all(log: Log): Promise<number[]> {
  const entries: LogEntry[] = []
  for await (const entry of log.read(0)) entries.push(entry)
  expect(entries.map(({ position }) => position)).toEqual(entries.map((_, i) => i))
  return entries.map(({ bytes }) => bytes[0]!)
}

/** Lets requests through to the server, and can swallow what the server says. */
class Wire {
  readonly server: Server
  private readonly sockets = new Set<Socket>()
  /** Drops everything that the server sends from now on. */
  deaf = false

  constructor(port: number) {
    this.server = createServer((near) => {
      const far = connect(port, '127.0.0.1')
      for (const socket of [near, far]) {
        this.sockets.add(socket)
        socket.on('error', () => undefined)
      }
      near.on('data', (bytes) => far.write(bytes))
      far.on('data', (bytes) => {
        if (!this.deaf) near.write(bytes)
      })
      near.on('close', () => far.destroy())
      far.on('close', () => near.destroy())
    })
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve))
    return `nats://127.0.0.1:${(this.server.address() as { port: number }).port}`
  }

  breakAll(): void {
    for (const socket of this.sockets) socket.destroy()
    this.sockets.clear()
  }
}

describe.skipIf(!natsInstalled)('natsLog', () => {
  let server: NatsServer
  const connections: NatsConnection[] = []
  const connection = async (url = server.url): Promise<NatsConnection> => {
    const made = await connectNats(url, { reconnectAfterMs: 50 })
    connections.push(made)
    return made
  }
  const openLog = async (run: string, options: Partial<NatsLogInit> = {}): Promise<Log> =>
    natsLog({ connection: await connection(), run, ...options })
  beforeAll(async () => {
    server = await startNatsServer()
  })
  afterAll(async () => {
    await Promise.all(connections.map((each) => each.close()))
    await server.stop()
  })

  const runOf = new WeakMap<Log, string>()
  runLogSuite({
    name: 'natsLog',
    make: async () => {
      const run = freshRun()
      const log = await openLog(run)
      runOf.set(log, run)
      return log
    },
    reopen: async (log) => openLog(runOf.get(log)!),
  })

  test('nothing acknowledged is lost when the server is killed and started again, and the log goes on', async () => {
    await using own = await startNatsServer()
    const log = await natsLog({ connection: await connection(own.url), run: 'killed', ...soon })
    for (let i = 0; i < 100; i++) await log.append(Uint8Array.of(i), { expect: i })
    await own.kill()
    // Waits for the server, which comes back while it does.
    const appending = log.append(Uint8Array.of(100), { expect: 100 })
    await own.restart()
    await appending
    await log.append(Uint8Array.of(101), { expect: 101 })
    expect(await all(log)).toEqual(Array.from({ length: 102 }, (_, i) => i))
    await expect(log.append(Uint8Array.of(0), { expect: 101 })).rejects.toMatchObject({
      code: 'log/conflict',
    })
  })

  test('that is not there is not made by whoever only reads', async () => {
    const run = freshRun()
    const nats = await connection()
    const reading = { connection: nats, run, mustExist: true }
    await expect(natsLog(reading)).rejects.toMatchObject({ code: 'log/not-found' })
    await expect(natsLog(reading)).rejects.toMatchObject({ code: 'log/not-found' })
    await natsLog({ connection: nats, run })
    expect(await (await natsLog(reading)).length()).toBe(0)
  })

  test('killed under a stream of appends: what was acknowledged is there once, in order', async () => {
    await using own = await startNatsServer()
    const log = await natsLog({ connection: await connection(own.url), run: 'stream', ...soon })
    const entries = 150
    const appending = (async () => {
      for (let i = 0; i < entries; i++) await log.append(Uint8Array.of(i), { expect: i })
    })()
    for (let crash = 0; crash < 2; crash++) {
      while ((await log.length()) < 30 * (crash + 1)) await sleep(1)
      await own.kill()
      await own.restart()
    }
    await appending
    expect(await all(log)).toEqual(Array.from({ length: entries }, (_, i) => i))
  })

  test.each(['remembers', 'has forgotten'])(
    'an append whose acknowledgement is lost is asked for again, and is there once: the server %s its id',
    async (memory) => {
      const wire = new Wire(Number(new URL(server.url).port))
      const run = freshRun()
      const options = { connection: await connection(await wire.listen()), run, answerWithinMs: 5000 }
      const log = await natsLog(options)
      const elsewhere = await openLog(run)
      await log.append(Uint8Array.of(0), { expect: 0 })
      if (memory === 'has forgotten') {
        const { streams } = await jetstreamManager(await connection())
        const { config } = await streams.info(`groundswell-log-${run}`)
        await streams.update(config.name, { ...config, duplicate_window: nanos(100) })
      }
      wire.deaf = true
      const appending = log.append(Uint8Array.of(1), { expect: 1 })
      while ((await elsewhere.length()) < 2) await sleep(5)
      await elsewhere.append(Uint8Array.of(2), { expect: 2 })
      await sleep(200)
      wire.deaf = false
      wire.breakAll()
      await appending
      expect(await all(elsewhere)).toEqual([0, 1, 2])
      wire.server.close()
      wire.breakAll()
    },
  )

  test('with three replicas nothing is lost, and the log goes on, when one server of three is killed', async () => {
    await using cluster = await startNatsCluster(3)
    const url = cluster.servers.map((each) => each.url).join(',')
    const connected = async (): Promise<NatsConnection> => {
      for (;;) {
        const made = await connectNats(url, { connectWithinMs: 500, reconnectAfterMs: 50 }).catch(
          () => undefined,
        )
        if (made !== undefined) return made
        await sleep(50) // they still elect who leads
      }
    }
    const nats = await connected()
    const log = await natsLog({ connection: nats, run: 'replicated', replicas: 3 })
    for (let i = 0; i < 50; i++) await log.append(Uint8Array.of(i), { expect: i })
    const leader = (await (await jetstreamManager(nats)).streams.info('groundswell-log-replicated')).cluster
    await cluster.servers[Number(leader!.leader!.at(-1))]!.kill()
    for (let i = 50; i < 100; i++) await log.append(Uint8Array.of(i), { expect: i })
    expect(await all(log)).toEqual(Array.from({ length: 100 }, (_, i) => i))
    await nats.close()
  })

  test('says what this user may not do', async () => {
    await using own = await startNatsServer({
      configuration: `authorization { users = [
        { user: reader, password: r, permissions: { publish: { deny: ["$JS.API.STREAM.CREATE.>"] } } }
      ] }`,
    })
    const nats = await connection(own.url.replace('nats://', 'nats://reader:r@'))
    await expect(natsLog({ connection: nats, run: 'x' })).rejects.toMatchObject({
      code: 'log/not-allowed',
      remedy: expect.stringContaining('$JS.API.>'),
    })
  })

  test('an append of which nothing is known says so; asked for again it finds its entry, and another one does not', async () => {
    const wire = new Wire(Number(new URL(server.url).port))
    const run = freshRun()
    const log = await natsLog({
      connection: await connection(await wire.listen()),
      run,
      answerWithinMs: 1000,
    })
    const elsewhere = await openLog(run)
    wire.deaf = true
    await expect(log.append(Uint8Array.of(7), { expect: 0 })).rejects.toMatchObject({
      code: 'log/unreachable',
      message: expect.stringContaining('Whether entry 0 was added is not known'),
      remedy: expect.stringContaining('Check that the NATS server runs'),
    })
    await expect(log.length()).rejects.toMatchObject({ code: 'log/unreachable' })
    wire.deaf = false
    wire.breakAll()
    while ((await log.length().catch(() => undefined)) === undefined) {
      await sleep(20)
    }
    await log.append(Uint8Array.of(7), { expect: 0 })
    await expect(log.append(Uint8Array.of(7), { expect: 0 })).rejects.toMatchObject({ code: 'log/conflict' })
    expect(await all(elsewhere)).toEqual([7])
    wire.server.close()
    wire.breakAll()
  })

  test('a server that hangs is an error in words after the stated time', async () => {
    await using own = await startNatsServer()
    const log = await natsLog({
      connection: await connection(own.url),
      run: 'hangs',
      answerWithinMs: 1000,
    })
    own.freeze()
    let answer: unknown
    do answer = await log.length().catch((thrown: unknown) => thrown)
    while (answer === 0) // until the signal has reached the server
    expect(answer).toMatchObject({
      code: 'log/unreachable',
      message: expect.stringContaining('has not answered for 1 s'),
    })
    own.thaw()
    while ((await log.length().catch(() => undefined)) !== 0) await sleep(5)
  })

  test('who follows it waits out a server that is away', async () => {
    await using own = await startNatsServer()
    const writer = await natsLog({ connection: await connection(own.url), run: 'away' })
    const reader = await natsLog({
      connection: await connection(own.url),
      run: 'away',
      answerWithinMs: 500,
    })
    await writer.append(Uint8Array.of(0), { expect: 0 })
    const stop = new AbortController()
    const troubles: string[] = []
    const seen: number[] = []
    const following = (async () => {
      const options = {
        from: 0,
        clock: new VirtualClock(),
        signal: stop.signal,
        onTrouble: ({ code }: { code: string }) => troubles.push(code),
      }
      const ticking = setInterval(() => void options.clock.advance(250), 5)
      for await (const { bytes } of followLog(reader, options)) {
        seen.push(bytes[0]!)
        if (seen.length === 2) stop.abort()
      }
      clearInterval(ticking)
    })()
    await own.kill()
    while (troubles.length === 0) await sleep(5)
    await own.restart()
    await writer.append(Uint8Array.of(1), { expect: 1 })
    await following
    expect(seen).toEqual([0, 1])
    expect(new Set(troubles)).toEqual(new Set(['log/unreachable']))
  })

  test('says that an entry was removed', async () => {
    await using own = await startNatsServer()
    const nats = await connection(own.url)
    const manager = await jetstreamManager(nats)
    // As it is made, nobody can remove anything.
    const log = await natsLog({ connection: nats, run: 'gap' })
    for (let i = 0; i < 3; i++) await log.append(Uint8Array.of(i), { expect: i })
    await expect(manager.streams.deleteMessage('groundswell-log-gap', 2)).rejects.toThrow(/not permitted/)
    await expect(manager.streams.purge('groundswell-log-gap')).rejects.toThrow(/not permitted/)
    // A backup of such a stream may have been damaged, or been made by other means.
    const { config } = await manager.streams.info('groundswell-log-gap')
    await manager.streams.delete('groundswell-log-gap')
    await manager.streams.add({ ...config, deny_delete: false })
    for (let i = 0; i < 3; i++) await log.append(Uint8Array.of(i), { expect: i })
    await manager.streams.deleteMessage('groundswell-log-gap', 2)
    await expect(log.length()).rejects.toMatchObject({ code: 'log/damaged' })
    await expect(all(log)).rejects.toMatchObject({
      code: 'log/damaged',
      message: expect.stringContaining('2 of 3 entries'),
    })
  })

  test('says that a stream is not the log of a run, and leaves it as it is', async () => {
    const run = freshRun()
    const manager = await jetstreamManager(await connection())
    const name = `groundswell-log-${run}`
    await manager.streams.add({ name, subjects: [`groundswell.${run}.log`], max_msgs: 10 })
    await expect(openLog(run)).rejects.toMatchObject({ code: 'log/foreign' })
    expect((await manager.streams.info(name)).config.max_msgs).toBe(10)
  })

  test('says that another stream takes its messages', async () => {
    await using own = await startNatsServer()
    const nats = await connection(own.url)
    await (await jetstreamManager(nats)).streams.add({ name: 'everything', subjects: ['groundswell.>'] })
    await expect(natsLog({ connection: nats, run: 'x' })).rejects.toMatchObject({ code: 'log/foreign' })
  })

  test('says that there is no more room, and keeps what it has', async () => {
    const log = await openLog(freshRun(), { maxBytes: 2000 })
    await log.append(new Uint8Array(1000), { expect: 0 })
    await expect(log.append(new Uint8Array(1000), { expect: 1 })).rejects.toMatchObject({
      code: 'log/disk-full',
      remedy: expect.stringContaining('Free some space'),
    })
    expect(await log.length()).toBe(1)
    await log.append(new Uint8Array(10), { expect: 1 })
  })

  test('takes the longest event, and no longer entry', async () => {
    const log = await openLog(freshRun())
    await log.append(new Uint8Array(eventLimits.maxEventBytes), { expect: 0 })
    await expect(
      log.append(new Uint8Array(eventLimits.maxEventBytes + 1), { expect: 1 }),
    ).rejects.toMatchObject({ code: 'log/oversized' })
  })

  test('a name that is none never becomes a subject', async () => {
    for (const run of ['', 'a.b', 'a b', '>', '*', 'a'.repeat(129)]) {
      await expect(openLog(run)).rejects.toMatchObject({ code: 'log/bad-name' })
    }
  })

  test('says that the connection was closed', async () => {
    const nats = await connection()
    const log = await natsLog({ connection: nats, run: freshRun() })
    await nats.close()
    await expect(log.length()).rejects.toMatchObject({ code: 'log/unreachable' })
    await expect(log.append(Uint8Array.of(1), { expect: 0 })).rejects.toMatchObject({
      code: 'log/unreachable',
    })
  })
})
