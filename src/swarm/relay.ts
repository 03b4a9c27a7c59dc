/**
 * A relay: a node with a public address through which two peers behind routers meet (circuit relay v2 of libp2p,
 * https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md). What it carries stays encrypted between the
 * peers. The usual limits of 128 KiB and two minutes per connection would make it useless for checkpoints; instead
 * each peer has quotas of our own.
 */
import { type CircuitRelayService, circuitRelayServer } from '@libp2p/circuit-relay-v2'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { type Identify, identify } from '@libp2p/identify'
import type { Libp2p } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { type Clock, systemClock } from '../core/index.ts'
import { cannotListen, parseAddress } from './addresses.ts'
import type { Identity } from './identity.ts'
import { type ConnectionLimits, connectionLimits, lifeSigns, streamBuffers } from './libp2p-transport.ts'
import type { PeerId } from './peer-id.ts'
import { boundPeerRecords } from './peer-records.ts'
import { boundedCircuits } from './relay-circuits.ts'
import { RelayAccounts, type RelayQuotas, type RelayRefusal, relayQuotas } from './relay-quotas.ts'
import { sparingNoise } from './sparing-noise.ts'
import { guardListeners } from './websocket-guard.ts'

export interface RelayInit {
  readonly identity: Identity
  /** As of `libp2pTransport`. */
  readonly listen: readonly string[]
  readonly announce?: readonly string[]
  readonly quotas?: Partial<RelayQuotas>
  readonly limits?: Partial<ConnectionLimits>
  readonly clock?: Clock
}

export interface RelayStatus {
  /** Peers that can be reached through this relay. */
  readonly reservations: number
  readonly circuits: number
  /** Since the start, counted once for each circuit. */
  readonly relayedBytes: number
  /** Bytes in the current window and circuits, by peer. */
  readonly byPeer: ReadonlyMap<PeerId, { readonly bytes: number; readonly circuits: number }>
  readonly refusals: Readonly<Partial<Record<RelayRefusal, number>>>
}

export interface Relay {
  readonly self: PeerId
  /** What peers pass as `relays`, each ending in `/p2p/<self>`. */
  readonly addresses: readonly string[]
  status(): RelayStatus
  stop(): Promise<void>
}

/**
 * Smaller windows than a peer's, as a circuit takes two of them: 20 MB/s per circuit at 100 ms round trip. The initial
 * window must be a peer's: yamux (8.0.3) does not tell it, and a sender that believes in another one is cut off.
 */
const relayBuffers: typeof streamBuffers = {
  initialStreamWindowSize: streamBuffers.initialStreamWindowSize,
  maxStreamWindowSize: 2 * 1024 * 1024,
  maxReadBufferLength: 4 * 1024 * 1024,
  maxWriteBufferLength: 4 * 1024 * 1024,
}

const maxRelayConnections = 2048

interface Services extends Record<string, unknown> {
  readonly identify: Identify
  readonly relay: CircuitRelayService
}

/**
 * Starts a relay.
 * @throws GroundswellError `transport/port-in-use`, `transport/cannot-listen` or `peer/invalid-address`
 */
export async function startRelay(init: RelayInit): Promise<Relay> {
  const limits = { ...connectionLimits, maxConnections: maxRelayConnections, ...init.limits }
  const clock = init.clock ?? systemClock()
  const quotas = { ...relayQuotas, ...init.quotas }
  const accounts = new RelayAccounts(quotas, clock)
  const listen = init.listen.map(parseAddress)
  const announce = (init.announce ?? []).map(parseAddress)
  const server = circuitRelayServer({
    reservations: {
      maxReservations: quotas.maxReservations,
      applyDefaultLimit: false,
      reservationTtl: quotas.reservationMs,
    },
    maxInboundHopStreams: quotas.maxCircuitsPerPeer * 2,
    maxOutboundStopStreams: quotas.maxCircuitsToPeer,
  })
  const sockets = limits.maxConnections + limits.maxPending
  const node: Libp2p<Services> = await createLibp2p<Services>({
    start: false,
    privateKey: await generateKeyPairFromSeed('Ed25519', init.identity.seed),
    addresses: { listen: listen.map(String), announce: announce.map(String) },
    transports: [
      tcp({ maxConnections: sockets }),
      guardListeners(webSockets(), { maxSockets: sockets, silenceMs: limits.handshakeTimeoutMs }),
    ],
    connectionEncrypters: [sparingNoise()],
    streamMuxers: [
      yamux({
        maxInboundStreams: limits.maxStreams,
        maxOutboundStreams: quotas.maxCircuitsToPeer * 2,
        maxEarlyStreams: limits.maxStreams,
        streamOptions: relayBuffers,
      }),
    ],
    connectionManager: {
      maxConnections: limits.maxConnections,
      inboundConnectionThreshold: limits.maxConnectionsPerSecond,
      maxIncomingPendingConnections: limits.maxPending,
      inboundUpgradeTimeout: limits.handshakeTimeoutMs,
    },
    connectionMonitor: {
      pingInterval: lifeSigns.intervalMs,
      pingTimeout: { minTimeout: lifeSigns.timeoutMs },
    },
    connectionGater: {
      denyInboundEncryptedConnection: (peer) =>
        node.getConnections(peer).length >= limits.maxConnectionsPerPeer,
      denyInboundRelayReservation: (peer) => {
        const { reservations } = node.services.relay
        const full = reservations.size >= quotas.maxReservations && !reservations.has(peer)
        const usedUp = accounts.usedUp(peer.toString() as PeerId)
        if (full || usedUp) accounts.refused(full ? 'too-many-reservations' : 'quota-used-up')
        return full || usedUp
      },
      denyOutboundRelayedConnection: (from, to) => {
        const objection = accounts.objection(from.toString() as PeerId, to.toString() as PeerId)
        if (objection !== undefined) accounts.refused(objection)
        return objection !== undefined
      },
    },
    services: {
      identify: identify(),
      relay: (components) => server(boundedCircuits(components, accounts, clock)),
    },
  })
  boundPeerRecords(node, limits.maxConnections + limits.maxRemembered)
  // The server keeps the place of a peer that has gone until it would have had to be renewed.
  node.addEventListener('peer:disconnect', ({ detail: peer }) => {
    const { reservations } = node.services.relay
    reservations.get(peer)?.signal.clear()
    reservations.delete(peer)
  })
  try {
    await node.start()
  } catch (thrown) {
    throw cannotListen(thrown, listen)
  }
  let stopping: Promise<void> | undefined
  return {
    self: init.identity.peerId,
    get addresses() {
      return node.getMultiaddrs().map(String)
    },
    status: () => {
      const byPeer = accounts.byPeer()
      return {
        reservations: node.services.relay.reservations.size,
        circuits: [...byPeer.values()].reduce((sum, { circuits }) => sum + circuits, 0) / 2,
        relayedBytes: accounts.relayedBytes,
        byPeer,
        refusals: { ...accounts.refusals },
      }
    },
    stop: () => {
      stopping ??= (async () => {
        const reason = new Error('The relay has stopped.')
        for (const connection of node.getConnections()) connection.abort(reason)
        await node.stop()
      })()
      return stopping
    },
  }
}
