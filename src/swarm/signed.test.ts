import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { type Cid, cidOf, encodeCanonical, sealEnvelope, VirtualClock } from '../core/index.ts'
import type { Identity } from './identity.ts'
import type { RefusalReason } from './ledger.ts'
import { MemoryNetwork, memoryTransport } from './memory-transport.ts'
import { ReplayGuard, replayLimits } from './replay-guard.ts'
import { type IncomingMessage, type SignedMessages, signedLimits, signedMessages } from './signed.ts'
import { messageProtocol, type Transport } from './transport.ts'
import { identityOf } from './transport-suite.ts'

const runId: Cid = await cidOf(new TextEncoder().encode('a run'), 'dag-cbor')
const domain = 'groundswell/request/1'
const [ada, bob, eve] = ['ada', 'bob', 'eve'].map(identityOf) as [Identity, Identity, Identity]
const session = (byte: number): Uint8Array => new Uint8Array(16).fill(byte)

interface Peer {
  readonly transport: Transport
  readonly messages: SignedMessages
}

function peer(
  identity: Identity,
  network: MemoryNetwork,
  options: { run?: Cid; session?: number } = {},
): Peer {
  const transport = memoryTransport({ self: identity.peerId, network })
  const messages = signedMessages({
    transport,
    signer: identity.signer,
    runId: options.run ?? runId,
    clock: new VirtualClock(1_700_000_000_000),
    session: session(options.session ?? 1),
  })
  return { transport, messages }
}

/** Ada, who has dialled Bob, who doubles numbers. */
async function pair(): Promise<{ network: MemoryNetwork; asker: Peer; answerer: Peer; seen: unknown[] }> {
  const network = new MemoryNetwork()
  const [asker, answerer] = [peer(ada, network), peer(bob, network)]
  const seen: IncomingMessage<unknown>[] = []
  answerer.messages.handleSigned('double', {
    body: z.strictObject({ n: z.int().max(1000) }),
    answer: (message) => {
      seen.push(message)
      return { n: 2 * message.body.n }
    },
  })
  await asker.transport.dial(answerer.transport.addresses[0]!)
  return { network, asker, answerer, seen }
}

const reply = z.strictObject({ n: z.int() })

/** The content of a valid request, to be spoilt. */
function content(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    run: runId,
    to: bob.peerId,
    kind: 'double',
    session: session(1),
    sequence: 100,
    time: 1,
    body: { n: 1 },
    ...changes,
  }
}

describe('signed messages', () => {
  test('a request and its reply, each with who said it and when', async () => {
    const { asker, seen } = await pair()
    const answer = await asker.messages.signedRequest(bob.peerId, { kind: 'double', body: { n: 21 }, reply })
    expect(answer).toEqual({ n: 42 })
    expect(seen).toMatchObject([{ from: ada.peerId, body: { n: 21 }, sentAtMs: 1_700_000_000_000 }])
  })

  test('a hundred at once, in whatever order they arrive', async () => {
    const { network, asker } = await pair()
    network.faults = { delayMs: { min: 0, max: 5 } }
    const ask = (n: number): Promise<{ n: number }> =>
      asker.messages.signedRequest(bob.peerId, { kind: 'double', body: { n }, reply })
    for (let first = 0; first < 100; first += 25) {
      const numbers = Array.from({ length: 25 }, (_, i) => first + i)
      expect(await Promise.all(numbers.map(ask))).toEqual(numbers.map((n) => ({ n: 2 * n })))
    }
  })

  const foreign = sealEnvelope(domain, content(), eve.signer)
  const spoilt = sealEnvelope(domain, content(), ada.signer)
  spoilt[spoilt.length - 1]! ^= 1
  const seal = (changes: Record<string, unknown>): Uint8Array =>
    sealEnvelope(domain, content(changes), ada.signer)
  test.each<[string, Uint8Array, RefusalReason]>([
    ['no envelope', encodeCanonical({ n: 1 }), 'message-malformed'],
    ['no dag-cbor', Uint8Array.of(0xff, 0xff), 'message-malformed'],
    ['nothing', new Uint8Array(), 'message-malformed'],
    ['a spoilt signature', spoilt, 'message-bad-signature'],
    [
      'a signature for another purpose',
      sealEnvelope('groundswell/reply/1', content(), ada.signer),
      'message-bad-signature',
    ],
    ['another’s signed message', foreign, 'message-foreign-key'],
    ['missing fields', sealEnvelope(domain, { kind: 'double' }, ada.signer), 'message-malformed'],
    ['a field too many', seal({ extra: 1 }), 'message-malformed'],
    ['a fractional sequence', seal({ sequence: 0.5 }), 'message-malformed'],
    ['another run', seal({ run: 'bafy' }), 'message-wrong-run'],
    ['another receiver', seal({ to: eve.peerId }), 'message-wrong-run'],
    ['a kind nobody answers', seal({ kind: 'treble' }), 'message-unknown-kind'],
    ['a malformed body', seal({ body: { n: 'one' } }), 'message-malformed'],
    ['a body beyond its bounds', seal({ body: { n: 1001 } }), 'message-malformed'],
  ])('%s: refused, counted by reason, and the next message is answered', async (_, bytes, reason) => {
    const { asker, answerer, seen } = await pair()
    const sent = asker.transport.request(bob.peerId, messageProtocol, bytes, { maxReplyBytes: 1000 })
    await expect(sent).rejects.toMatchObject({ remoteCode: reason.replace('-', '/') })
    expect(answerer.transport.ledger.of(ada.peerId).refusals).toEqual({ [reason]: 1 })
    expect(seen).toEqual([])
    const next = asker.messages.signedRequest(bob.peerId, { kind: 'double', body: { n: 1 }, reply })
    expect(await next.catch((thrown: unknown) => thrown)).toEqual({ n: 2 })
  })

  test('a message is accepted once', async () => {
    const { asker, answerer, seen } = await pair()
    const bytes = seal({ sequence: 5 })
    const send = (): Promise<Uint8Array> =>
      asker.transport.request(bob.peerId, messageProtocol, bytes, { maxReplyBytes: 1000 })
    await send()
    await expect(send()).rejects.toMatchObject({ remoteCode: 'message/replayed' })
    expect(answerer.transport.ledger.of(ada.peerId).refusals).toEqual({ 'message-replayed': 1 })
    expect(seen).toHaveLength(1)
  })

  test('a restarted peer is heard; what is left of the process before it is told why not', async () => {
    const { network, asker, answerer } = await pair()
    const ask = ({ messages }: Peer): Promise<{ n: number }> =>
      messages.signedRequest(bob.peerId, { kind: 'double', body: { n: 1 }, reply })
    await ask(asker)
    await asker.transport.stop()
    const restarted = peer(ada, network, { session: 2 })
    await restarted.transport.dial(answerer.transport.addresses[0]!)
    await expect(ask(restarted)).resolves.toEqual({ n: 2 })
    const late = restarted.transport.request(bob.peerId, messageProtocol, seal({ sequence: 9 }), {
      maxReplyBytes: 1000,
    })
    await expect(late).rejects.toMatchObject({
      remoteCode: 'message/superseded',
      remedy: expect.stringContaining('own identity'),
    })
  })

  test('a message that does not fit is not sent', async () => {
    const { asker } = await pair()
    const body = { text: 'x'.repeat(signedLimits.maxMessageBytes) }
    await expect(
      asker.messages.signedRequest(bob.peerId, { kind: 'double', body, reply }),
    ).rejects.toMatchObject({ code: 'message/too-long', remedy: expect.stringContaining('artifact') })
  })

  describe('a reply', () => {
    /** Ada asks Bob, whose node answers with whatever `forge` makes of the request. */
    async function answeredWith(forge: (request: Uint8Array) => Uint8Array): Promise<{
      ask: () => Promise<unknown>
      refusals: () => unknown
    }> {
      const network = new MemoryNetwork()
      const asker = peer(ada, network)
      const transport = memoryTransport({ self: bob.peerId, network })
      transport.handle(messageProtocol, ({ bytes }) => forge(bytes))
      await asker.transport.dial(transport.addresses[0]!)
      return {
        ask: () => asker.messages.signedRequest(bob.peerId, { kind: 'double', body: { n: 1 }, reply }),
        refusals: () => asker.transport.ledger.of(bob.peerId).refusals,
      }
    }
    const good = { run: runId, to: ada.peerId, session: session(1), sequence: 0, time: 1, body: { n: 2 } }
    const sealReply = (changes: object, identity = bob): Uint8Array =>
      sealEnvelope('groundswell/reply/1', { ...good, ...changes }, identity.signer)

    test('as it should be', async () => {
      const { ask } = await answeredWith(() => sealReply({}))
      expect(await ask()).toEqual({ n: 2 })
    })

    test.each<[string, Uint8Array, RefusalReason]>([
      ['garbage', Uint8Array.of(1, 2, 3), 'message-malformed'],
      ['signed by another', sealReply({}, eve), 'message-foreign-key'],
      ['for another request', sealReply({ sequence: 1 }), 'message-replayed'],
      ['from another session', sealReply({ session: session(9) }), 'message-replayed'],
      ['for another peer', sealReply({ to: eve.peerId }), 'message-replayed'],
      ['with missing fields', sealReply({ time: 'now' }), 'message-malformed'],
      ['with another body', sealReply({ body: 'two' }), 'message-malformed'],
    ])('that is %s is refused and counted', async (_, bytes, reason) => {
      const { ask, refusals } = await answeredWith(() => bytes)
      await expect(ask()).rejects.toMatchObject({ code: reason.replace('-', '/') })
      expect(refusals()).toEqual({ [reason]: 1 })
    })

    test('that echoes the request is refused', async () => {
      const { ask } = await answeredWith((request) => request)
      await expect(ask()).rejects.toMatchObject({ code: 'message/bad-signature' })
    })
  })

  test('arbitrary bytes never get further than a counted refusal', async () => {
    const { asker, answerer, seen } = await pair()
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
        const sent = asker.transport.request(bob.peerId, messageProtocol, bytes, { maxReplyBytes: 1000 })
        await expect(sent).rejects.toMatchObject({ code: 'peer/refused' })
      }),
    )
    expect(seen).toEqual([])
    expect(answerer.transport.ledger.of(ada.peerId).refusals).toEqual({ 'message-malformed': 100 })
  })
})

describe('the replay guard', () => {
  test('accepts each number once, whatever the order within the window', () => {
    const { window } = replayLimits
    fc.assert(
      fc.property(fc.array(fc.nat({ max: window - 1 }), { maxLength: 400 }), (numbers) => {
        const guard = new ReplayGuard()
        const seen = new Set<number>()
        for (const n of numbers) {
          expect(guard.check(ada.peerId, session(1), n)).toBe(seen.has(n) ? 'replayed' : 'fresh')
          seen.add(n)
        }
      }),
    )
  })

  test('never accepts a number twice, however far the numbers jump', () => {
    const steps = fc.array(fc.oneof(fc.nat({ max: 2000 }), fc.constant(2 ** 50)), { maxLength: 100 })
    fc.assert(
      fc.property(steps, (numbers) => {
        const guard = new ReplayGuard()
        const accepted = new Set<number>()
        for (const n of [...numbers, ...numbers]) {
          if (guard.check(ada.peerId, session(1), n) !== 'fresh') continue
          expect(accepted).not.toContain(n)
          accepted.add(n)
        }
      }),
    )
  })

  test('a past session stays past', () => {
    const guard = new ReplayGuard()
    for (let n = 1; n <= replayLimits.pastSessions + 1; n++) {
      expect(guard.check(ada.peerId, session(n), 0)).toBe('fresh')
    }
    for (let n = 1; n <= replayLimits.pastSessions; n++) {
      expect(guard.check(ada.peerId, session(n), 7)).toBe('superseded')
    }
  })

  test('peers do not disturb each other', () => {
    const guard = new ReplayGuard()
    expect(guard.check(ada.peerId, session(1), 0)).toBe('fresh')
    expect(guard.check(bob.peerId, session(1), 0)).toBe('fresh')
    expect(guard.check(ada.peerId, session(1), 0)).toBe('replayed')
  })
})
