/** Tables that others could make grow: each keeps to its size. */
import { describe, expect, test } from 'vitest'
import { VirtualClock } from '../core/index.ts'
import { HandlerTable, type Place } from './handlers.ts'
import { PeerLedger } from './ledger.ts'
import { connectionLimits, streamBuffers } from './libp2p-transport.ts'
import { type PeerId, peerIdOf } from './peer-id.ts'
import { ReplayGuard, replayLimits } from './replay-guard.ts'
import { type ProtocolId, transportLimits } from './transport.ts'
import { identityOf } from './transport-suite.ts'

/** Many PeerIds, cheaply: nobody has their keys. */
const peerNumber = (n: number): PeerId => {
  const key = new Uint8Array(32)
  new DataView(key.buffer).setUint32(0, n)
  return peerIdOf(key)
}
const echo: ProtocolId = '/groundswell/echo/1'

describe('bounds', () => {
  test('the ledger forgets who was longest silent, and its totals stay exact', () => {
    const ledger = new PeerLedger({ maxPeers: 3 })
    for (let n = 0; n < 5; n++) {
      ledger.sent(peerNumber(n), 10)
      ledger.received(peerNumber(0), 1) // never silent
      ledger.refused(peerNumber(n), 'reply-timeout')
    }
    expect([...ledger.byPeer().keys()]).toEqual([3, 0, 4].map(peerNumber))
    expect(ledger.of(peerNumber(0)).receivedBytes).toBe(5)
    expect(ledger.of(peerNumber(1))).toEqual({ sentBytes: 0, receivedBytes: 0, refusals: {} })
    expect(ledger.total()).toEqual({ sentBytes: 50, receivedBytes: 5, refusals: { 'reply-timeout': 5 } })
  })

  test('what the ledger tells is a copy', () => {
    const ledger = new PeerLedger()
    const before = ledger.of(peerNumber(1))
    ledger.refused(peerNumber(1), 'reply-timeout')
    expect(before.refusals).toEqual({})
    expect(ledger.of(peerNumber(1)).refusals).toEqual({ 'reply-timeout': 1 })
  })

  test('the replay guard forgets who was longest silent', () => {
    const guard = new ReplayGuard()
    const session = new Uint8Array(16)
    for (let n = 0; n <= replayLimits.maxPeers; n++) guard.check(peerNumber(n), session, 0)
    expect(guard.check(peerNumber(replayLimits.maxPeers), session, 0)).toBe('replayed')
    expect(guard.check(peerNumber(0), session, 0)).toBe('fresh')
  })

  test('all peers together take no more places than there are', () => {
    const ledger = new PeerLedger()
    const table = new HandlerTable(ledger, new VirtualClock())
    table.add(echo, () => new Uint8Array(), { maxConcurrent: 2 })
    const places = [0, 1].map((n) => table.admit(echo, peerNumber(n)) as Disposable)
    expect(table.admit(echo, peerNumber(2))).toMatchObject({ code: 'peer/busy' })
    expect(ledger.of(peerNumber(2)).refusals).toEqual({ 'too-many-requests': 1 })
    places[0]![Symbol.dispose]()
    expect(table.admit(echo, peerNumber(2))).not.toHaveProperty('code')
  })

  describe('when all places are taken by replies', () => {
    const { undisturbedReplyMs, unhurriedBytesPerSecond } = transportLimits

    /** A table with so many places, and somebody who takes one and is sent a reply. */
    function crowded(maxConcurrent: number) {
      const clock = new VirtualClock()
      const table = new HandlerTable(new PeerLedger(), clock)
      table.add(echo, () => new Uint8Array(), { maxConcurrent })
      const ended: string[] = []
      const reply = (n: number, name: string): ((sentBytes: number) => void) => {
        const place = table.admit(echo, peerNumber(n)) as Place
        return place.replying(() => ended.push(name))
      }
      const isAdmitted = (n: number): boolean => !('code' in table.admit(echo, peerNumber(n)))
      return { clock, table, ended, reply, isAdmitted }
    }

    test('whoever has more gives up its slowest, until nobody has fewer than another', async () => {
      const { clock, ended, reply, isAdmitted } = crowded(4)
      const sent = ['a', 'b', 'c', 'd'].map((name) => reply(1, name))
      for (const [i, send] of sent.entries()) send([4e6, 1e6, 3e6, 2e6][i]!)
      await clock.advance(undisturbedReplyMs - 1)
      expect(isAdmitted(2)).toBe(false)
      await clock.advance(1)
      expect([isAdmitted(2), isAdmitted(2), isAdmitted(2)]).toEqual([true, true, false])
      expect(ended).toEqual(['b', 'd'])
    })

    test('readers that drip make room for a peer that has none, however many they are', async () => {
      const { clock, ended, reply, isAdmitted } = crowded(3)
      const sent = [1, 2, 3].map((n) => reply(n, `${n}`))
      await clock.advance(undisturbedReplyMs)
      for (const send of sent) send((unhurriedBytesPerSecond * undisturbedReplyMs) / 1000)
      expect(isAdmitted(4)).toBe(false)
      await clock.advance(undisturbedReplyMs)
      sent[0]!(1e6)
      sent[2]!(1e6)
      expect([isAdmitted(4), isAdmitted(4), isAdmitted(5)]).toEqual([true, false, false])
      expect(ended).toEqual(['2'])
    })

    test('a place that was given up is free once, also when its reply ends afterwards', async () => {
      const { clock, table, isAdmitted } = crowded(1)
      const place = table.admit(echo, peerNumber(1)) as Place
      place.replying(() => place[Symbol.dispose]())
      await clock.advance(undisturbedReplyMs)
      expect([isAdmitted(2), isAdmitted(3)]).toEqual([true, false])
    })

    test('a request that is still being answered keeps its place', async () => {
      const { clock, table, isAdmitted } = crowded(1)
      table.admit(echo, peerNumber(1))
      await clock.advance(10 * undisturbedReplyMs)
      expect(isAdmitted(2)).toBe(false)
    })
  })

  test('a protocol is answered by one handler', () => {
    const table = new HandlerTable(new PeerLedger(), new VirtualClock())
    table.add(echo, () => new Uint8Array())
    expect(() => table.add(echo, () => new Uint8Array())).toThrow('handled already')
  })

  test('a stream’s window stays a third below its read buffer, and fits what is asked for', () => {
    expect(streamBuffers.maxStreamWindowSize).toBeLessThanOrEqual(streamBuffers.maxReadBufferLength / 1.5)
    expect(transportLimits.maxConcurrentPerPeer * 2).toBeLessThanOrEqual(connectionLimits.maxStreams)
  })

  test('an identity of a test is always the same', () => {
    expect(identityOf('ada').peerId).toBe(identityOf('ada').peerId)
    expect(identityOf('ada').peerId).not.toBe(identityOf('bob').peerId)
  })
})
