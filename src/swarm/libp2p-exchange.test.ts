/** Time in an exchange, which real lines would make long: a stream that takes a frame at a time, and a virtual clock. */
import type { Stream } from '@libp2p/interface'
import { expect, test } from 'vitest'
import { VirtualClock } from '../core/index.ts'
import { withDeadline } from './deadline.ts'
import { HandlerTable } from './handlers.ts'
import { PeerLedger } from './ledger.ts'
import { serveOn } from './libp2p-exchange.ts'
import { Pacer, pacingLimits } from './pacing.ts'
import { chunkProtocol, transportLimits } from './transport.ts'
import { identityOf } from './transport-suite.ts'
import { encodeRequestHeader, replyHeaderBytes } from './wire.ts'

const mebibyte = 1024 * 1024
const eve = identityOf('eve').peerId

/** The end of a stream whose reader takes a frame every so often, or all of it at once. */
class ReadSlowly extends EventTarget {
  status = 'open'
  readableEnded = false
  writableNeedsDrain = false
  taken = 0
  private readonly clock: VirtualClock
  private readonly everyMs: number

  constructor(clock: VirtualClock, everyMs: number) {
    super()
    this.clock = clock
    this.everyMs = everyMs
  }

  asks(bytes: Uint8Array): void {
    for (const data of [encodeRequestHeader(bytes.byteLength), bytes]) {
      this.dispatchEvent(Object.assign(new Event('message'), { data }))
    }
  }

  send({ byteLength }: Uint8Array): boolean {
    this.taken += byteLength
    this.writableNeedsDrain = true
    const drained = (): void => {
      this.writableNeedsDrain = false
      this.dispatchEvent(new Event('drain'))
    }
    void this.clock.sleep(this.everyMs).then(drained)
    return false
  }

  async close(): Promise<void> {
    this.abort()
  }

  abort(): void {
    this.status = 'closed'
    this.dispatchEvent(new Event('close'))
  }
}

/** What becomes of one chunk, in a place that is the only one. */
async function chunkTo(reader: ReadSlowly, clock: VirtualClock, othersComeAfter?: number) {
  const ledger = new PeerLedger()
  const handlers = new HandlerTable(ledger, clock)
  handlers.add(chunkProtocol, () => new Uint8Array(mebibyte), { maxConcurrent: 1 })
  const serving = serveOn(reader as unknown as Stream, {
    ...{ ledger, handlers, from: eve, protocol: chunkProtocol, pacer: new Pacer({}, clock) },
    within: (deadline, work) => withDeadline({ ...deadline, clock }, work),
    stopping: new AbortController().signal,
  })
  let served = false
  void serving.then(() => {
    served = true
  })
  reader.asks(Uint8Array.of(1))
  let seconds = 0
  for (; !served; seconds++) {
    await clock.advance(1000)
    if (seconds === othersComeAfter) handlers.admit(chunkProtocol, identityOf('ada').peerId)
  }
  const isFree = Symbol.dispose in handlers.admit(chunkProtocol, eve)
  return { seconds, isFree, refusals: ledger.of(eve).refusals }
}

const wholeReply = replyHeaderBytes + mebibyte
const frameBytes = pacingLimits.maxFrameBytes!

test('whoever drips keeps a place no longer than the slowest allowed needs, and is counted', async () => {
  const clock = new VirtualClock()
  const reader = new ReadSlowly(clock, 25_000)
  const { seconds, isFree, refusals } = await chunkTo(reader, clock)
  expect(reader.taken).toBeLessThan(wholeReply)
  // 30 s of silence and 256 s at 4,096 bytes a second, looked at every 30 s.
  expect(seconds).toBeLessThanOrEqual(300)
  expect(isFree).toBe(true)
  expect(refusals).toEqual({ 'reader-stalled': 1 })
})

test.each([1, 12])('whoever takes a frame every %d s is faster, and gets all', async (everySeconds) => {
  expect(frameBytes / everySeconds).toBeGreaterThan(transportLimits.slowestBytesPerSecond)
  const clock = new VirtualClock()
  const reader = new ReadSlowly(clock, everySeconds * 1000)
  const { isFree, refusals } = await chunkTo(reader, clock)
  expect(reader.taken).toBe(wholeReply)
  expect(isFree).toBe(true)
  expect(refusals).toEqual({})
})

test('whoever drips is left in the midst of a reply for a peer that has no place, and is not blamed', async () => {
  const clock = new VirtualClock()
  const reader = new ReadSlowly(clock, 12_000)
  const { seconds, isFree, refusals } = await chunkTo(reader, clock, 20)
  expect(seconds).toBeLessThanOrEqual(22)
  expect(reader.status).toBe('closed')
  expect(reader.taken).toBeLessThan(wholeReply)
  expect(isFree).toBe(false)
  expect(refusals).toEqual({ 'too-many-requests': 1 }) // what asked whether it is free
})
