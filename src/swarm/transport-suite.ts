/**
 * What every transport must do, as tests that each implementation runs: see memory-transport.test.ts and
 * libp2p-transport.test.ts.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { GroundswellError, seededRandom } from '../core/index.ts'
import type { OnHandlerError } from './handlers.ts'
import { type Identity, identityFromSeed } from './identity.ts'
import { type ProtocolId, RemoteError, type Transport } from './transport.ts'

export interface TransportUnderTest {
  readonly name: string
  /** A fresh node that can be dialled; all nodes of one test can reach each other. */
  readonly make: (identity: Identity, options: { onHandlerError?: OnHandlerError }) => Promise<Transport>
}

const echo: ProtocolId = '/groundswell/echo/1'
const small = { maxReplyBytes: 1024 }
/** Twice as long are the ways in which a test may fail to end. */
const soon = 300

export function identityOf(name: string | number): Identity {
  const random = seededRandom('identity', name)
  return identityFromSeed(Uint8Array.from({ length: 32 }, () => random.nextInt(256)))
}

export function runTransportSuite({ name, make }: TransportUnderTest): void {
  describe(`transport: ${name}`, () => {
    const running: Transport[] = []
    const start = async (who: string, onHandlerError?: OnHandlerError): Promise<Transport> => {
      const transport = await make(identityOf(who), onHandlerError === undefined ? {} : { onHandlerError })
      running.push(transport)
      return transport
    }
    /** Two peers, of which Ada has dialled Bob. */
    const pair = async (onHandlerError?: OnHandlerError): Promise<{ ada: Transport; bob: Transport }> => {
      const [ada, bob] = [await start('ada'), await start('bob', onHandlerError)]
      await ada.dial(bob.addresses[0]!)
      return { ada, bob }
    }
    afterEach(async () => {
      await Promise.all(running.splice(0).map((transport) => transport.stop()))
    })

    test('a peer answers at its address, under its identity', async () => {
      const { ada, bob } = await pair()
      expect(bob.self).toBe(identityOf('bob').peerId)
      expect(bob.addresses[0]).toMatch(new RegExp(`/p2p/${bob.self}$`))
      expect(await ada.dial(bob.addresses[0]!)).toBe(bob.self)
    })

    test.each([0, 1, 70_000, 1024 * 1024 + 1])('a reply of %i bytes arrives as it was sent', async (size) => {
      const { ada, bob } = await pair()
      const reply = Uint8Array.from({ length: size }, (_, i) => (i * 31) % 251)
      bob.handle(echo, () => reply)
      const received = await ada.request(bob.self, echo, Uint8Array.of(1), { maxReplyBytes: size })
      expect(received.byteLength).toBe(size)
      expect(Buffer.compare(received, reply)).toBe(0)
    })

    test('a request of the longest allowed size arrives as it was sent; one byte more is refused', async () => {
      const { ada, bob } = await pair()
      const request = Uint8Array.from({ length: 64 * 1024 }, (_, i) => i % 253)
      bob.handle(echo, ({ bytes }) => Uint8Array.of(Buffer.compare(bytes, request)))
      expect(await ada.request(bob.self, echo, request, small)).toEqual(Uint8Array.of(0))

      const tooLong = ada.request(bob.self, echo, new Uint8Array(64 * 1024 + 1), small)
      await expect(tooLong).rejects.toMatchObject({ remoteCode: 'peer/request-oversized' })
      expect(bob.ledger.of(ada.self).refusals).toEqual({ 'request-oversized': 1 })
    })

    test('either side asks over the connection that one of them made, and each knows who the other is', async () => {
      const { ada, bob } = await pair()
      const tell = ({ from }: { from: string }): Uint8Array => new TextEncoder().encode(from)
      ada.handle(echo, tell)
      bob.handle(echo, tell)
      const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
      expect(decode(await ada.request(bob.self, echo, new Uint8Array(), small))).toBe(ada.self)
      expect(decode(await bob.request(ada.self, echo, new Uint8Array(), small))).toBe(bob.self)
    })

    test('many requests at once each get their own answer', async () => {
      const { ada, bob } = await pair()
      bob.handle(echo, ({ bytes }) => bytes)
      const numbers = Array.from({ length: 32 }, (_, i) => i)
      const ask = async (i: number): Promise<number> =>
        (await ada.request(bob.self, echo, Uint8Array.of(i), small))[0]!
      expect(await Promise.all(numbers.map(ask))).toEqual(numbers)
    })

    test('a handler’s refusal reaches whoever asked, with its code and its remedy', async () => {
      const { ada, bob } = await pair()
      bob.handle(echo, () => {
        throw new GroundswellError('Round 3 has closed.', { code: 'round/closed', remedy: 'Take part in 4.' })
      })
      const asked = ada.request(bob.self, echo, new Uint8Array(), small)
      await expect(asked).rejects.toBeInstanceOf(RemoteError)
      await expect(asked).rejects.toMatchObject({
        code: 'peer/refused',
        remoteCode: 'round/closed',
        message: 'Round 3 has closed.',
        remedy: 'Take part in 4.',
        peer: bob.self,
      })
    })

    test('a bug in a handler tells nothing to the other side and everything to its own', async () => {
      const told: unknown[] = []
      const { ada, bob } = await pair((thrown) => told.push(thrown))
      const bug = new TypeError('secret path /home/bob')
      bob.handle(echo, () => {
        throw bug
      })
      const asked = ada.request(bob.self, echo, new Uint8Array(), small)
      await expect(asked).rejects.toMatchObject({ remoteCode: 'peer/internal' })
      await expect(asked).rejects.not.toThrow('secret')
      expect(told).toEqual([bug])
      expect(bob.ledger.of(ada.self).refusals).toEqual({ 'handler-failed': 1 })
    })

    test('a reply longer than was asked for is refused', async () => {
      const { ada, bob } = await pair()
      bob.handle(echo, () => new Uint8Array(1025))
      await expect(ada.request(bob.self, echo, new Uint8Array(), small)).rejects.toMatchObject({
        code: 'peer/oversized',
      })
      expect(ada.ledger.of(bob.self).refusals).toMatchObject({ 'reply-oversized': 1 })
    })

    test('a protocol that the peer does not speak', async () => {
      const { ada, bob } = await pair()
      await expect(ada.request(bob.self, echo, new Uint8Array(), small)).rejects.toMatchObject({
        code: 'peer/unsupported',
      })
    })

    test('a peer that was never dialled and never came', async () => {
      const ada = await start('ada')
      const { peerId } = identityOf('nobody')
      await expect(ada.request(peerId, echo, new Uint8Array(), small)).rejects.toMatchObject({
        code: 'peer/unreachable',
      })
    })

    test('a peer that has gone', async () => {
      const { ada, bob } = await pair()
      const address = bob.addresses[0]!
      await bob.stop()
      await expect(ada.request(bob.self, echo, new Uint8Array(), small)).rejects.toMatchObject({
        code: expect.stringMatching(/^peer\/(unreachable|closed)$/), // closed if the news is still on its way
      })
      await expect(ada.dial(address)).rejects.toMatchObject({ code: 'peer/unreachable' })
    })

    test('text that is no address', async () => {
      const ada = await start('ada')
      await expect(ada.dial('Bob')).rejects.toBeInstanceOf(GroundswellError)
    })

    test('a peer that does not answer in time', async () => {
      const { ada, bob } = await pair()
      bob.handle(echo, () => new Promise(() => undefined))
      const asked = ada.request(bob.self, echo, new Uint8Array(), { ...small, timeoutMs: soon })
      await expect(asked).rejects.toMatchObject({ code: 'peer/timeout' })
      expect(ada.ledger.of(bob.self).refusals).toMatchObject({ 'reply-timeout': 1 })
    })

    test('whoever asked may give up: the handler hears of it, and nobody is blamed', async () => {
      const { ada, bob } = await pair()
      const heard = Promise.withResolvers<void>()
      const entered = Promise.withResolvers<void>()
      bob.handle(echo, ({ signal }) => {
        entered.resolve()
        return new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            resolve(new Uint8Array())
            heard.resolve()
          })
        })
      })
      const abort = new AbortController()
      const asked = ada.request(bob.self, echo, new Uint8Array(), { ...small, signal: abort.signal })
      await entered.promise
      abort.abort(new Error('enough'))
      await expect(asked).rejects.toThrow('enough')
      await heard.promise
      await new Promise(setImmediate)
      expect(bob.ledger.of(ada.self).refusals).toEqual({})
    })

    test('one peer cannot take all places; a place that became free is given again', async () => {
      const { ada, bob } = await pair()
      const release = Promise.withResolvers<void>()
      const entered = Promise.withResolvers<void>()
      let inside = 0
      const answer = async (): Promise<Uint8Array> => {
        if (++inside === 2) entered.resolve()
        await release.promise
        return new Uint8Array()
      }
      bob.handle(echo, answer, { maxConcurrentPerPeer: 2 })
      const ask = (): Promise<Uint8Array> => ada.request(bob.self, echo, new Uint8Array(), small)
      const admitted = [ask(), ask()]
      await entered.promise
      await expect(ask()).rejects.toMatchObject({ remoteCode: 'peer/busy' })
      expect(bob.ledger.of(ada.self).refusals).toEqual({ 'too-many-requests': 1 })
      release.resolve()
      await Promise.all(admitted)
      await expect(ask()).resolves.toEqual(new Uint8Array())
    })

    test('bytes are counted by peer, both ways, and both sides agree', async () => {
      const { ada, bob } = await pair()
      bob.handle(echo, () => new Uint8Array(5000))
      await ada.request(bob.self, echo, new Uint8Array(300), { maxReplyBytes: 5000 })
      const [mine, theirs] = [ada.ledger.of(bob.self), bob.ledger.of(ada.self)]
      expect(mine.sentBytes).toBeGreaterThanOrEqual(300)
      expect(mine.sentBytes).toBeLessThan(400)
      expect(mine.receivedBytes).toBeGreaterThanOrEqual(5000)
      expect(mine.receivedBytes).toBeLessThan(5100)
      expect(theirs.receivedBytes).toBe(mine.sentBytes)
      expect(theirs.sentBytes).toBe(mine.receivedBytes)
      expect(ada.ledger.total()).toMatchObject({ sentBytes: mine.sentBytes })
    })

    test('stopping ends what is under way on both sides', async () => {
      const { ada, bob } = await pair()
      const entered = Promise.withResolvers<void>()
      bob.handle(echo, () => {
        entered.resolve()
        return new Promise(() => undefined)
      })
      const asked = ada.request(bob.self, echo, new Uint8Array(), small)
      asked.catch(() => undefined) // looked at below
      await entered.promise
      await bob.stop()
      await expect(asked).rejects.toMatchObject({ code: 'peer/closed' })
      await bob.stop()
      const after = bob.request(ada.self, echo, new Uint8Array(), small)
      await expect(after).rejects.toMatchObject({ code: 'transport/stopped' })
      await expect(bob.dial(ada.addresses[0]!)).rejects.toMatchObject({ code: 'transport/stopped' })
    })

    test('stopping ends one’s own requests', async () => {
      const { ada, bob } = await pair()
      const entered = Promise.withResolvers<void>()
      bob.handle(echo, () => {
        entered.resolve()
        return new Promise(() => undefined)
      })
      const asked = ada.request(bob.self, echo, new Uint8Array(), small)
      asked.catch(() => undefined) // looked at below
      await entered.promise
      await ada.stop()
      await expect(asked).rejects.toMatchObject({ code: 'transport/stopped' })
    })
  })
}
