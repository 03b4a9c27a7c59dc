/** Tables that others could make grow: each keeps to its size. */
import { describe, expect, test } from 'vitest'
import { HandlerTable } from './handlers.ts'
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
    const table = new HandlerTable(ledger)
    table.add(echo, () => new Uint8Array(), { maxConcurrent: 2 })
    const places = [0, 1].map((n) => table.admit(echo, peerNumber(n)) as Disposable)
    expect(table.admit(echo, peerNumber(2))).toMatchObject({ code: 'peer/busy' })
    expect(ledger.of(peerNumber(2)).refusals).toEqual({ 'too-many-requests': 1 })
    places[0]![Symbol.dispose]()
    expect(table.admit(echo, peerNumber(2))).not.toHaveProperty('code')
  })

  test('a protocol is answered by one handler', () => {
    const table = new HandlerTable(new PeerLedger())
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
