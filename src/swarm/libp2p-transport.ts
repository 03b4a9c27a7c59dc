/**
 * The transport between processes: js-libp2p over TCP and WebSockets, encrypted and authenticated by noise,
 * multiplexed by yamux. One stream per request. The bounds of libp2p are all set here; what its defaults do under
 * load is told beside each.
 */

import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { type Clock, GroundswellError, systemClock } from '../core/index.ts'
import { cannotListen, parseAddress, peerIn } from './addresses.ts'
import { abortable, type Deadline, withDeadline } from './deadline.ts'
import { broken, stopped, unreachable } from './errors.ts'
import { HandlerTable, type OnHandlerError } from './handlers.ts'
import type { Identity } from './identity.ts'
import { PeerLedger } from './ledger.ts'
import { askOn, type Exchanging, serveOn } from './libp2p-exchange.ts'
import { Pacer, type RateCaps } from './pacing.ts'
import type { PeerId } from './peer-id.ts'
import { boundPeerRecords } from './peer-records.ts'
import { RelayClient, type RelayNews } from './relay-client.ts'
import { sparingNoise } from './sparing-noise.ts'
import {
  type DialOptions,
  errorFrom,
  type Handler,
  type HandlerLimits,
  type ProtocolId,
  type RequestOptions,
  type Transport,
  transportLimits,
} from './transport.ts'
import { guardListeners } from './websocket-guard.ts'

export interface Libp2pTransportInit {
  readonly identity: Identity
  /** Multiaddresses such as `/ip4/0.0.0.0/tcp/4001` or `/ip4/0.0.0.0/tcp/4002/ws`; port 0 takes a free one. */
  readonly listen?: readonly string[]
  /** Addresses to tell others instead of those listened on, as behind a port forward. */
  readonly announce?: readonly string[]
  /**
   * Addresses of relays (`startRelay`) through which this node is to be reached as well. Each is tried once before
   * the node counts as started, and then kept, also when it comes up later or is restarted.
   */
  readonly relays?: readonly string[]
  readonly onRelay?: (news: RelayNews) => void
  readonly limits?: Partial<ConnectionLimits>
  /** What this node may send and receive; control messages count and do not wait. */
  readonly caps?: RateCaps
  readonly clock?: Clock
  readonly onHandlerError?: OnHandlerError
}

export interface ConnectionLimits {
  readonly maxConnections: number
  /** Connections of one peer; a newcomer beyond is refused. */
  readonly maxConnectionsPerPeer: number
  /** New connections from one address in one second; libp2p's 5 resets peers behind one router. */
  readonly maxConnectionsPerSecond: number
  /** Connections whose handshake is under way. */
  readonly maxPending: number
  readonly handshakeTimeoutMs: number
  /** Streams of one connection, either way. */
  readonly maxStreams: number
  /** Peers without a connection of which libp2p keeps a record, so that they can be dialled again. */
  readonly maxRemembered: number
}

export const connectionLimits: ConnectionLimits = {
  maxConnections: 512,
  maxConnectionsPerPeer: 8,
  maxConnectionsPerSecond: 64,
  maxPending: 64,
  handshakeTimeoutMs: 10_000,
  maxStreams: 256,
  maxRemembered: 1024,
}

/**
 * The window of a stream must stay below its read buffer (by a third, as measured), else pausing a fast stream
 * resets it. The write buffer, unbounded by default, holds what a slow reader has not taken.
 */
export const streamBuffers: Readonly<
  Record<
    'initialStreamWindowSize' | 'maxStreamWindowSize' | 'maxReadBufferLength' | 'maxWriteBufferLength',
    number
  >
> = {
  initialStreamWindowSize: 1024 * 1024,
  maxStreamWindowSize: 4 * 1024 * 1024,
  maxReadBufferLength: 8 * 1024 * 1024,
  maxWriteBufferLength: 8 * 1024 * 1024,
}

/** A silent connection is asked for a sign of life this often, and closed after that long without one. */
export const lifeSigns = { intervalMs: 15_000, timeoutMs: 20_000 } as const

/** For saying goodbye on one connection. */
const closeTimeoutMs = 500

/** Before dialling again when libp2p answered with the end of an earlier dial. */
const givenUpPauseMs = 50

/** Addresses remembered per peer, and peers remembered, for dialling again after a connection broke. */
const addressBook = { perPeer: 8, peers: 1024 } as const

/**
 * Starts a node.
 * @throws GroundswellError `transport/port-in-use`, `transport/cannot-listen` or `peer/invalid-address`
 */
export async function libp2pTransport(init: Libp2pTransportInit): Promise<Transport> {
  const limits = { ...connectionLimits, ...init.limits }
  const listen = (init.listen ?? []).map(parseAddress)
  const announce = (init.announce ?? []).map(parseAddress)
  let transport: Libp2pTransport | undefined
  const relays = new RelayClient({
    relays: (init.relays ?? []).map(parseAddress),
    self: init.identity.peerId,
    clock: init.clock ?? systemClock(),
    onNews: init.onRelay,
  })
  const node = await createLibp2p({
    start: false,
    privateKey: await generateKeyPairFromSeed('Ed25519', init.identity.seed),
    addresses: { listen: listen.map(String), announce: announce.map(String) },
    transports: [
      tcp({ maxConnections: limits.maxConnections + limits.maxPending }),
      guardListeners(webSockets(), {
        maxSockets: limits.maxConnections + limits.maxPending,
        silenceMs: limits.handshakeTimeoutMs,
      }),
      (components: Parameters<RelayClient['circuits']>[0]) => relays.circuits(components),
    ],
    connectionEncrypters: [sparingNoise()],
    streamMuxers: [
      yamux({
        maxInboundStreams: limits.maxStreams,
        maxOutboundStreams: limits.maxStreams,
        // Streams that come before this end has finished the handshake; at 10, a burst would end the connection.
        maxEarlyStreams: limits.maxStreams,
        streamOptions: streamBuffers,
      }),
    ],
    connectionManager: {
      maxConnections: limits.maxConnections,
      inboundConnectionThreshold: limits.maxConnectionsPerSecond,
      maxIncomingPendingConnections: limits.maxPending,
      inboundUpgradeTimeout: limits.handshakeTimeoutMs,
      dialTimeout: transportLimits.dialTimeoutMs,
      addressDialTimeout: transportLimits.dialTimeoutMs,
    },
    // libp2p's 5 s would cut off a peer whose one core is busy with a training step.
    connectionMonitor: {
      pingInterval: lifeSigns.intervalMs,
      pingTimeout: { minTimeout: lifeSigns.timeoutMs },
    },
    connectionGater: {
      // A node dials private addresses: its peers may well be in the same house.
      denyDialMultiaddr: () => false,
      denyInboundEncryptedConnection: (peer) =>
        (transport?.connectionsOf(peer.toString() as PeerId) ?? 0) >= limits.maxConnectionsPerPeer,
    },
    services: { identify: identify() },
  })
  boundPeerRecords(node, limits.maxConnections + limits.maxRemembered)
  transport = new Libp2pTransport(node, relays, init)
  try {
    await node.start()
  } catch (thrown) {
    throw cannotListen(thrown, listen)
  }
  await relays.start(transport.untilStopped)
  return transport
}

class Libp2pTransport implements Transport {
  readonly self: PeerId
  readonly ledger: PeerLedger = new PeerLedger()
  private readonly node: Libp2p
  private readonly relays: RelayClient
  private readonly clock: Clock
  private readonly handlers: HandlerTable
  private readonly pacer: Pacer
  private readonly onHandlerError: OnHandlerError | undefined
  private readonly known = new Map<PeerId, Set<string>>()
  private readonly dialling = new Map<PeerId, Promise<Connection>>()
  private readonly stopping = new AbortController()
  private stopped: Promise<void> | undefined

  constructor(
    node: Libp2p,
    relays: RelayClient,
    { identity, caps, clock, onHandlerError }: Libp2pTransportInit,
  ) {
    this.node = node
    this.relays = relays
    this.self = identity.peerId
    this.clock = clock ?? systemClock()
    this.pacer = new Pacer(caps ?? {}, this.clock)
    this.onHandlerError = onHandlerError
    this.handlers = new HandlerTable(this.ledger, this.clock, onHandlerError)
  }

  get addresses(): readonly string[] {
    const direct = this.node.getMultiaddrs().map(String)
    return [...direct.filter((each) => !isRelayed(each)), ...this.relays.addresses]
  }

  get untilStopped(): AbortSignal {
    return this.stopping.signal
  }

  connectionsOf(peer: PeerId): number {
    return this.node.getConnections(peerIdFromString(peer)).length
  }

  async dial(address: string, options: DialOptions = {}): Promise<PeerId> {
    this.assertRunning()
    const at = parseAddress(address)
    const peer = peerIn(at)
    const timeoutMs = options.timeoutMs ?? transportLimits.dialTimeoutMs
    await this.within({ timeoutMs, signal: options.signal, what: `Dialling ${address}` }, async (signal) => {
      // libp2p joins dials of one peer, also a new one with one that was just given up and is not yet taken down.
      for (;;) {
        try {
          await this.node.dial(at, { signal })
          return
        } catch (thrown) {
          signal.throwIfAborted()
          if (!isGivenUp(thrown)) throw unreachable(peer, thrown)
          await this.clock.sleep(givenUpPauseMs, signal)
        }
      }
    })
    this.remember(peer, address)
    return peer
  }

  handle(protocol: ProtocolId, handler: Handler, limits?: Partial<HandlerLimits>): void {
    this.handlers.add(protocol, handler, limits)
    const { maxConcurrentPerPeer } = this.handlers.limitsOf(protocol)!
    this.node
      .handle(
        protocol,
        (stream, connection) =>
          serveOn(stream, {
            ...this.exchanging(protocol),
            handlers: this.handlers,
            from: connection.remotePeer.toString() as PeerId,
            stopping: this.stopping.signal,
          }),
        {
          // More than are answered, so that a peer in excess is told so instead of being reset.
          maxInboundStreams: maxConcurrentPerPeer * 2,
          maxOutboundStreams: connectionLimits.maxStreams,
          runOnLimitedConnection: true,
        },
      )
      .catch((thrown: unknown) => {
        // The handler itself is in place; what failed is a note of it in the store of peers.
        if (!this.stopping.signal.aborted) this.onHandlerError?.(thrown, { protocol, from: this.self })
      })
  }

  async request(
    peer: PeerId,
    protocol: ProtocolId,
    bytes: Uint8Array,
    options: RequestOptions,
  ): Promise<Uint8Array> {
    this.assertRunning()
    const { maxReplyBytes, timeoutMs = transportLimits.requestTimeoutMs, signal } = options
    const wholeMs = timeoutMs + (maxReplyBytes / transportLimits.slowestBytesPerSecond) * 1000
    // Waiting for one's own cap is no silence of the peer, so it comes before the deadline.
    const alive =
      signal === undefined ? this.stopping.signal : AbortSignal.any([this.stopping.signal, signal])
    const reservation = await this.pacer.reserve(protocol, maxReplyBytes, alive)
    let receivedBytes = 0
    const onReceived = (count: number): void => {
      receivedBytes += count
    }
    try {
      return await this.within(
        { timeoutMs, wholeMs, signal, what: `A request to ${peer} (${protocol})` },
        async (until, progress) => {
          const stream = await this.open(peer, protocol, until)
          const asking = { peer, bytes, maxReplyBytes, signal: until, progress, onReceived }
          return askOn(stream, { ...this.exchanging(protocol), ...asking })
        },
      )
    } catch (thrown) {
      if (thrown instanceof GroundswellError && thrown.code === 'peer/timeout') {
        this.ledger.refused(peer, 'reply-timeout')
      }
      throw thrown
    } finally {
      reservation.settle(receivedBytes)
    }
  }

  stop(): Promise<void> {
    this.stopped ??= (async () => {
      this.stopping.abort(stopped())
      // libp2p waits half a second for each connection that its other end closes in the same moment.
      const bye = { signal: AbortSignal.timeout(closeTimeoutMs) }
      await Promise.all(
        this.node.getConnections().map((each) => each.close(bye).catch(() => each.abort(stopped()))),
      )
      await this.relays.stopped()
      await this.node.stop()
    })()
    return this.stopped
  }

  /**
   * A stream for one request, over the connection at hand or a new one. A connection whose other end has vanished
   * looks open until it is used; as nothing was asked yet, a new one is tried.
   */
  private async open(peer: PeerId, protocol: ProtocolId, signal: AbortSignal): Promise<Stream> {
    const connection = this.openConnections(peer)[0]
    if (connection !== undefined) {
      try {
        return await this.streamOn(connection, protocol, signal)
      } catch (thrown) {
        signal.throwIfAborted()
        if (thrown instanceof GroundswellError) throw thrown
        this.ledger.refused(peer, 'connection-broken')
      }
    }
    try {
      return await this.streamOn(await this.connect(peer, connection, signal), protocol, signal)
    } catch (thrown) {
      signal.throwIfAborted()
      if (thrown instanceof GroundswellError) throw thrown
      this.ledger.refused(peer, 'connection-broken')
      throw broken(peer, thrown)
    }
  }

  private async streamOn(connection: Connection, protocol: ProtocolId, signal: AbortSignal): Promise<Stream> {
    try {
      return await connection.newStream(protocol, {
        signal,
        runOnLimitedConnection: true,
        maxOutboundStreams: connectionLimits.maxStreams,
      })
    } catch (thrown) {
      if (!(thrown instanceof Error) || thrown.name !== 'UnsupportedProtocolError') throw thrown
      const peer = connection.remotePeer.toString() as PeerId
      throw errorFrom(peer, { code: 'peer/unsupported', message: `it does not answer ${protocol}.` })
    }
  }

  /** Those through a relay come last. */
  private openConnections(peer: PeerId): Connection[] {
    return this.node
      .getConnections(peerIdFromString(peer))
      .filter(({ status }) => status === 'open')
      .sort((a, b) => Number(isRelayed(a.remoteAddr)) - Number(isRelayed(b.remoteAddr)))
  }

  /** A connection other than one that failed. */
  private async connect(
    peer: PeerId,
    failed: Connection | undefined,
    signal: AbortSignal,
  ): Promise<Connection> {
    const other = this.openConnections(peer).find((each) => each !== failed)
    if (other !== undefined) return other
    // Of many requests that meet the same broken connection, one dials and the others wait for it.
    let dialled = this.dialling.get(peer)
    if (dialled === undefined) {
      dialled = this.dialKnown(peer, failed !== undefined).finally(() => this.dialling.delete(peer))
      this.dialling.set(peer, dialled)
    }
    try {
      return await abortable(dialled, signal)
    } catch (thrown) {
      signal.throwIfAborted()
      throw unreachable(peer, thrown)
    }
  }

  private dialKnown(peer: PeerId, force: boolean): Promise<Connection> {
    const known = this.known.get(peer)
    // Without an address of ours, libp2p uses those that the peer told when it connected.
    const target = known === undefined ? peerIdFromString(peer) : [...known].map((each) => multiaddr(each))
    return this.node.dial(target, { signal: this.stopping.signal, force })
  }

  private remember(peer: PeerId, address: string): void {
    const known = this.known.get(peer) ?? new Set()
    this.known.delete(peer)
    this.known.set(peer, known)
    known.delete(address)
    known.add(address)
    const [oldestAddress] = known
    if (known.size > addressBook.perPeer) known.delete(oldestAddress!)
    const [oldestPeer] = this.known.keys()
    if (this.known.size > addressBook.peers) this.known.delete(oldestPeer!)
  }

  /** Runs work that ends with the deadline, the caller's signal or this transport. */
  private within<Result>(
    deadline: Omit<Deadline, 'clock'>,
    work: (signal: AbortSignal, progress: () => void) => Promise<Result>,
  ): Promise<Result> {
    const signals = deadline.signal === undefined ? [] : [deadline.signal]
    const signal = AbortSignal.any([this.stopping.signal, ...signals])
    return withDeadline({ ...deadline, clock: this.clock, signal }, work)
  }

  private exchanging(protocol: ProtocolId): Exchanging {
    const { ledger, pacer } = this
    return { ledger, pacer, protocol, within: (deadline, work) => this.within(deadline, work) }
  }

  private assertRunning(): void {
    if (this.stopping.signal.aborted) throw stopped()
  }
}

function isRelayed(address: Multiaddr | string): boolean {
  return String(address).includes('/p2p-circuit')
}

/** Whether somebody else’s signal ended the dial. */
function isGivenUp(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === 'AbortError'
}
