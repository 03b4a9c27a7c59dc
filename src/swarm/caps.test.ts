/** Rate caps of a libp2p node: what they let through, and that neither control messages nor chunks starve. */
import { afterEach, describe, expect, test } from 'vitest'
import { type Clock, systemClock } from '../core/index.ts'
import { chunkBytes, putArtifact } from './artifact.ts'
import { memoryBlobs } from './blobs.ts'
import { fetchArtifact, serveBlobs } from './fetch.ts'
import { libp2pTransport } from './libp2p-transport.ts'
import { pacingLimits, type RateCaps } from './pacing.ts'
import { isRemote, messageProtocol, type ProtocolId, type Transport } from './transport.ts'
import { identityOf } from './transport-suite.ts'

const bulk: ProtocolId = '/groundswell/bulk/1'
const speedUp = 5
/** Five seconds in one. */
const hastyClock: Clock = {
  now: () => Date.now() * speedUp,
  steady: () => performance.now() * speedUp,
  sleep: (ms, signal) => systemClock().sleep(ms / speedUp, signal),
}

describe('rate caps', () => {
  const running: Transport[] = []
  afterEach(async () => {
    await Promise.all(running.splice(0).map((transport) => transport.stop()))
  })

  /** A host and a peer that has dialled it, each with its caps. */
  async function pair(
    caps: { host?: RateCaps; peer?: RateCaps },
    clock: Clock = hastyClock,
  ): Promise<{
    host: Transport
    peer: Transport
  }> {
    const start = async (who: string, its: RateCaps = {}): Promise<Transport> => {
      const listen = ['/ip4/127.0.0.1/tcp/0']
      const transport = await libp2pTransport({ identity: identityOf(who), listen, clock, caps: its })
      running.push(transport)
      return transport
    }
    const [host, peer] = [await start('host', caps.host), await start('peer', caps.peer)]
    await peer.dial(host.addresses[0]!)
    return { host, peer }
  }

  /** The largest excess of what was moved over rate · time, over all windows between two looks at the count. */
  function watch(count: () => number, bytesPerSecond: number): () => number {
    const looks: { at: number; bytes: number }[] = []
    const look = (): void => void looks.push({ at: hastyClock.now(), bytes: count() })
    look()
    const looking = setInterval(look, 5)
    return () => {
      clearInterval(looking)
      look()
      let excess = 0
      for (const [i, from] of looks.entries()) {
        for (const to of looks.slice(i + 1)) {
          excess = Math.max(excess, to.bytes - from.bytes - ((to.at - from.at) / 1000) * bytesPerSecond)
        }
      }
      return excess
    }
  }

  const content = new Uint8Array(6 * chunkBytes + 5).map((_, i) => i % 249)

  test('what a node sends stays below its cap over any window', async () => {
    const rate = 1024 * 1024
    const { host, peer } = await pair({ host: { upBytesPerSecond: rate } })
    const blobs = memoryBlobs()
    const root = await putArtifact(blobs, content)
    serveBlobs(host, blobs)
    const excess = watch(() => host.ledger.total().sentBytes, rate)
    const init = { root, sources: [host.self], transport: peer, blobs: memoryBlobs(), maxBytes: 1e7 }
    await fetchArtifact(init)
    expect(excess()).toBeLessThan(rate / 4 + 1024)
    expect(peer.ledger.total().refusals).toEqual({})
  })

  test('what a node receives stays below its cap: it asks for no more than may come', async () => {
    const rate = 1024 * 1024
    const { host, peer } = await pair({ peer: { downBytesPerSecond: rate } })
    const blobs = memoryBlobs()
    const root = await putArtifact(blobs, content)
    serveBlobs(host, blobs)
    const excess = watch(() => peer.ledger.total().receivedBytes, rate)
    const init = { root, sources: [host.self], transport: peer, blobs: memoryBlobs(), maxBytes: 1e7 }
    await fetchArtifact(init)
    // One chunk is asked for at a time and comes at once.
    expect(excess()).toBeLessThan(2 * chunkBytes)
    expect(peer.ledger.total().refusals).toEqual({})
  })

  test.each(['upBytesPerSecond', 'downBytesPerSecond'])(
    'a control message passes while chunks wait (%s)',
    async (cap) => {
      const slow = { [cap]: 4096 }
      const caps = cap === 'upBytesPerSecond' ? { host: slow } : { peer: slow }
      const { host, peer } = await pair(caps, systemClock())
      host.handle(messageProtocol, ({ bytes }) => bytes)
      host.handle(bulk, () => new Uint8Array(chunkBytes))
      const abort = new AbortController()
      const ask = (): Promise<unknown> =>
        peer.request(host.self, bulk, new Uint8Array(), { maxReplyBytes: chunkBytes, signal: abort.signal })
      const chunks = [ask(), ask()]
      const ended = Promise.allSettled(chunks)
      await expect.poll(() => peer.ledger.of(host.self).receivedBytes).toBeGreaterThan(0)
      for (let i = 0; i < 3; i++) {
        const reply = await peer.request(host.self, messageProtocol, Uint8Array.of(i), { maxReplyBytes: 10 })
        expect(reply).toEqual(Uint8Array.of(i))
      }
      abort.abort(new Error('enough'))
      await ended
    },
  )

  test('a reply that would wait for too long is refused, not left to time out', async () => {
    const { host, peer } = await pair({ host: { upBytesPerSecond: 64 * 1024 } }, systemClock())
    const size = (pacingLimits.backlogMs / 1000) * 64 * 1024
    host.handle(bulk, () => new Uint8Array(size))
    const abort = new AbortController()
    const options = { maxReplyBytes: size, signal: abort.signal }
    const ask = (): Promise<unknown> => peer.request(host.self, bulk, new Uint8Array(), options)
    const first = ask().catch(() => undefined)
    await expect.poll(() => peer.ledger.of(host.self).receivedBytes).toBeGreaterThan(0)
    await expect(ask()).rejects.toSatisfy((thrown) => isRemote(thrown, 'peer/busy'))
    abort.abort(new Error('enough'))
    await first
    await expect.poll(async () => isRemote(await refusal(host, peer), 'peer/busy')).toBe(false)
  })

  /** What becomes of one more request that is given up at once when it is admitted. */
  async function refusal(host: Transport, peer: Transport): Promise<unknown> {
    const abort = new AbortController()
    const before = peer.ledger.of(host.self).receivedBytes
    const options = { maxReplyBytes: 1e6, signal: abort.signal }
    const asked = peer.request(host.self, bulk, new Uint8Array(), options).catch((thrown: unknown) => thrown)
    await expect.poll(() => peer.ledger.of(host.self).receivedBytes).toBeGreaterThan(before)
    abort.abort(new Error('enough'))
    return asked
  }
})
