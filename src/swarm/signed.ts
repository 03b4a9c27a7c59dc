/**
 * Control messages as signed statements. Each request and each reply is an envelope (core) whose content names the
 * run, the receiver, the kind, a sequence number and the time, so that it can be kept as evidence and can serve
 * neither another run, nor another receiver, nor a second time. What does not hold is refused, counted by reason and
 * answered with an error.
 */
import { z } from 'zod'
import {
  type Cid,
  type Clock,
  encodeCanonical,
  envelopeOverheadBytes,
  GroundswellError,
  openEnvelope,
  type Signer,
  sealEnvelope,
} from '../core/index.ts'
import type { RefusalReason } from './ledger.ts'
import { type PeerId, peerIdOf } from './peer-id.ts'
import { ReplayGuard } from './replay-guard.ts'
import { messageProtocol, type Transport, transportLimits } from './transport.ts'

export interface SignedMessagesInit {
  readonly transport: Transport
  /** Of the same key as the transport's PeerId. */
  readonly signer: Signer
  readonly runId: Cid
  readonly clock: Clock
  /** 16 bytes that no earlier process of this identity has used: from a good random source. */
  readonly session: Uint8Array
  /** Messages of all peers that may be under way; those of the transport unless stated. */
  readonly maxConcurrent?: number
}

export interface SignedRequest<Reply> {
  readonly kind: string
  /** Plain data that dag-cbor can hold. */
  readonly body: unknown
  readonly reply: z.ZodType<Reply>
  /** `signedLimits.maxMessageBytes` unless stated. */
  readonly maxReplyBytes?: number
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface SignedHandler<Body> {
  readonly body: z.ZodType<Body>
  /** Returns plain data for the reply, or a promise of it; a GroundswellError thrown here is told to the peer with its code. */
  answer(message: IncomingMessage<Body>): unknown
}

export interface IncomingMessage<Body> {
  readonly from: PeerId
  readonly body: Body
  /** Milliseconds since the Unix epoch by the sender's clock, which may be wrong. */
  readonly sentAtMs: number
  readonly signal: AbortSignal
  /** The envelope itself, to be kept where the statement may have to be shown to others. */
  readonly envelope: Uint8Array
}

/** Control messages of one run over one transport. */
export interface SignedMessages {
  /** Asks a peer; the reply is that peer's signed answer to this very request. */
  signedRequest<Reply>(peer: PeerId, request: SignedRequest<Reply>): Promise<Reply>
  /** Answers one kind of message. */
  handleSigned<Body>(kind: string, handler: SignedHandler<Body>): void
}

export const signedLimits: { readonly maxMessageBytes: number; readonly maxKindLength: number } = {
  /** Envelope included. */
  maxMessageBytes: transportLimits.maxRequestBytes,
  maxKindLength: 64,
}

const domains = { request: 'groundswell/request/1', reply: 'groundswell/reply/1' } as const

const bytesOf = (length: number): z.ZodType<Uint8Array> =>
  z.instanceof(Uint8Array).refine((bytes) => bytes.byteLength === length)

const requestSchema = z.strictObject({
  run: z.string().max(128),
  to: z.string().max(64),
  kind: z.string().min(1).max(signedLimits.maxKindLength),
  session: bytesOf(16),
  sequence: z.int().min(0),
  time: z.int().min(0),
  body: z.unknown(),
})

const replySchema = z.strictObject({
  run: z.string().max(128),
  to: z.string().max(64),
  session: bytesOf(16),
  sequence: z.int().min(0),
  time: z.int().min(0),
  body: z.unknown(),
})

/** A signed request as it can be read by anybody who was handed it, without the transport that it came over. */
export interface OpenedRequest {
  /** Whose key signed it. */
  readonly from: PeerId
  readonly run: string
  readonly to: string
  readonly kind: string
  /** Milliseconds since the Unix epoch by the sender's clock. */
  readonly time: number
  /** Still to be checked. */
  readonly body: unknown
}

/** Reads a request that was kept as evidence. @throws GroundswellError `message/…` when it is none, or was changed */
export function openSignedRequest(envelope: Uint8Array): OpenedRequest {
  const { content, publicKey } = openEnvelope(domains.request, envelope, signedLimits.maxMessageBytes)
  const parsed = requestSchema.safeParse(content)
  if (!parsed.success) {
    throw new GroundswellError('The message lacks the fields of a request.', { code: 'message/malformed' })
  }
  const { run, to, kind, time, body } = parsed.data
  return { from: peerIdOf(publicKey), run, to, kind, time, body }
}

export function signedMessages(init: SignedMessagesInit): SignedMessages {
  const { transport, signer, runId, clock, session } = init
  if (peerIdOf(signer.publicKey) !== transport.self) {
    throw new Error('The signer and the transport have different keys.')
  }
  if (session.byteLength !== 16) throw new RangeError(`A session has 16 bytes, got ${session.byteLength}.`)
  const handlers = new Map<string, SignedHandler<unknown>>()
  const guard = new ReplayGuard()
  let sequence = 0

  const refuse = (
    peer: PeerId,
    reason: RefusalReason,
    message: string,
    remedy?: string,
  ): GroundswellError => {
    transport.ledger.refused(peer, reason)
    const code = reason.replace('-', '/') // message-replayed → message/replayed
    return new GroundswellError(message, remedy === undefined ? { code } : { code, remedy })
  }

  /** Opens an envelope, whose key must be that of the peer at the other end. */
  const open = (domain: string, bytes: Uint8Array, peer: PeerId, maxBytes: number): unknown => {
    try {
      const { content, publicKey } = openEnvelope(domain, bytes, maxBytes)
      if (peerIdOf(publicKey) === peer) return content
    } catch (thrown) {
      if (thrown instanceof GroundswellError) transport.ledger.refused(peer, reasonOf(thrown.code))
      throw thrown
    }
    throw refuse(peer, 'message-foreign-key', 'The message is signed by another key than the connection’s.')
  }

  const answer = async (from: PeerId, bytes: Uint8Array, signal: AbortSignal): Promise<Uint8Array> => {
    const parsed = requestSchema.safeParse(open(domains.request, bytes, from, signedLimits.maxMessageBytes))
    if (!parsed.success) throw refuse(from, 'message-malformed', 'The message lacks the fields of a request.')
    const message = parsed.data
    if (message.run !== runId || message.to !== transport.self) {
      throw refuse(
        from,
        'message-wrong-run',
        `The message is for ${message.run === runId ? 'another peer' : 'another run'}.`,
        'Join with the link of this run.',
      )
    }
    const verdict = guard.check(from, message.session, message.sequence)
    if (verdict === 'replayed') throw refuse(from, 'message-replayed', 'The message was seen before.')
    if (verdict === 'superseded') {
      throw refuse(
        from,
        'message-superseded',
        'A newer process with the same identity has taken over.',
        'Give each peer its own identity file.',
      )
    }
    const handler = handlers.get(message.kind)
    if (handler === undefined) {
      throw refuse(from, 'message-unknown-kind', `This peer does not answer “${message.kind}”.`)
    }
    const body = handler.body.safeParse(message.body)
    if (!body.success) {
      throw refuse(
        from,
        'message-malformed',
        `The body of “${message.kind}” is malformed: ${z.prettifyError(body.error).slice(0, 200)}`,
      )
    }
    const reply = await handler.answer({
      from,
      body: body.data,
      sentAtMs: message.time,
      signal,
      envelope: bytes,
    })
    const { session: theirSession, sequence: theirSequence } = message
    return sealEnvelope(
      domains.reply,
      {
        run: runId,
        to: from,
        session: theirSession,
        sequence: theirSequence,
        time: Math.floor(clock.now()),
        body: reply ?? null,
      },
      signer,
    )
  }

  transport.handle(messageProtocol, ({ from, bytes, signal }) => answer(from, bytes, signal), {
    maxRequestBytes: signedLimits.maxMessageBytes,
    maxConcurrent: init.maxConcurrent ?? transportLimits.maxConcurrent,
  })

  return {
    signedRequest: async (peer, request) => {
      const { kind, body, reply, maxReplyBytes = signedLimits.maxMessageBytes, timeoutMs, signal } = request
      const own = { run: runId, to: peer, session, sequence: sequence++ }
      const bytes = sealEnvelope(
        domains.request,
        { ...own, kind, time: Math.floor(clock.now()), body },
        signer,
      )
      if (bytes.byteLength > signedLimits.maxMessageBytes) {
        throw new GroundswellError(
          `A “${kind}” of ${encodeCanonical(body).byteLength} bytes does not fit into a message of ` +
            `${signedLimits.maxMessageBytes - envelopeOverheadBytes}.`,
          { code: 'message/too-long', remedy: 'Put what is large as an artifact and send its CID.' },
        )
      }
      const replyBytes = await transport.request(peer, messageProtocol, bytes, {
        maxReplyBytes,
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
        ...(signal === undefined ? {} : { signal }),
      })
      const parsed = replySchema.safeParse(open(domains.reply, replyBytes, peer, maxReplyBytes))
      if (!parsed.success)
        throw refuse(peer, 'message-malformed', `Peer ${peer} sent a malformed reply to “${kind}”.`)
      const { data } = parsed
      const answersThis =
        data.run === runId &&
        data.to === transport.self &&
        data.sequence === own.sequence &&
        session.every((byte, i) => data.session[i] === byte)
      if (!answersThis)
        throw refuse(peer, 'message-replayed', `Peer ${peer} answered “${kind}” with another reply.`)
      const checked = reply.safeParse(data.body)
      if (!checked.success) {
        throw refuse(
          peer,
          'message-malformed',
          `Peer ${peer} answered “${kind}” with something else: ${z.prettifyError(checked.error).slice(0, 200)}`,
        )
      }
      return checked.data
    },
    handleSigned: (kind, handler) => {
      if (handlers.has(kind)) throw new Error(`“${kind}” is handled already.`)
      handlers.set(kind, handler as SignedHandler<unknown>)
    },
  }
}

function reasonOf(code: string): RefusalReason {
  if (code === 'message/oversized') return 'message-oversized'
  return code === 'message/bad-signature' ? 'message-bad-signature' : 'message-malformed'
}
