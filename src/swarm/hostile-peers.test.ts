/**
 * Peers that break the rules, speaking raw libp2p to a real node. Each gets an error or is dropped, is counted with
 * the reason, and the node goes on answering the others.
 */
import { connect, createServer, type Socket } from 'node:net'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Clock, systemClock } from '../core/index.ts'
import { memoryBlobs } from './blobs.ts'
import { fetchBlob, serveBlobs } from './fetch.ts'
import type { RefusalReason } from './ledger.ts'
import { type ConnectionLimits, libp2pTransport, streamBuffers } from './libp2p-transport.ts'
import { chunkProtocol, type ProtocolId, type Transport } from './transport.ts'
import { identityOf } from './transport-suite.ts'
import { encodeReplyHeader, encodeRequestHeader } from './wire.ts'

const echo: ProtocolId = '/groundswell/echo/1'
const mebibyte = 1024 * 1024
const small = { maxReplyBytes: 100 }

/** Deadlines as in earnest, so many times as fast. */
const hasty = (times: number): Clock => ({
  now: () => Date.now(),
  steady: () => performance.now(),
  sleep: (ms, signal) => systemClock().sleep(ms / times, signal),
})
const hastyClock = hasty(50)

describe('hostile peers', () => {
  const ending: (() => unknown)[] = []
  const running = async (who: string, limits: Partial<ConnectionLimits> = {}): Promise<Transport> => {
    const transport = await libp2pTransport({
      identity: identityOf(who),
      listen: ['/ip4/127.0.0.1/tcp/0'],
      clock: hastyClock,
      limits,
    })
    ending.push(() => transport.stop())
    return transport
  }
  const rawNode = async (who: string): Promise<Libp2p> => {
    const node = await createLibp2p({
      privateKey: await generateKeyPairFromSeed('Ed25519', identityOf(who).seed),
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux({ streamOptions: streamBuffers })],
    })
    ending.push(() => node.stop())
    return node
  }
  const eve = identityOf('eve').peerId
  let host: Transport
  beforeEach(async () => {
    host = await running('host')
    host.handle(echo, ({ bytes }) => bytes)
  })
  afterEach(async () => {
    for (const end of ending.splice(0).reverse()) await end()
  })

  const stillAnswers = async (): Promise<void> => {
    const honest = await running('honest')
    await honest.dial(host.addresses[0]!)
    expect(await honest.request(host.self, echo, Uint8Array.of(7), small)).toEqual(Uint8Array.of(7))
  }
  const counted = (reason: RefusalReason): Promise<void> =>
    expect.poll(() => host.ledger.of(eve).refusals[reason] ?? 0, { timeout: 5000 }).toBeGreaterThan(0)

  describe('that ask', () => {
    let connection: Connection
    beforeEach(async () => {
      connection = await (await rawNode('eve')).dial(multiaddr(host.addresses[0]!))
    })
    const open = (protocol: ProtocolId = echo): Promise<Stream> => connection.newStream(protocol)
    /** All that the host says on a stream. */
    const heard = (stream: Stream): Promise<Uint8Array> =>
      new Promise((resolve) => {
        const parts: Uint8Array[] = []
        stream.addEventListener('message', ({ data }) => parts.push(data.subarray()))
        stream.addEventListener('close', () => resolve(new Uint8Array(Buffer.concat(parts))))
      })

    test.each([64 * 1024 + 1, 2 ** 32 - 1])('for %i bytes of request', async (bytes) => {
      const stream = await open()
      const answer = heard(stream)
      stream.send(encodeRequestHeader(bytes))
      await counted('request-oversized')
      await stream.close()
      expect(new TextDecoder().decode(await answer)).toContain('peer/request-oversized')
      await stillAnswers()
    })

    test('and go on sending after they were refused', async () => {
      const stream = await open()
      stream.send(encodeRequestHeader(2 ** 31))
      const flood = new Uint8Array(256 * 1024)
      const closed = new Promise((resolve) => stream.addEventListener('close', resolve))
      const sending = setInterval(() => {
        try {
          stream.send(flood)
        } catch {
          clearInterval(sending) // the host has cut us off
        }
      }, 1)
      await closed
      clearInterval(sending)
      expect(host.ledger.of(eve).refusals).toEqual({ 'request-oversized': 1 })
      expect(host.ledger.of(eve).receivedBytes).toBeLessThan(1024)
      await stillAnswers()
    })

    test('and never finish', async () => {
      const stream = await open()
      const answer = heard(stream)
      stream.send(encodeRequestHeader(100))
      stream.send(new Uint8Array(50))
      await counted('request-timeout')
      await answer
      await stillAnswers()
    })

    test('and never begin', async () => {
      const streams = await Promise.all(Array.from({ length: 10 }, () => open()))
      const answers = streams.map(heard)
      await counted('request-timeout')
      await Promise.all(answers)
      expect(host.ledger.of(eve).refusals).toEqual({ 'request-timeout': 10 })
      await stillAnswers()
    })

    test('and end in the middle', async () => {
      const stream = await open()
      const answer = heard(stream)
      stream.send(encodeRequestHeader(100))
      stream.send(new Uint8Array(50))
      await stream.close()
      await answer
      await counted('request-broken')
      await stillAnswers()
    })

    test('and end in the middle of the length', async () => {
      const stream = await open()
      stream.send(new Uint8Array(2))
      await stream.close()
      await counted('request-broken')
    })

    test('and say nothing at all', async () => {
      const stream = await open()
      await stream.close()
      await counted('request-broken')
    })

    test('and reset the stream', async () => {
      const stream = await open()
      stream.send(encodeRequestHeader(100))
      stream.abort(new Error('on purpose'))
      await counted('request-broken')
      await stillAnswers()
    })

    test('and send more than they announced', async () => {
      const stream = await open()
      const answer = heard(stream)
      stream.send(Uint8Array.of(...encodeRequestHeader(1), 1, 2, 3))
      await answer
      await counted('request-broken')
      await stillAnswers()
    })

    test('more at a time than they may', async () => {
      const release = Promise.withResolvers<void>()
      const slow: ProtocolId = '/groundswell/slow/1'
      let inside = 0
      host.handle(slow, async () => {
        inside += 1
        await release.promise
        return new Uint8Array()
      })
      const streams = await Promise.allSettled(Array.from({ length: 60 }, () => open(slow)))
      const answers: Promise<Uint8Array>[] = []
      for (const each of streams) {
        if (each.status === 'rejected') continue
        answers.push(heard(each.value))
        each.value.send(encodeRequestHeader(0))
        await each.value.close()
      }
      await counted('too-many-requests')
      await expect.poll(() => inside).toBe(32)
      release.resolve()
      await Promise.all(answers)
      await stillAnswers()
    })

    test('and close the connection while they are being answered', async () => {
      const entered = Promise.withResolvers<AbortSignal>()
      const slow: ProtocolId = '/groundswell/slow/1'
      host.handle(slow, ({ signal }) => {
        entered.resolve(signal)
        return new Promise(() => undefined)
      })
      const stream = await open(slow)
      stream.send(encodeRequestHeader(0))
      const signal = await entered.promise
      const gone = new Promise((resolve) => signal.addEventListener('abort', resolve))
      connection.abort(new Error('on purpose'))
      await gone
      await stillAnswers()
    })
  })

  describe('that answer', () => {
    let node: Libp2p
    beforeEach(async () => {
      node = await rawNode('eve')
      await host.dial(node.getMultiaddrs()[0]!.toString())
    })
    const ask = (): Promise<Uint8Array> => host.request(eve, echo, Uint8Array.of(1), small)
    const answersWith = (act: (stream: Stream) => void): Promise<void> =>
      node.handle(echo, (stream) => {
        stream.addEventListener('message', () => act(stream), { once: true })
      })

    test.each<[string, (stream: Stream) => void, string, RefusalReason]>([
      ['with garbage', (s) => void s.send(new Uint8Array(200).fill(9)), 'peer/malformed', 'reply-malformed'],
      [
        'with more than was asked for',
        (s) => void s.send(encodeReplyHeader('answer', 101)),
        'peer/oversized',
        'reply-oversized',
      ],
      [
        'with four gigabytes',
        (s) => void s.send(encodeReplyHeader('answer', 2 ** 32 - 1)),
        'peer/oversized',
        'reply-oversized',
      ],
      [
        'with an endless error',
        (s) => void s.send(encodeReplyHeader('error', 2049)),
        'peer/oversized',
        'reply-oversized',
      ],
      [
        'with an error that is none',
        (s) => void s.send(Uint8Array.of(...encodeReplyHeader('error', 1), 0xff)),
        'peer/malformed',
        'reply-malformed',
      ],
      [
        'with more than they announced',
        (s) => void s.send(Uint8Array.of(...encodeReplyHeader('answer', 1), 1, 2)),
        'peer/closed',
        'reply-broken',
      ],
      [
        'and stop in the middle',
        (s) => void s.send(encodeReplyHeader('answer', 50)),
        'peer/timeout',
        'reply-timeout',
      ],
      ['with nothing', () => undefined, 'peer/timeout', 'reply-timeout'],
      [
        'and end early',
        (s) => {
          s.send(encodeReplyHeader('answer', 50))
          void s.close()
        },
        'peer/closed',
        'reply-broken',
      ],
      ['and end at once', (s) => void s.close(), 'peer/closed', 'reply-broken'],
      [
        'and reset the stream',
        (s) => {
          s.send(encodeReplyHeader('answer', 50))
          s.abort(new Error('on purpose'))
        },
        'peer/closed',
        'reply-broken',
      ],
    ])('%s', async (_, act, code, reason) => {
      await answersWith(act)
      await expect(ask()).rejects.toMatchObject({ code })
      expect(host.ledger.of(eve).refusals).toEqual({ [reason]: 1 })
      await stillAnswers()
    })

    test('and keep the stream open afterwards: it is closed for them', async () => {
      const closed = Promise.withResolvers<void>()
      await answersWith((stream) => {
        stream.addEventListener('close', () => closed.resolve())
        stream.send(Uint8Array.of(...encodeReplyHeader('answer', 1), 7))
      })
      expect(await ask()).toEqual(Uint8Array.of(7))
      await closed.promise
    })

    test('and drip: slower than the slowest allowed is too slow', async () => {
      await answersWith((stream) => {
        stream.send(encodeReplyHeader('answer', 100))
        const dripping = setInterval(() => {
          if (stream.status === 'open') stream.send(Uint8Array.of(1))
          else clearInterval(dripping)
        }, 100)
      })
      await expect(ask()).rejects.toMatchObject({ code: 'peer/timeout' })
    })

    test.each([
      ['a chunk that is not what was asked for', [7]],
      ['a chunk of no length', []],
    ])('%s', async (_, body) => {
      await node.handle(chunkProtocol, (stream) => {
        stream.addEventListener(
          'message',
          () => stream.send(Uint8Array.of(...encodeReplyHeader('answer', body.length), ...body)),
          {
            once: true,
          },
        )
      })
      const cid = await memoryBlobs().put(Uint8Array.of(8))
      const blobs = memoryBlobs()
      await expect(fetchBlob({ cid, sources: [eve], transport: host, blobs })).rejects.toMatchObject({
        failures: [{ peer: eve, cid, reason: 'wrong-hash' }],
      })
      expect(await blobs.list()).toEqual([])
      expect(host.ledger.of(eve).refusals).toEqual({ 'chunk-wrong-hash': 1 })
    })
  })

  test('200 connections of one peer: eight are kept, the others are answered', async () => {
    const node = await rawNode('eve')
    const dials = Array.from({ length: 200 }, () =>
      node.dial(multiaddr(host.addresses[0]!), { force: true }).catch(() => undefined),
    )
    const honest = await running('friend')
    await Promise.all(dials)
    const open = (): number => node.getConnections().filter(({ status }) => status === 'open').length
    await expect.poll(open, { timeout: 5000 }).toBeLessThanOrEqual(8)
    const dialled = async (): Promise<string> => honest.dial(host.addresses[0]!).catch(() => 'not yet')
    await expect.poll(dialled, { timeout: 5000 }).toBe(host.self)
    expect(await honest.request(host.self, echo, Uint8Array.of(7), small)).toEqual(Uint8Array.of(7))
  })

  test('many identities from one address: as many at once as the threshold says, and others later', async () => {
    const target = async (maxConnectionsPerSecond: number): Promise<Transport> =>
      running(`at most ${maxConnectionsPerSecond}`, { maxConnectionsPerSecond })
    const [strict, usual] = [await target(2), await running('usual')]
    // A house or a school behind one router; libp2p's 5 would turn most of them away.
    const nodes = await Promise.all(Array.from({ length: 12 }, (_, i) => rawNode(`identity ${i}`)))
    const admitted = async (at: Transport): Promise<number> => {
      const dials = nodes.map((node) => node.dial(multiaddr(at.addresses[0]!)))
      return (await Promise.allSettled(dials)).filter(({ status }) => status === 'fulfilled').length
    }
    expect(await admitted(usual)).toBe(12)
    expect(await admitted(strict)).toBeLessThan(12)
    const dialled = async (): Promise<string> => host.dial(strict.addresses[0]!).catch(() => 'not yet')
    await expect.poll(dialled, { timeout: 10_000, interval: 600 }).toBe(strict.self)
  })

  test.each(['tcp', 'ws'])(
    '200 silent sockets: those inside are answered, newcomers after a while (%s)',
    async (kind) => {
      const limits = { handshakeTimeoutMs: 300, maxConnectionsPerSecond: 500 }
      const target = await libp2pTransport({
        identity: identityOf('target'),
        listen: [`/ip4/127.0.0.1/tcp/0${kind === 'ws' ? '/ws' : ''}`],
        limits,
      })
      ending.push(() => target.stop())
      target.handle(echo, ({ bytes }) => bytes)
      const inside = await running('inside')
      await inside.dial(target.addresses[0]!)
      const port = Number(/tcp\/(\d+)/.exec(target.addresses[0]!)![1])
      const sockets = Array.from({ length: 200 }, () =>
        connect(port, '127.0.0.1').on('error', () => undefined),
      )
      const closed = sockets.map((socket) => new Promise((resolve) => socket.on('close', resolve)))
      for (const socket of sockets) socket.resume()
      expect(await inside.request(target.self, echo, Uint8Array.of(7), small)).toEqual(Uint8Array.of(7))
      await Promise.all(closed)
      const newcomer = await running('newcomer')
      await newcomer.dial(target.addresses[0]!)
      expect(await newcomer.request(target.self, echo, Uint8Array.of(8), small)).toEqual(Uint8Array.of(8))
    },
  )

  test('a node with silent sockets stops at once', async () => {
    const target = await libp2pTransport({
      identity: identityOf('target'),
      listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws'],
    })
    const ports = target.addresses.map((address) => Number(/tcp\/(\d+)/.exec(address)![1]))
    const closed = ports.map(
      (port) =>
        new Promise<void>((resolve) => {
          const socket = connect(port, '127.0.0.1', () => void target.stop())
          socket.on('error', () => undefined)
          socket.on('close', () => resolve())
          socket.resume()
        }),
    )
    await Promise.all(closed)
    await target.stop()
  })
})

describe('a slow reader', () => {
  const ending: (() => unknown)[] = []
  afterEach(async () => {
    for (const end of ending.splice(0).reverse()) await end()
  })

  /** A host that serves one blob of 1 MiB, and a reader whose line passes only so many bytes. */
  async function slowLine(clock: Clock): Promise<{
    host: Transport
    reader: Transport
    /** Lets so many bytes more pass from the host to the reader. */
    pass: (bytes: number) => void
    request: () => Promise<number>
  }> {
    const blobs = memoryBlobs()
    const cid = await blobs.put(new Uint8Array(mebibyte).fill(5))
    const start = async (who: string, at: Clock): Promise<Transport> => {
      const transport = await libp2pTransport({
        identity: identityOf(who),
        listen: ['/ip4/127.0.0.1/tcp/0'],
        clock: at,
      })
      ending.push(() => transport.stop())
      return transport
    }
    const host = await start('host', clock)
    const reader = await start('reader', systemClock())
    serveBlobs(host, blobs)
    const [, hostPort] = /tcp\/(\d+)/.exec(host.addresses[0]!)!
    const lines: Socket[] = []
    let allowance = 0
    const proxy = createServer((near) => {
      const far = connect(Number(hostPort), '127.0.0.1')
      near.pipe(far)
      far.on('data', (data) => {
        near.write(data)
        allowance -= data.byteLength
        if (allowance <= 0) far.pause()
      })
      for (const socket of [near, far]) socket.on('error', () => undefined)
      near.on('close', () => far.destroy())
      far.on('close', () => near.destroy())
      lines.push(far)
    }).listen(0, '127.0.0.1')
    ending.push(() => {
      proxy.close()
      for (const line of lines) line.destroy()
    })
    await new Promise((resolve) => proxy.once('listening', resolve))
    const { port } = proxy.address() as { port: number }
    const pass = (bytes: number): void => {
      allowance = bytes
      for (const line of lines) line.resume()
    }
    pass(2 * mebibyte)
    await reader.dial(`/ip4/127.0.0.1/tcp/${port}/p2p/${host.self}`)
    const name = CID.parse(cid).bytes
    const request = async (): Promise<number> => {
      const reply = await reader.request(host.self, chunkProtocol, name, { maxReplyBytes: mebibyte })
      return reply.byteLength
    }
    await request()
    return { host, reader, pass, request }
  }

  test('that is held up and goes on gets all of it', async () => {
    const { pass, request } = await slowLine(systemClock())
    const asked = Promise.all(Array.from({ length: 16 }, request))
    for (let i = 0; i < 20; i++) {
      pass(mebibyte)
      await systemClock().sleep(20)
    }
    pass(Number.POSITIVE_INFINITY)
    expect(await asked).toEqual(Array.from({ length: 16 }, () => mebibyte))
  })

  test('that stops reading costs bounded memory, and is dropped', async () => {
    const { host, reader, pass, request } = await slowLine(hasty(12)) // 200 requests take longer to come than 10 s / 50
    const before = process.memoryUsage().arrayBuffers
    pass(mebibyte)
    const asked = Promise.allSettled(Array.from({ length: 200 }, request))
    let most = 0
    const measuring = setInterval(() => {
      most = Math.max(most, process.memoryUsage().arrayBuffers - before)
    }, 5)
    const refusals = (): number => host.ledger.of(reader.self).refusals['reader-stalled'] ?? 0
    await expect.poll(refusals, { timeout: 20_000 }).toBeGreaterThan(0)
    clearInterval(measuring)
    pass(Number.POSITIVE_INFINITY)
    await asked
    // 32 places of 1 MiB each, and as much again on the way: not the 200 MiB that were asked for.
    expect(most).toBeLessThan(100 * mebibyte)
    expect(await request()).toBe(mebibyte)
  })
})
