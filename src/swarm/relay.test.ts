/** Two peers that meet only through a relay: all that a transport does, quotas, and relays that come and go. */
import { afterEach, describe, expect, test } from 'vitest'
import { type Cid, seededRandom } from '../core/index.ts'
import { chunkBytes, putArtifact, readArtifact } from './artifact.ts'
import { type Blobs, memoryBlobs } from './blobs.ts'
import { fetchArtifact, serveBlobs } from './fetch.ts'
import { libp2pTransport } from './libp2p-transport.ts'
import { decodeJoinLink, encodeJoinLink } from './link.ts'
import { type Relay, startRelay } from './relay.ts'
import { RelayAccounts, type RelayQuotas, RollingSum, relayQuotas } from './relay-quotas.ts'
import type { ProtocolId, Transport } from './transport.ts'
import { identityOf, runTransportSuite } from './transport-suite.ts'

const listen = ['/ip4/127.0.0.1/tcp/0']
const echo: ProtocolId = '/groundswell/echo/1'
const small = { maxReplyBytes: 100 }
const ending: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

async function relay(who = 'relay', quotas: Partial<RelayQuotas> = {}, at = listen): Promise<Relay> {
  const started = await startRelay({ identity: identityOf(who), listen: at, quotas })
  ending.push(() => started.stop())
  return started
}

/** A node that listens nowhere and is reached through these relays. */
async function behind(who: string, ...relays: Relay[]): Promise<Transport> {
  const transport = await libp2pTransport({
    identity: identityOf(who),
    relays: relays.map(({ addresses }) => addresses[0]!),
  })
  ending.push(() => transport.stop())
  return transport
}

let shared: Relay | undefined
runTransportSuite({
  name: 'libp2p through a relay',
  make: async (identity, options) => {
    if (shared === undefined) {
      shared = await relay()
      ending.push(async () => {
        shared = undefined
      })
    }
    return libp2pTransport({ identity, relays: [shared.addresses[0]!], ...options })
  },
})

const blobs = memoryBlobs()
const size = 100 * 1024 * 1024
const maxBytes = 2 * size

/** Content of which no two chunks are the same. */
async function artifactOf(sizeBytes: number): Promise<{ root: Cid; bytes: Uint8Array }> {
  const bytes = new Uint8Array(sizeBytes)
  const random = seededRandom('through a relay', sizeBytes)
  for (let at = 0; at < sizeBytes; at += 4096) bytes[at] = random.nextInt(256)
  return { root: await putArtifact(blobs, bytes), bytes }
}

describe('through a relay', () => {
  test('a peer behind it is named by an address that fits into a join link', async () => {
    const host = await behind('host', await relay('relay 1'), await relay('relay 2'))
    expect(host.addresses).toHaveLength(2)
    for (const address of host.addresses) {
      expect(address).toMatch(new RegExp(`^/ip4/127.0.0.1/tcp/\\d+/p2p/\\w+/p2p-circuit/p2p/${host.self}$`))
    }
    const { root } = await artifactOf(10)
    const link = { runId: root, host: host.self, addresses: host.addresses }
    expect(decodeJoinLink(encodeJoinLink(link))).toEqual(link)
  })

  test('100 MB arrive whole, and both ends are charged for them', async () => {
    const r = await relay()
    const [host, peer] = [await behind('host', r), await behind('peer')]
    serveBlobs(host, blobs)
    const { root, bytes } = await artifactOf(size)
    await peer.dial(host.addresses[0]!)
    const into = memoryBlobs()
    await fetchArtifact({ transport: peer, blobs: into, sources: [host.self], root, maxBytes })
    expect(Buffer.compare(await readArtifact(into, root, { maxBytes }), bytes)).toBe(0)
    const { relayedBytes, reservations, circuits, byPeer } = r.status()
    expect({ reservations, circuits }).toEqual({ reservations: 1, circuits: 1 })
    expect(relayedBytes).toBeGreaterThan(size)
    expect(relayedBytes).toBeLessThan(1.02 * size)
    for (const { self } of [host, peer]) expect(byPeer.get(self)!.bytes).toBe(relayedBytes)
  }, 240_000)

  test('a direct connection is used as soon as there is one', async () => {
    const r = await relay()
    const host = await libp2pTransport({ identity: identityOf('host'), listen, relays: [r.addresses[0]!] })
    ending.push(() => host.stop())
    const peer = await behind('peer')
    host.handle(echo, ({ bytes }) => bytes)
    await peer.dial(host.addresses.find((each) => each.includes('p2p-circuit'))!)
    await peer.request(host.self, echo, Uint8Array.of(1), small)
    const before = r.status().relayedBytes
    expect(before).toBeGreaterThan(0)
    await peer.dial(host.addresses[0]!)
    for (let i = 0; i < 50; i++)
      await peer.request(host.self, echo, new Uint8Array(1000), { maxReplyBytes: 1000 })
    expect(r.status().relayedBytes - before).toBeLessThan(50_000)
  })
})

describe('relay quotas', () => {
  test('bytes used up: the circuit is closed, new ones are refused, and the fetch goes on over another relay', async () => {
    const [mean, other] = [await relay('mean', { bytesPerPeer: 5 * chunkBytes }), await relay('other')]
    const [host, peer] = [await behind('host', mean, other), await behind('peer')]
    serveBlobs(host, blobs)
    const { root } = await artifactOf(12 * chunkBytes)
    const [throughMean, throughOther] = host.addresses as [string, string]
    expect(throughMean).toContain(mean.self)
    await peer.dial(throughMean)
    const into = memoryBlobs()
    const init = { transport: peer, blobs: into, sources: [host.self], root, maxBytes }
    await expect(fetchArtifact(init)).rejects.toMatchObject({ code: 'artifact/unavailable' })
    expect(mean.status().refusals['quota-used-up']).toBeGreaterThan(1)
    expect(mean.status()).toMatchObject({ circuits: 0 })
    expect(mean.status().relayedBytes).toBeLessThan(6 * chunkBytes)
    await expect(peer.dial(throughMean)).rejects.toMatchObject({ code: 'peer/unreachable' })

    const kept = (await into.list()).length
    expect(kept).toBeGreaterThan(1)
    await peer.dial(throughOther)
    const report = await fetchArtifact(init)
    expect(report.fetchedBytes).toBe((12 - (kept - 1)) * chunkBytes)
  })

  test('circuits of one peer', async () => {
    const r = await relay('relay', { maxCircuitsPerPeer: 1 })
    const hosts = [await behind('host 1', r), await behind('host 2', r)]
    const peer = await behind('peer')
    await peer.dial(hosts[0]!.addresses[0]!)
    await expect(peer.dial(hosts[1]!.addresses[0]!)).rejects.toMatchObject({ code: 'peer/unreachable' })
    expect(r.status()).toMatchObject({ circuits: 1, refusals: { 'too-many-circuits': 1 } })
    await hosts[0]!.stop()
    await expect.poll(() => r.status().circuits).toBe(0)
    await peer.dial(hosts[1]!.addresses[0]!)
  })

  test('reservations; the place of a peer that has gone is given again', async () => {
    const r = await relay('relay', { maxReservations: 1 })
    const first = await behind('first', r)
    const second = await behind('second', r)
    expect([first.addresses, second.addresses].map(({ length }) => length)).toEqual([1, 0])
    expect(r.status().refusals['too-many-reservations']).toBeGreaterThan(0)
    await first.stop()
    await expect.poll(() => second.addresses.length, { timeout: 10_000 }).toBe(1)
  })

  test('bytes per second: what passes stays near the rate, and all of it arrives', async () => {
    const rate = 16 * 1024 * 1024
    const r = await relay('relay', { bytesPerSecondPerPeer: rate })
    const [host, peer] = [await behind('host', r), await behind('peer')]
    serveBlobs(host, blobs)
    const { root } = await artifactOf(24 * chunkBytes)
    await peer.dial(host.addresses[0]!)
    const from = Date.now()
    await fetchArtifact({ transport: peer, blobs: memoryBlobs(), sources: [host.self], root, maxBytes })
    const seconds = (Date.now() - from) / 1000
    // A burst, and what had come before the sender was paused: a window each way.
    expect(r.status().relayedBytes).toBeLessThan(seconds * rate + rate / 4 + 4 * chunkBytes)
  })

  test('a window moves on, and a clock that is set back forgets nothing', () => {
    let now = 1e12
    const sum = new RollingSum(24_000, { now: () => now, steady: () => now, sleep: () => Promise.resolve() })
    for (let i = 0; i < 24; i++) {
      sum.add(1)
      now += 1000
    }
    expect(sum.total()).toBe(23)
    now -= 10_000
    sum.add(1)
    expect(sum.total()).toBe(24)
    now += 100_000
    expect(sum.total()).toBe(0)
  })

  test('the use of a peer with an open circuit is not forgotten in a flood of others', () => {
    const clock = { now: () => 0, steady: () => 0, sleep: () => Promise.resolve() }
    const accounts = new RelayAccounts({ ...relayQuotas, maxPeers: 3, bytesPerPeer: 10 }, clock)
    const [ada, bob] = [identityOf('ada').peerId, identityOf('bob').peerId]
    accounts.open(ada, bob)
    accounts.passed(10, [ada, bob])
    for (let i = 0; i < 10; i++) accounts.open(identityOf(i).peerId, bob)[Symbol.dispose]()
    expect(accounts.byPeer().size).toBe(3)
    expect([ada, bob].map((peer) => accounts.objection(peer, bob))).toEqual([
      'quota-used-up',
      'quota-used-up',
    ])
  })
})

describe('a relay that comes and goes', () => {
  test('is missed at the start: the node runs, and is reached once the relay is up', async () => {
    const first = await relay()
    const [address] = first.addresses
    await first.stop()
    const news: string[] = []
    const host = await libp2pTransport({
      identity: identityOf('host'),
      relays: [address!],
      onRelay: ({ state }) => news.push(state),
    })
    ending.push(() => host.stop())
    expect(host.addresses).toEqual([])
    await relay('relay', {}, [address!.replace(/\/p2p\/.*/, '')])
    await expect.poll(() => host.addresses.length, { timeout: 10_000 }).toBe(1)
    expect(news[0]).toBe('unavailable')
    expect(news.at(-1)).toBe('reserved')
  })

  test('dies in the middle of a transfer: the fetch ends where it was and goes on when the relay is back', async () => {
    const first = await relay()
    const address = first.addresses[0]!
    const [host, peer] = [await behind('host', first), await behind('peer')]
    let served = 0
    const dying: Blobs = {
      ...blobs,
      get: async (cid) => {
        if (++served === 28) void first.stop()
        return blobs.get(cid)
      },
    }
    serveBlobs(host, dying)
    const { root } = await artifactOf(40 * chunkBytes)
    await peer.dial(host.addresses[0]!)
    const into = memoryBlobs()
    const init = { transport: peer, blobs: into, sources: [host.self], root, maxBytes }
    await expect(fetchArtifact(init)).rejects.toMatchObject({ code: 'artifact/unavailable' })
    const kept = (await into.list()).length - 1
    expect(kept).toBeGreaterThan(0)
    await expect.poll(() => host.addresses.length).toBe(0)

    await relay('relay', {}, [address.replace(/\/p2p\/.*/, '')])
    await expect.poll(() => host.addresses.length, { timeout: 15_000 }).toBe(1)
    // Nobody dials: the request finds the way by itself.
    const report = await fetchArtifact(init)
    expect(report.fetchedBytes).toBe((40 - kept) * chunkBytes)
  })

  test('a stranger brings no circuits: they are taken from one’s own relays only', async () => {
    const stranger = await relay('stranger')
    const host = await libp2pTransport({ identity: identityOf('host'), listen })
    const outside = await behind('outside', stranger)
    ending.push(() => host.stop())
    host.handle(echo, ({ bytes }) => bytes)
    await host.dial(outside.addresses[0]!) // now connected with the stranger, which is no relay of the host's
    const forged = `${stranger.addresses[0]!}/p2p-circuit/p2p/${host.self}`
    const peer = await behind('peer')
    await expect(peer.dial(forged)).rejects.toMatchObject({ code: 'peer/unreachable' })
    expect(host.addresses.every((each) => !each.includes('p2p-circuit'))).toBe(true)
  })
})
