/**
 * The seam between peers: ask a peer something and get a bounded answer. Identity is the Ed25519 PeerId, proven by
 * the connection. Everything is pulled: a request is small, a reply is no larger than whoever asked said beforehand,
 * and nothing arrives that was not asked for. Implementations: `memoryTransport` and `libp2pTransport`, which pass
 * one suite (transport-suite.ts).
 */
import { GroundswellError } from '../core/index.ts'
import type { PeerLedger } from './ledger.ts'
import type { PeerId } from './peer-id.ts'

/** Names of protocols carry their version: `/groundswell/message/1`. */
export type ProtocolId = `/groundswell/${string}/${number}`

/** Signed control messages. */
export const messageProtocol: ProtocolId = '/groundswell/message/1'
/** Chunks by CID. */
export const chunkProtocol: ProtocolId = '/groundswell/chunk/1'

export interface Transport {
  readonly self: PeerId
  /** Where this peer can be dialled, each ending in `/p2p/<self>`; empty when it only dials out. */
  readonly addresses: readonly string[]
  /** Bytes and refusals, by peer. */
  readonly ledger: PeerLedger
  /** Connects to an address that ends in `/p2p/<PeerId>` and proves that this peer is there. */
  dial(address: string, options?: DialOptions): Promise<PeerId>
  /** Answers a protocol from now on. What the handler throws becomes the reply's error. */
  handle(protocol: ProtocolId, handler: Handler, limits?: Partial<HandlerLimits>): void
  /**
   * Asks a peer, over the connection at hand whoever made it, or over a new one to an address dialled before.
   * @throws GroundswellError `peer/unreachable`, `peer/timeout`, `peer/closed`, `peer/oversized`, `peer/malformed`,
   *   `peer/unsupported`, `transport/stopped`; RemoteError for what the peer's handler threw; the signal's reason
   */
  request(peer: PeerId, protocol: ProtocolId, bytes: Uint8Array, options: RequestOptions): Promise<Uint8Array>
  /** Ends connections, requests and handlers; afterwards nothing keeps the process alive. May be called twice. */
  stop(): Promise<void>
}

export interface DialOptions {
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface RequestOptions {
  /** A longer reply is refused before anything is allocated for it. */
  readonly maxReplyBytes: number
  /**
   * The longest silence: from the request to the first byte of the reply and between its bytes, noticed after at
   * most twice that; `transportLimits.requestTimeoutMs` unless stated.
   */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface IncomingRequest {
  /** Who asks, proven by the connection. */
  readonly from: PeerId
  readonly bytes: Uint8Array
  /** Aborted when the asking peer has gone or the transport stops. */
  readonly signal: AbortSignal
}

export type Handler = (request: IncomingRequest) => Uint8Array | Promise<Uint8Array>

export interface HandlerLimits {
  readonly maxRequestBytes: number
  /** Requests of one peer that may be under way; more are refused at once with `peer/busy`. */
  readonly maxConcurrentPerPeer: number
  /** The same for all peers together. */
  readonly maxConcurrent: number
}

/** Bounds that hold whatever the protocol; LIMITS.md lists them with their tests. */
export const transportLimits: HandlerLimits & {
  readonly maxErrorBytes: number
  readonly requestTimeoutMs: number
  readonly dialTimeoutMs: number
  readonly readRequestTimeoutMs: number
  readonly stalledReaderTimeoutMs: number
  readonly slowestBytesPerSecond: number
  readonly undisturbedReplyMs: number
  readonly unhurriedBytesPerSecond: number
} = {
  maxRequestBytes: 64 * 1024,
  maxConcurrentPerPeer: 32,
  maxConcurrent: 1024,
  /** Of an error that goes over the wire. */
  maxErrorBytes: 2048,
  requestTimeoutMs: 60_000,
  dialTimeoutMs: 20_000,
  /** From the opening of a stream to the last byte of the request. */
  readRequestTimeoutMs: 10_000,
  /** How long whoever asked may take to accept the next frame of the reply. */
  stalledReaderTimeoutMs: 30_000,
  /** A reply may trickle, but no slower than this on the whole. */
  slowestBytesPerSecond: 4096,
  /** For so long nobody takes the place of a reply, however slow. */
  undisturbedReplyMs: 10_000,
  /** A reply that is slower gives its place up to a peer that has none, also if it is the only one of its reader. */
  unhurriedBytesPerSecond: 16 * 1024,
}

/** An error as it goes over the wire. */
export interface WireError {
  readonly code: string
  readonly message: string
  readonly remedy?: string | undefined
}

/** What the other side's handler threw. Code and text come from the peer: show them, but trust nothing in them. */
export class RemoteError extends GroundswellError {
  readonly peer: PeerId
  /** The code that the handler's error had, such as `round/closed`. */
  readonly remoteCode: string

  constructor(peer: PeerId, error: WireError) {
    super(error.message, {
      code: 'peer/refused',
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
    })
    this.peer = peer
    this.remoteCode = error.code
  }
}

/** The error that whoever asked meets when the peer answered with one. */
export function errorFrom(peer: PeerId, error: WireError): GroundswellError {
  if (error.code !== 'peer/unsupported') return new RemoteError(peer, error)
  return new GroundswellError(`Peer ${peer}: ${error.message}`, { code: error.code })
}

/** Whether something thrown is the peer's own refusal with this code. */
export function isRemote(thrown: unknown, remoteCode: string): thrown is RemoteError {
  return thrown instanceof RemoteError && thrown.remoteCode === remoteCode
}
