/**
 * The serving side that all transports share: which protocols are answered, how many requests of a peer may be under
 * way, who gives up a place when all are taken, and how whatever a handler throws becomes an error that can go over the
 * wire and never crashes the process.
 */
import { z } from 'zod'
import { type Clock, decodeCanonical, encodeCanonical, GroundswellError } from '../core/index.ts'
import type { PeerLedger } from './ledger.ts'
import type { PeerId } from './peer-id.ts'
import {
  type Handler,
  type HandlerLimits,
  type IncomingRequest,
  type ProtocolId,
  transportLimits,
  type WireError,
} from './transport.ts'

export type Answer =
  | { readonly ok: true; readonly bytes: Uint8Array }
  | { readonly ok: false; readonly error: WireError }

/** Told of what a handler threw that was not meant for the peer: a bug to be shown to the owner of this process. */
export type OnHandlerError = (error: unknown, request: { protocol: ProtocolId; from: PeerId }) => void

/** One request under way. Disposed of when it is done, or its place has gone to somebody else. */
export interface Place extends Disposable {
  /**
   * Its reply is on its way: from now on the place may go to somebody else, which calls `giveUp`.
   * @returns to be told how many bytes of the reply were sent
   */
  replying(giveUp: () => void): (sentBytes: number) => void
}

interface Reply {
  readonly from: PeerId
  readonly sinceMs: number
  sentBytes: number
  readonly endEarly: () => void
}

interface Entry {
  readonly handler: Handler
  readonly limits: HandlerLimits
  readonly underWay: Map<PeerId, number>
  readonly replies: Set<Reply>
  total: number
}

export class HandlerTable {
  private readonly entries = new Map<ProtocolId, Entry>()
  private readonly ledger: PeerLedger
  private readonly clock: Clock
  private readonly onError: OnHandlerError | undefined

  constructor(ledger: PeerLedger, clock: Clock, onError?: OnHandlerError) {
    this.ledger = ledger
    this.clock = clock
    this.onError = onError
  }

  add(protocol: ProtocolId, handler: Handler, limits: Partial<HandlerLimits> = {}): void {
    if (this.entries.has(protocol)) throw new Error(`${protocol} is handled already.`)
    const { maxRequestBytes, maxConcurrentPerPeer, maxConcurrent } = { ...transportLimits, ...limits }
    this.entries.set(protocol, {
      handler,
      limits: { maxRequestBytes, maxConcurrentPerPeer, maxConcurrent },
      underWay: new Map(),
      replies: new Set(),
      total: 0,
    })
  }

  limitsOf(protocol: ProtocolId): HandlerLimits | undefined {
    return this.entries.get(protocol)?.limits
  }

  /** Takes a place for one request, to be disposed of when it is done; the error to answer with when all are taken. */
  admit(protocol: ProtocolId, from: PeerId): Place | WireError {
    const entry = this.entries.get(protocol)
    if (entry === undefined) return unsupported(protocol)
    const { underWay, replies, limits } = entry
    const before = underWay.get(from) ?? 0
    const mayHaveMore = before < limits.maxConcurrentPerPeer
    if (mayHaveMore && entry.total >= limits.maxConcurrent) this.replyToEndFor(before, entry)?.endEarly()
    if (!mayHaveMore || entry.total >= limits.maxConcurrent) {
      this.ledger.refused(from, 'too-many-requests')
      return { code: 'peer/busy', message: `${before} requests to ${protocol} are under way already.` }
    }
    underWay.set(from, before + 1)
    entry.total += 1
    let reply: Reply | undefined
    let held = true
    const release = (): void => {
      if (!held) return
      held = false
      if (reply !== undefined) replies.delete(reply)
      const left = underWay.get(from)! - 1
      if (left === 0) underWay.delete(from)
      else underWay.set(from, left)
      entry.total -= 1
    }
    return {
      replying: (giveUp) => {
        const endEarly = (): void => {
          release()
          giveUp()
        }
        const started: Reply = { from, sinceMs: this.clock.steady(), sentBytes: 0, endEarly }
        reply = started
        replies.add(started)
        return (sentBytes) => {
          started.sentBytes += sentBytes
        }
      },
      [Symbol.dispose]: release,
    }
  }

  /**
   * The slowest reply that has to make room for a peer that has `held` places: of those whose reader would still have no fewer, and
   * for a peer without any place also of those that drip. So whoever makes up many identities takes no more than the share of each,
   * and nobody is kept out by readers that are slow on purpose.
   */
  private replyToEndFor(held: number, { replies, underWay }: Entry): Reply | undefined {
    const { undisturbedReplyMs, unhurriedBytesPerSecond } = transportLimits
    const nowMs = this.clock.steady()
    let slowest: Reply | undefined
    let slowestRate = Number.POSITIVE_INFINITY
    for (const reply of replies) {
      const forMs = nowMs - reply.sinceMs
      if (forMs < undisturbedReplyMs) continue
      const rate = (reply.sentBytes / forMs) * 1000
      const hasMore = underWay.get(reply.from)! > held + 1
      if (!hasMore && (held > 0 || rate >= unhurriedBytesPerSecond)) continue
      if (rate < slowestRate) [slowest, slowestRate] = [reply, rate]
    }
    return slowest
  }

  /** The handler's answer to a request that was admitted; never throws. */
  async answer(protocol: ProtocolId, request: IncomingRequest): Promise<Answer> {
    const entry = this.entries.get(protocol)
    if (entry === undefined) return { ok: false, error: unsupported(protocol) }
    const { maxRequestBytes } = entry.limits
    if (request.bytes.byteLength > maxRequestBytes) {
      this.ledger.refused(request.from, 'request-oversized')
      return { ok: false, error: oversizedRequest(request.bytes.byteLength, maxRequestBytes) }
    }
    try {
      return { ok: true, bytes: await entry.handler(request) }
    } catch (thrown) {
      if (thrown instanceof GroundswellError) {
        return { ok: false, error: { code: thrown.code, message: thrown.message, remedy: thrown.remedy } }
      }
      if (!request.signal.aborted) {
        this.ledger.refused(request.from, 'handler-failed')
        this.onError?.(thrown, { protocol, from: request.from })
      }
      return { ok: false, error: { code: 'peer/internal', message: 'The peer failed to answer.' } }
    }
  }
}

export function oversizedRequest(bytes: number, maxRequestBytes: number): WireError {
  return {
    code: 'peer/request-oversized',
    message: `A request of ${bytes} bytes exceeds the limit of ${maxRequestBytes}.`,
  }
}

function unsupported(protocol: ProtocolId): WireError {
  return { code: 'peer/unsupported', message: `The peer does not answer ${protocol}.` }
}

const wireErrorSchema = z.strictObject({
  code: z.string().regex(/^[a-z-]{1,32}\/[a-z0-9-]{1,64}$/),
  message: z.string().max(600),
  remedy: z.string().max(600).optional(),
})

export function encodeWireError({ code, message, remedy }: WireError): Uint8Array {
  return encodeCanonical({
    code,
    message: message.slice(0, 400),
    ...(remedy === undefined ? {} : { remedy: remedy.slice(0, 200) }),
  })
}

/** Reads an error that a peer sent, with everything removed that could upset a terminal; undefined if malformed. */
export function decodeWireError(bytes: Uint8Array): WireError | undefined {
  try {
    const error = wireErrorSchema.parse(decodeCanonical(bytes, transportLimits.maxErrorBytes))
    return { ...error, message: printable(error.message), remedy: error.remedy && printable(error.remedy) }
  } catch {
    return undefined // the caller says which peer sent it
  }
}

function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}]/gu, ' ')
}
