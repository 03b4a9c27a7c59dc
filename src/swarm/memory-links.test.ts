import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { VirtualClock } from '../core/index.ts'
import type { MemoryLink } from './memory-links.ts'
import { MemoryNetwork, memoryTransport } from './memory-transport.ts'
import { chunkProtocol, messageProtocol, type ProtocolId, type Transport } from './transport.ts'
import { identityOf } from './transport-suite.ts'

interface World {
  readonly clock: VirtualClock
  readonly peers: Transport[]
  /** When the answer to a request was there. */
  readonly ask: (from: number, to: number, protocol: ProtocolId, replyBytes: number) => Promise<number>
}

/** Peers that know each other; each answers with as many bytes as the request says. */
async function world(...links: MemoryLink[]): Promise<World> {
  const clock = new VirtualClock()
  const ids = links.map((_, i) => identityOf(`linked ${i}`).peerId)
  const network = new MemoryNetwork({ clock, linkOf: (peer) => links[ids.indexOf(peer)] })
  const peers = ids.map((self) => memoryTransport({ self, network }))
  for (const peer of peers) {
    for (const protocol of [chunkProtocol, messageProtocol]) {
      peer.handle(protocol, ({ bytes }) => new Uint8Array(new DataView(bytes.slice().buffer).getUint32(0)))
    }
    const dials = peers.map((other) => peer.dial(other.addresses[0]!))
    await clock.advance(100_000)
    await Promise.all(dials)
  }
  return {
    clock,
    peers,
    ask: async (from, to, protocol, replyBytes) => {
      const request = new Uint8Array(4)
      new DataView(request.buffer).setUint32(0, replyBytes)
      await peers[from]!.request(peers[to]!.self, protocol, request, { maxReplyBytes: replyBytes })
      return clock.now()
    },
  }
}

describe('lines of the network in memory', () => {
  test('a reply takes its bytes over the slower of the two lines, and the latency of both ends twice', async () => {
    const { clock, ask } = await world(
      { downBytesPerSecond: 2e6, latencyMs: 10 },
      { upBytesPerSecond: 1e6, latencyMs: 40 },
    )
    const start = clock.now()
    const answered = ask(0, 1, chunkProtocol, 500_000)
    await clock.advance(10_000)
    expect((await answered) - start).toBeCloseTo(100 + 500, 0)
  })

  test('a control message does not wait behind chunks', async () => {
    const { clock, ask } = await world({}, { upBytesPerSecond: 1e6 })
    const start = clock.now()
    const chunks = Array.from({ length: 8 }, () => ask(0, 1, chunkProtocol, 1e6))
    const message = ask(0, 1, messageProtocol, 1000)
    await clock.advance(20_000)
    expect((await message) - start).toBeCloseTo(1, 0)
    expect(Math.max(...(await Promise.all(chunks))) - start).toBeCloseTo(8000, 0)
  })

  test('a slow sender does not keep the receiver’s line from a fast one', async () => {
    const { clock, ask } = await world(
      { downBytesPerSecond: 1e7 },
      { upBytesPerSecond: 1e4 },
      { upBytesPerSecond: 1e7 },
    )
    const start = clock.now()
    const slow = [ask(0, 1, chunkProtocol, 1e5), ask(0, 1, chunkProtocol, 1e5)]
    const fast = ask(0, 2, chunkProtocol, 1e6)
    await clock.advance(100_000)
    expect((await fast) - start).toBeLessThan(150)
    expect(Math.max(...(await Promise.all(slow))) - start).toBeCloseTo(20_000, 0)
  })

  test('never pass more than rate · time, whatever is asked of whom', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ from: fc.nat(3), to: fc.nat(3), bytes: fc.integer({ min: 1, max: 1e6 }) }), {
          maxLength: 12,
        }),
        fc.array(fc.integer({ min: 1e4, max: 1e6 }), { minLength: 8, maxLength: 8 }),
        async (asks, rates) => {
          const links = [0, 1, 2, 3].map((i) => ({
            upBytesPerSecond: rates[i]!,
            downBytesPerSecond: rates[i + 4]!,
          }))
          const { clock, ask } = await world(...links)
          const start = clock.now()
          const jobs = asks.filter(({ from, to }) => from !== to)
          const ended = jobs.map(async ({ from, to, bytes }) => ({
            from,
            to,
            bytes,
            at: (await ask(from, to, chunkProtocol, bytes)) - start,
          }))
          await clock.advance(1e7)
          const done = await Promise.all(ended)
          for (const [i, { upBytesPerSecond, downBytesPerSecond }] of links.entries()) {
            for (const { at } of done) {
              const passed = (way: 'from' | 'to'): number =>
                done
                  .filter((job) => job[way] === i && job.at <= at)
                  .reduce((sum, { bytes }) => sum + bytes, 0)
              expect(passed('to')).toBeLessThanOrEqual((at / 1000) * upBytesPerSecond + 1)
              expect(passed('from')).toBeLessThanOrEqual((at / 1000) * downBytesPerSecond + 1)
            }
          }
        },
      ),
      { numRuns: 30 },
    )
  })
})
