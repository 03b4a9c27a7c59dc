/** What goes over the wire or into a message, whatever it holds and however it was damaged. */
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cidOf, GroundswellError } from '../core/index.ts'
import { decodeWireError, encodeWireError } from './handlers.ts'
import { decodeJoinLink, encodeJoinLink } from './link.ts'
import { transportLimits } from './transport.ts'
import { identityOf } from './transport-suite.ts'
import { decodeReplyHeader, decodeRequestHeader, encodeReplyHeader, encodeRequestHeader } from './wire.ts'

describe('frames', () => {
  test('headers hold their lengths', () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 32 - 1 }), fc.constantFrom('answer', 'error'), (bodyBytes, status) => {
        expect(decodeRequestHeader(encodeRequestHeader(bodyBytes))).toBe(bodyBytes)
        expect(decodeReplyHeader(encodeReplyHeader(status, bodyBytes))).toEqual({ status, bodyBytes })
      }),
    )
  })

  test('the bytes of version 1', () => {
    expect(encodeRequestHeader(258)).toEqual(Uint8Array.of(0, 0, 1, 2))
    expect(encodeReplyHeader('answer', 258)).toEqual(Uint8Array.of(0, 0, 0, 1, 2))
    expect(encodeReplyHeader('error', 258)).toEqual(Uint8Array.of(1, 0, 0, 1, 2))
    expect(decodeReplyHeader(Uint8Array.of(2, 0, 0, 1, 2))).toBeUndefined()
  })
})

describe('errors on the wire', () => {
  test('come back within their bound, however long they were', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 3000 }), (message) => {
        const bytes = encodeWireError({ code: 'round/closed', message, remedy: message })
        expect(bytes.byteLength).toBeLessThanOrEqual(transportLimits.maxErrorBytes)
        expect(decodeWireError(bytes)?.code).toBe('round/closed')
      }),
    )
  })

  test('cannot move the cursor of a terminal', () => {
    const bytes = encodeWireError({ code: 'a/b', message: 'x\u001b[2Jy\u202ez', remedy: '\r\n' })
    expect(decodeWireError(bytes)).toEqual({ code: 'a/b', message: 'x [2Jy z', remedy: '  ' })
  })

  test('garbage is not an error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(decodeWireError(bytes)).toBeUndefined()
      }),
    )
  })
})

describe('join links', async () => {
  const runId = await cidOf(new TextEncoder().encode('manifest'), 'dag-cbor')
  const host = identityOf('host').peerId
  const addresses = [`/ip4/192.0.2.7/tcp/4001/p2p/${host}`, `/dns4/host.example/tcp/443/wss/p2p/${host}`]
  const link = encodeJoinLink({ runId, host, addresses })
  const invalid = expect.objectContaining({ code: 'link/invalid' })

  test('hold the run, the host and its addresses in one word that no shell touches', () => {
    expect(link).toMatch(/^groundswell:join\/[\w-]+$/)
    expect(decodeJoinLink(link)).toEqual({ runId, host, addresses })
  })

  test('survive quotes, brackets and the line breaks of a mail', () => {
    const pasted = ` <“${link.slice(0, 40)}\r\n  ${link.slice(40)}”>\n`
    expect(decodeJoinLink(pasted)).toEqual({ runId, host, addresses })
  })

  test('that were cut off or changed anywhere are recognised', () => {
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    const places = fc.integer({ min: 0, max: link.length - 2 })
    fc.assert(
      fc.property(places, fc.constantFrom(...letters.split('')), (at, letter) => {
        expect(() => decodeJoinLink(link.slice(0, at))).toThrow(invalid)
        if (link[at] === letter) return
        expect(() => decodeJoinLink(link.slice(0, at) + letter + link.slice(at + 1))).toThrow(invalid)
      }),
    )
  })

  test.each([
    '',
    'https://example.org',
    'groundswell:join/',
    'groundswell:join/AAAA',
    `groundswell:join/${'A'.repeat(9000)}`,
    'groundswell:join/äöü',
  ])('that are none say so, with the way out: %.60s', (text) => {
    expect(() => decodeJoinLink(text)).toThrow(invalid)
    expect(() => decodeJoinLink(text)).toThrow(
      expect.objectContaining({ remedy: expect.stringContaining('groundswell host') }),
    )
  })

  test('never lead to another peer than the host', () => {
    const strange = [`/ip4/192.0.2.7/tcp/4001/p2p/${identityOf('other').peerId}`]
    expect(() => decodeJoinLink(encodeJoinLink({ runId, host, addresses: strange }))).toThrow(invalid)
  })

  test('of arbitrary text give an error of ours or a link', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 100 }), (text) => {
        expect(() => decodeJoinLink(`groundswell:join/${text}`)).toThrow(GroundswellError)
      }),
    )
  })
})
