/**
 * Bounds for the circuits of js-libp2p's relay server (@libp2p/circuit-relay-v2 4.2.13), which counts bytes only to
 * cut a circuit at a fixed limit and joins its two streams through a queue without bound. Here the components that
 * the server works with are wrapped: every circuit is counted for both its peers, closed when a quota is used up,
 * and its senders are paused while what they sent is still waiting or their rate is exceeded.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { type circuitRelayServer, RELAY_V2_HOP_CODEC, RELAY_V2_STOP_CODEC } from '@libp2p/circuit-relay-v2'
import type { Connection, Stream } from '@libp2p/interface'
import { type Clock, GroundswellError } from '../core/index.ts'
import { overriding } from './overriding.ts'
import type { PeerId } from './peer-id.ts'
import type { RelayAccounts } from './relay-quotas.ts'

/** Bytes of one direction that may wait in the relay before its sender is paused, and when it may go on. */
const waiting = { mostBytes: 2 * 1024 * 1024, resumeBytes: 1024 * 1024 } as const

type Components = Parameters<ReturnType<typeof circuitRelayServer>>[0]

/** The request that is being answered: who opened the stream from which a circuit may come. */
interface Hop {
  readonly stream: Stream
  readonly from: PeerId
}

/** The components as the relay server is to see them. */
export function boundedCircuits(components: Components, accounts: RelayAccounts, clock: Clock): Components {
  const hops = new AsyncLocalStorage<Hop>()
  const registrar = overriding(components.registrar, {
    handle: (protocol, handler, options) =>
      components.registrar.handle(
        protocol,
        protocol === RELAY_V2_HOP_CODEC
          ? (stream, connection) =>
              hops.run({ stream, from: peerOf(connection) }, () => handler(stream, connection))
          : handler,
        options,
      ),
  })
  const openingCircuits = (connection: Connection): Connection =>
    overriding(connection, {
      newStream: async (protocols, options) => {
        const stream = await connection.newStream(protocols, options)
        const hop = hops.getStore()
        if (protocols === RELAY_V2_STOP_CODEC && hop !== undefined) {
          bindCircuit(hop, { stream, to: peerOf(connection) }, accounts, clock)
        }
        return stream
      },
    })
  const connectionManager = overriding(components.connectionManager, {
    // The newest first: of a peer that came back from another address, the old connection may be dead.
    getConnections: (peer) =>
      components.connectionManager
        .getConnections(peer)
        .toSorted((a, b) => b.timeline.open - a.timeline.open)
        .map(openingCircuits),
  })
  return overriding(components, { registrar, connectionManager })
}

function peerOf(connection: Connection): PeerId {
  return connection.remotePeer.toString() as PeerId
}

function bindCircuit(
  hop: Hop,
  stop: { readonly stream: Stream; readonly to: PeerId },
  accounts: RelayAccounts,
  clock: Clock,
): void {
  const ends = [hop.from, stop.to]
  const place = accounts.open(hop.from, stop.to)
  const ended = new AbortController()
  const close = (reason: Error): void => {
    for (const stream of [hop.stream, stop.stream]) stream.abort(reason)
  }
  const onPassed = (bytes: number): number => {
    const restMs = accounts.passed(bytes, ends)
    if (ends.some((peer) => accounts.usedUp(peer))) {
      accounts.refused('quota-used-up')
      close(new GroundswellError('The quota of this relay is used up.', { code: 'relay/quota' }))
    }
    return restMs
  }
  const there = new Direction({ from: hop.stream, to: stop.stream, onPassed, clock, ended: ended.signal })
  const back = new Direction({ from: stop.stream, to: hop.stream, onPassed, clock, ended: ended.signal })
  // Before the server has joined the streams, a listener of ours would take messages away from it. The first that
  // goes out on either is the handshake; once more is sent, they are joined.
  const begin = (): void => {
    there.begin()
    back.begin()
  }
  there.watchSending(begin)
  back.watchSending(begin)
  stop.stream.addEventListener(
    'close',
    () => {
      ended.abort()
      place[Symbol.dispose]()
    },
    { once: true },
  )
}

interface DirectionInit {
  readonly from: Stream
  readonly to: Stream
  /** Counts, and says how long the sender must rest. */
  readonly onPassed: (bytes: number) => number
  readonly clock: Clock
  readonly ended: AbortSignal
}

/** What goes one way through a circuit. */
class Direction {
  private readonly init: DirectionInit
  private waitingBytes = 0
  private resting = false
  private begun = false
  private sends = 0

  constructor(init: DirectionInit) {
    this.init = init
  }

  begin(): void {
    if (this.begun) return
    this.begun = true
    this.init.from.addEventListener('message', ({ data }) => {
      this.waitingBytes += data.byteLength
      this.adjust()
    })
  }

  /** Sees what the relay server hands on; `onJoined` is told when that is no longer the handshake. */
  watchSending(onJoined: () => void): void {
    const { to, onPassed } = this.init
    const send = to.send.bind(to)
    to.send = (data) => {
      this.sends += 1
      // Of the hop stream, only the status was sent before.
      if (this.sends === 1) return send(data)
      const wasBegun = this.begun
      onJoined()
      if (wasBegun) this.waitingBytes = Math.max(0, this.waitingBytes - data.byteLength)
      const more = send(data)
      const restMs = onPassed(data.byteLength)
      if (restMs > 0) void this.rest(restMs)
      this.adjust()
      return more
    }
  }

  private async rest(ms: number): Promise<void> {
    if (this.resting) return
    this.resting = true
    try {
      await this.init.clock.sleep(Math.ceil(ms), this.init.ended)
    } catch {
      return // the circuit has ended
    }
    this.resting = false
    this.adjust()
  }

  private adjust(): void {
    const { from } = this.init
    if (from.status !== 'open') return
    const most = from.readStatus === 'paused' ? waiting.resumeBytes : waiting.mostBytes
    const pause = this.resting || this.waitingBytes > most
    if (pause === (from.readStatus === 'paused')) return
    // Not within the delivery of a message: `resume()` delivers first and would then overrule this.
    queueMicrotask(() => {
      if (from.status !== 'open' || from.readStatus === 'closed' || from.readStatus === 'closing') return
      const still = this.resting || this.waitingBytes > waiting.resumeBytes
      if (still) from.pause()
      else from.resume()
    })
  }
}
