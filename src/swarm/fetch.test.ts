import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Cid,
  encodeCanonical,
  type GroundswellError,
  seededRandom,
  VirtualClock,
} from '../core/index.ts'
import {
  artifactBlobs,
  chunkBytes,
  decodeArtifactRoot,
  encodeArtifactRoot,
  putArtifact,
  readArtifact,
} from './artifact.ts'
import { type Blobs, memoryBlobs } from './blobs.ts'
import { type FetchProgress, fetchArtifact, fetchBlob, fetchLimits, serveBlobs } from './fetch.ts'
import { sourceLimits } from './fetch-sources.ts'
import { fileBlobs } from './file-blobs.ts'
import type { MemoryLink } from './memory-links.ts'
import { MemoryNetwork, memoryTransport } from './memory-transport.ts'
import { chunkProtocol, type Handler, type Transport } from './transport.ts'
import { identityOf } from './transport-suite.ts'

const maxBytes = 32 * chunkBytes

function randomBytes(length: number, seed = 0): Uint8Array {
  const random = seededRandom('content', seed)
  const bytes = new Uint8Array(length)
  const words = new Uint32Array(bytes.buffer, 0, Math.floor(length / 4))
  for (let i = 0; i < words.length; i++) words[i] = random.nextUint32()
  return bytes
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

describe('an artifact', () => {
  test.each([0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3 * chunkBytes + 5])(
    'of %i bytes comes back whole, in chunks of 1 MiB',
    async (size) => {
      const blobs = memoryBlobs()
      const bytes = randomBytes(size)
      const root = await putArtifact(blobs, bytes)
      expect(same(await readArtifact(blobs, root, { maxBytes }), bytes)).toBe(true)
      const parts = await artifactBlobs(blobs, root, { maxBytes })
      expect(parts).toHaveLength(1 + Math.ceil(size / chunkBytes))
      expect(new Set((await blobs.list()).map(({ cid }) => cid))).toEqual(new Set(parts))
    },
  )

  test('has the same name wherever it is put', async () => {
    const bytes = randomBytes(chunkBytes + 7)
    expect(await putArtifact(memoryBlobs(), bytes)).toBe(await putArtifact(memoryBlobs(), bytes))
    expect(await putArtifact(memoryBlobs(), new Uint8Array())).toBe(
      'bafyreihuh7rvgs4znxe4qfvjacl46x33grklgtpitccatn346nuq4vk3oe',
    )
  })

  test('has the same name in however many pieces it is given', async () => {
    const bytes = randomBytes(2 * chunkBytes + 7)
    const name = await putArtifact(memoryBlobs(), bytes)
    const ends = fc.array(fc.nat(bytes.byteLength), { maxLength: 5 })
    await fc.assert(
      fc.asyncProperty(ends, async (cuts) => {
        const at = [0, ...cuts.toSorted((a, b) => a - b), bytes.byteLength]
        const pieces = at.slice(1).map((end, i) => bytes.subarray(at[i], end))
        expect(await putArtifact(memoryBlobs(), pieces)).toBe(name)
      }),
      { numRuns: 20, examples: [[[chunkBytes]], [[12]], [[0, 0]]] },
    )
  })

  test('is not read beyond what the caller allows, nor when a part is missing', async () => {
    const blobs = memoryBlobs()
    const root = await putArtifact(blobs, randomBytes(chunkBytes + 1))
    await expect(readArtifact(blobs, root, { maxBytes: chunkBytes })).rejects.toMatchObject({
      code: 'artifact/oversized',
    })
    const [, , last] = await artifactBlobs(blobs, root, { maxBytes })
    await blobs.delete(last!)
    await expect(readArtifact(blobs, root, { maxBytes })).rejects.toMatchObject({ code: 'blob/not-found' })
  })

  test('its root is read as it was written', async () => {
    const cids = await Promise.all([1, 2, 3].map((byte) => memoryBlobs().put(Uint8Array.of(byte))))
    fc.assert(
      fc.property(fc.nat({ max: 100 * chunkBytes }), (sizeBytes) => {
        const chunks = Array.from({ length: Math.ceil(sizeBytes / chunkBytes) }, (_, i) => cids[i % 3]!)
        const bytes = encodeArtifactRoot({ sizeBytes, chunks })
        expect(decodeArtifactRoot(bytes, { maxBytes: 100 * chunkBytes })).toEqual({ sizeBytes, chunks })
      }),
    )
  })

  test.each([
    ['no map', encodeCanonical([1])],
    ['no number', encodeCanonical({ size: '1', chunks: [] })],
    ['a negative size', encodeCanonical({ size: -1, chunks: [] })],
    ['fewer chunks than bytes', encodeCanonical({ size: 1, chunks: [] })],
    ['more chunks than bytes', encodeCanonical({ size: 0, chunks: [1] })],
    ['a chunk that is no link', encodeCanonical({ size: 1, chunks: ['x'] })],
    ['a field too many', encodeCanonical({ size: 0, chunks: [], more: 1 })],
    ['no dag-cbor', Uint8Array.of(0xff, 0)],
  ])('whose root is malformed is refused: %s', (_, bytes) => {
    expect(() => decodeArtifactRoot(bytes, { maxBytes })).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/malformed/) }),
    )
  })

  test('roots of arbitrary bytes give an error of ours', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        expect(() => decodeArtifactRoot(bytes, { maxBytes })).toThrow(
          expect.objectContaining({ code: expect.stringMatching(/malformed/) }),
        )
      }),
    )
  })
})

/** A newcomer and peers that serve, each connected with the newcomer. */
async function swarm(...servers: (Blobs | Handler)[]): Promise<{
  network: MemoryNetwork
  newcomer: Transport
  peers: Transport[]
}> {
  const network = new MemoryNetwork()
  const join = (who: string): Transport => memoryTransport({ self: identityOf(who).peerId, network })
  const newcomer = join('newcomer')
  const peers = servers.map((server, i) => {
    const peer = join(`peer ${i}`)
    if (typeof server === 'function') peer.handle(chunkProtocol, server)
    else serveBlobs(peer, server)
    return peer
  })
  for (const peer of peers) await newcomer.dial(peer.addresses[0]!)
  return { network, newcomer, peers }
}

const artifact = randomBytes(20 * chunkBytes + 123)
const stored = memoryBlobs()
const root: Cid = await putArtifact(stored, artifact)
const lie: Handler = () => new Uint8Array(100)

describe('fetching an artifact', () => {
  test('from one source: whole, counted, and with 24 chunks in flight', async () => {
    const artifact = randomBytes(60 * chunkBytes, 1)
    const stored = memoryBlobs()
    const root = await putArtifact(stored, artifact)
    const maxBytes = artifact.byteLength
    let inFlight = 0
    let most = 0
    const { newcomer, peers } = await swarm(stored)
    const watched: Transport = Object.assign(Object.create(newcomer), {
      request: async (...args: Parameters<Transport['request']>) => {
        most = Math.max(most, ++inFlight)
        try {
          return await newcomer.request(...args)
        } finally {
          inFlight -= 1
        }
      },
    })
    const blobs = memoryBlobs()
    const report = await fetchArtifact({
      root,
      sources: [peers[0]!.self],
      transport: watched,
      blobs,
      maxBytes,
    })
    expect(same(await readArtifact(blobs, root, { maxBytes }), artifact)).toBe(true)
    expect(most).toBe(sourceLimits.mostWindow)
    expect(report).toMatchObject({ sizeBytes: artifact.byteLength, failures: [] })
    expect(report.fetchedBytes).toBeGreaterThan(artifact.byteLength)
    expect(newcomer.ledger.of(peers[0]!.self).receivedBytes).toBe(report.fetchedBytes)
  })

  test('from several: each gives its share', async () => {
    const { newcomer, peers } = await swarm(stored, stored, stored, stored)
    const sources = peers.map(({ self }) => self)
    await fetchArtifact({ root, sources, transport: newcomer, blobs: memoryBlobs(), maxBytes })
    for (const peer of sources) {
      expect(newcomer.ledger.of(peer).receivedBytes).toBeGreaterThan(2 * chunkBytes)
    }
  })

  test('who lies is dropped and named, and the others carry on', async () => {
    const { newcomer, peers } = await swarm(lie, stored)
    const [liar, honest] = peers.map(({ self }) => self)
    const blobs = memoryBlobs()
    const report = await fetchArtifact({
      root,
      sources: [liar!, honest!],
      transport: newcomer,
      blobs,
      maxBytes,
    })
    expect(same(await readArtifact(blobs, root, { maxBytes }), artifact)).toBe(true)
    expect(report.failures.length).toBeGreaterThan(0)
    for (const failure of report.failures) expect(failure).toMatchObject({ peer: liar, reason: 'wrong-hash' })
    expect(report.failures[0]!.cid).toBe(root)
    expect(newcomer.ledger.of(liar!).refusals).toEqual({ 'chunk-wrong-hash': report.failures.length })
  })

  test('a source that lies about some chunks only is dropped when it does', async () => {
    let served = 0
    const sometimes: Handler = async ({ bytes }) => {
      const { CID } = await import('multiformats/cid')
      const blob = await stored.get(CID.decode(bytes).toString() as unknown as Cid)
      return ++served % 2 === 0 ? new Uint8Array(blob!.byteLength) : blob!
    }
    const { newcomer, peers } = await swarm(sometimes, stored)
    const blobs = memoryBlobs()
    const sources = peers.map(({ self }) => self)
    const report = await fetchArtifact({ root, sources, transport: newcomer, blobs, maxBytes })
    expect(same(await readArtifact(blobs, root, { maxBytes }), artifact)).toBe(true)
    expect(report.failures).toContainEqual(
      expect.objectContaining({ peer: sources[0], reason: 'wrong-hash' }),
    )
  })

  test('who stalls is dropped and named', async () => {
    const { newcomer, peers } = await swarm(() => new Promise(() => undefined), stored)
    const sources = peers.map(({ self }) => self)
    const blobs = memoryBlobs()
    const report = await fetchArtifact({
      root,
      sources,
      transport: newcomer,
      blobs,
      maxBytes,
      chunkTimeoutMs: 200,
    })
    expect(same(await readArtifact(blobs, root, { maxBytes }), artifact)).toBe(true)
    expect(report.failures[0]).toMatchObject({ peer: sources[0], reason: 'timeout' })
  })

  test('sources that have a part each make the whole', async () => {
    const cids = await artifactBlobs(stored, root, { maxBytes })
    const halves = [memoryBlobs(), memoryBlobs()]
    for (const [i, cid] of cids.entries()) {
      await halves[i % 2]!.put((await stored.get(cid))!, { expected: cid })
    }
    const { newcomer, peers } = await swarm(...halves)
    const blobs = memoryBlobs()
    const sources = peers.map(({ self }) => self)
    const report = await fetchArtifact({ root, sources, transport: newcomer, blobs, maxBytes })
    expect(same(await readArtifact(blobs, root, { maxBytes }), artifact)).toBe(true)
    for (const { reason } of report.failures) expect(reason).toBe('missing')
  })

  test('a break costs what was under way; the next attempt asks only for what is missing', async () => {
    const { network, newcomer, peers } = await swarm(stored)
    const blobs = memoryBlobs()
    const init = { root, sources: [peers[0]!.self], transport: newcomer, blobs, maxBytes }
    const broken = fetchArtifact({
      ...init,
      inFlight: 4,
      onProgress: ({ doneBytes }) => {
        if (doneBytes > 8 * chunkBytes) network.partition([newcomer.self])
      },
      chunkTimeoutMs: 50,
    })
    await expect(broken).rejects.toMatchObject({
      code: 'artifact/unavailable',
      failures: expect.arrayContaining([expect.objectContaining({ peer: peers[0]!.self })]),
    })
    network.heal()
    const progress: FetchProgress[] = []
    const report = await fetchArtifact({ ...init, onProgress: (each) => progress.push(each) })
    expect(report.fetchedBytes).toBeLessThan(14 * chunkBytes)
    expect(progress.find(({ totalBytes }) => totalBytes > chunkBytes)!.doneBytes).toBeGreaterThan(
      7 * chunkBytes,
    )
    expect(progress.at(-1)).toEqual({ doneBytes: artifact.byteLength, totalBytes: artifact.byteLength })
    expect(same(await readArtifact(blobs, root, { maxBytes }), artifact)).toBe(true)
  })

  test('connections that break now and then cost repetitions, not the transfer', async () => {
    const { network, newcomer, peers } = await swarm(stored, stored)
    network.faults = { cutRequest: 0.04, cutReply: 0.04 }
    const blobs = memoryBlobs()
    const sources = peers.map(({ self }) => self)
    await fetchArtifact({ root, sources, transport: newcomer, blobs, maxBytes })
    expect(same(await readArtifact(blobs, root, { maxBytes }), artifact)).toBe(true)
  })

  test('what is larger than allowed is not fetched', async () => {
    const { newcomer, peers } = await swarm(stored)
    const blobs = memoryBlobs()
    const sources = [peers[0]!.self]
    const asked = fetchArtifact({ root, sources, transport: newcomer, blobs, maxBytes: 2 * chunkBytes })
    await expect(asked).rejects.toMatchObject({
      failures: [expect.objectContaining({ reason: 'oversized' })],
    })
    const nearly = { maxBytes: artifact.byteLength - 1 }
    await expect(
      fetchArtifact({ root, sources, transport: newcomer, blobs, ...nearly }),
    ).rejects.toMatchObject({
      code: 'artifact/oversized',
    })
    expect(await blobs.list()).toHaveLength(1)
  })

  test('nobody has it', async () => {
    const { newcomer, peers } = await swarm(memoryBlobs(), lie)
    const sources = peers.map(({ self }) => self)
    await expect(
      fetchArtifact({ root, sources, transport: newcomer, blobs: memoryBlobs(), maxBytes }),
    ).rejects.toMatchObject({
      code: 'artifact/unavailable',
      failures: expect.arrayContaining([
        expect.objectContaining({ peer: sources[0], cid: root, reason: 'missing' }),
        expect.objectContaining({ peer: sources[1], cid: root, reason: 'wrong-hash' }),
      ]),
    })
    await expect(
      fetchArtifact({ root, sources: [], transport: newcomer, blobs: memoryBlobs(), maxBytes }),
    ).rejects.toMatchObject({ code: 'artifact/unavailable' })
  })

  test('a full disk of one’s own is not blamed on the source', async () => {
    const { newcomer, peers } = await swarm(stored)
    const blobs = memoryBlobs({ quotaBytes: 3 * chunkBytes })
    const sources = [peers[0]!.self]
    await expect(
      fetchArtifact({ root, sources, transport: newcomer, blobs, maxBytes }),
    ).rejects.toMatchObject({ code: 'blob/quota' })
  })

  test('can be given up', async () => {
    const { newcomer, peers } = await swarm(() => new Promise(() => undefined))
    const abort = new AbortController()
    const asked = fetchArtifact({
      root,
      sources: [peers[0]!.self],
      transport: newcomer,
      blobs: memoryBlobs(),
      maxBytes,
      signal: abort.signal,
    })
    abort.abort(new Error('enough'))
    await expect(asked).rejects.toThrow('enough')
  })
})

describe('fetching from many sources', () => {
  /** A newcomer and peers that serve `stored`, each over its own line, in virtual time. */
  async function world(...links: MemoryLink[]): Promise<{
    network: MemoryNetwork
    clock: VirtualClock
    newcomer: Transport
    peers: Transport[]
    /** Lets time pass until the fetch has ended. */
    run: <Result>(fetch: Promise<Result>) => Promise<Result>
  }> {
    const clock = new VirtualClock()
    const ids = links.map((_, i) => identityOf(`source ${i}`).peerId)
    const network = new MemoryNetwork({ clock, linkOf: (peer) => links[ids.indexOf(peer)] })
    const newcomer = memoryTransport({ self: identityOf('newcomer').peerId, network })
    const peers = ids.map((self) => memoryTransport({ self, network }))
    const run = async <Result>(fetch: Promise<Result>): Promise<Result> => {
      let ended = false
      const end = fetch.finally(() => (ended = true))
      end.catch(() => undefined) // the caller looks at it
      while (!ended) {
        await clock.advance(5)
        await new Promise((resolve) => setImmediate(resolve)) // hashing takes real time
      }
      return end
    }
    for (const peer of peers) {
      serveBlobs(peer, stored)
      await run(newcomer.dial(peer.addresses[0]!))
    }
    return { network, clock, newcomer, peers, run }
  }
  const fast = { upBytesPerSecond: 10 * chunkBytes, latencyMs: 20 }
  const slow = { upBytesPerSecond: chunkBytes / 10, latencyMs: 20 }

  test('load spreads by measured speed, and a slow source does not hold up the end', async () => {
    const { clock, newcomer, peers, run } = await world(fast, slow, fast)
    const blobs = memoryBlobs()
    const sources = peers.map(({ self }) => self)
    const start = clock.now()
    const report = await run(fetchArtifact({ transport: newcomer, clock, blobs, sources, root, maxBytes }))
    expect(same(await readArtifact(blobs, root, { maxBytes }), artifact)).toBe(true)
    // 21 chunks at 20 a second; one chunk alone would take the slow source ten seconds.
    expect(clock.now() - start).toBeLessThan(3500)
    const [one, two, three] = report.sources.map(({ receivedBytes }) => receivedBytes)
    expect(two).toBeLessThan(2 * chunkBytes)
    for (const bytes of [one, three]) expect(bytes).toBeGreaterThan(7 * chunkBytes)
    expect(report.duplicateBytes).toBeLessThanOrEqual(2 * chunkBytes)
  })

  test('a question that was lost is asked again, where its answer is small, even of the only source', async () => {
    const { network, clock, newcomer, peers, run } = await world(fast)
    const [source] = peers as [Transport]
    const small = randomBytes(1000)
    const smallRoot = await putArtifact(stored, small)
    const nowhere = await putArtifact(memoryBlobs(), randomBytes(1000, 1))
    for (const [wanted, code] of [
      [smallRoot, undefined],
      [nowhere, 'artifact/unavailable'],
    ] as const) {
      network.faults = { lose: 1 }
      const start = clock.now()
      const blobs = memoryBlobs()
      const from = { transport: newcomer, clock, blobs, sources: [source.self], maxBytes }
      const fetched = run(fetchArtifact({ ...from, root: wanted }))
      const outcome = fetched.then(
        () => undefined,
        (thrown: unknown) => (thrown as GroundswellError).code,
      )
      while (clock.now() - start < 1000) await new Promise((resolve) => setImmediate(resolve))
      network.faults = {}
      expect(await outcome).toBe(code)
      expect(clock.now() - start).toBeLessThan(fetchLimits.chunkTimeoutMs / 3)
    }
  })

  test('a source that comes while the fetch is under way is used', async () => {
    const { clock, newcomer, peers, run } = await world({ upBytesPerSecond: 2 * chunkBytes }, fast)
    const [first, second] = peers.map(({ self }) => self)
    const sources = [first!]
    const fetched = fetchArtifact({
      transport: newcomer,
      clock,
      blobs: memoryBlobs(),
      sources: () => sources,
      root,
      maxBytes,
      onProgress: ({ doneBytes }) => {
        if (doneBytes > 2 * chunkBytes && sources.length === 1) sources.push(second!)
      },
    })
    const report = await run(fetched)
    expect(report.sources.map(({ peer }) => peer)).toEqual([first, second])
    expect(report.sources[1]!.receivedBytes).toBeGreaterThan(6 * chunkBytes)
  })

  test('a source that was lost and comes back is asked again, as long as another carries on', async () => {
    const { network, clock, newcomer, peers, run } = await world({ upBytesPerSecond: chunkBytes }, fast)
    const [steady, flaky] = peers.map(({ self }) => self)
    network.partition([flaky!])
    const back = clock.sleep(6000).then(() => network.heal())
    const sources = [steady!, flaky!]
    const fetched = fetchArtifact({
      transport: newcomer,
      clock,
      blobs: memoryBlobs(),
      sources,
      root,
      maxBytes,
    })
    const report = await run(fetched)
    await back
    expect(report.sources[1]!.receivedBytes).toBeGreaterThan(5 * chunkBytes)
    expect(report.failures.some(({ peer, reason }) => peer === flaky && reason === 'broken')).toBe(true)
  })

  test('with patience, a fetch outlasts the absence of its only source', async () => {
    const { network, clock, newcomer, peers, run } = await world(fast)
    const blobs = memoryBlobs()
    const init = { transport: newcomer, clock, blobs, sources: [peers[0]!.self], root, maxBytes }
    let cut = false
    const fetched = fetchArtifact({
      ...init,
      patienceMs: 30_000,
      chunkTimeoutMs: 1000,
      onProgress: ({ doneBytes }) => {
        if (cut || doneBytes < 5 * chunkBytes) return
        cut = true
        network.partition([newcomer.self])
        void clock.sleep(10_000).then(() => network.heal())
      },
    })
    const report = await run(fetched)
    expect(cut).toBe(true)
    expect(same(await readArtifact(blobs, root, { maxBytes }), artifact)).toBe(true)
    expect(report.fetchedBytes).toBeLessThan(artifact.byteLength + 2 * chunkBytes)
  })

  test('another process with the same folder goes on where the first was killed', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'groundswell-fetch-'))
    try {
      const { newcomer, peers } = await swarm(stored)
      const init = { transport: newcomer, sources: [peers[0]!.self], root, maxBytes }
      const killed = new AbortController()
      const first = fetchArtifact({
        ...init,
        blobs: await fileBlobs(folder),
        signal: killed.signal,
        onProgress: ({ doneBytes }) => {
          if (doneBytes > 6 * chunkBytes) killed.abort(new Error('killed'))
        },
      })
      await expect(first).rejects.toThrow('killed')
      const blobs = await fileBlobs(folder)
      const kept = (await blobs.list()).length - 1
      expect(kept).toBeGreaterThan(5)
      const report = await fetchArtifact({ ...init, blobs })
      expect(report.fetchedBytes).toBeLessThanOrEqual((21 - kept) * chunkBytes)
      expect(same(await readArtifact(blobs, root, { maxBytes }), artifact)).toBe(true)
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})

describe('fetching one blob', () => {
  test('gives its bytes, from the store when they are there', async () => {
    const { newcomer, peers } = await swarm(stored)
    const blobs = memoryBlobs()
    const init = { cid: root, sources: [peers[0]!.self], transport: newcomer, blobs }
    const bytes = await fetchBlob(init)
    expect(decodeArtifactRoot(bytes, { maxBytes }).sizeBytes).toBe(artifact.byteLength)
    await peers[0]!.stop()
    expect(same(await fetchBlob(init), bytes)).toBe(true)
  })

  test('that seems to be there and is damaged fetches it', async () => {
    const { newcomer, peers } = await swarm(stored)
    const blobs = memoryBlobs()
    // As of a file: whether it is whole is seen when it is read.
    const damaged: Blobs = { ...blobs, has: async () => first || blobs.has(root), get: (cid) => read(cid) }
    let first = true
    const read: Blobs['get'] = (cid) => {
      first = false
      return blobs.get(cid)
    }
    const init = { sources: [peers[0]!.self], transport: newcomer, blobs: damaged }
    expect(await fetchBlob({ ...init, cid: root })).toEqual(await stored.get(root))
  })

  test('a request that is no CID is refused', async () => {
    const { newcomer, peers } = await swarm(stored)
    for (const request of [new Uint8Array(), Uint8Array.of(1, 2, 3), new Uint8Array(64)]) {
      await expect(
        newcomer.request(peers[0]!.self, chunkProtocol, request, { maxReplyBytes: 10 }),
      ).rejects.toMatchObject({ remoteCode: 'cid/invalid' })
    }
    await expect(
      newcomer.request(peers[0]!.self, chunkProtocol, new Uint8Array(65), { maxReplyBytes: 10 }),
    ).rejects.toMatchObject({ remoteCode: 'peer/request-oversized' })
  })
})
