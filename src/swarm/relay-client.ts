/**
 * A node that is reached through relays: it keeps a reservation at each of those it was told of, for as long as it
 * runs. js-libp2p (@libp2p/circuit-relay-v2 4.2.13) renews a reservation, but does not make a new one when the relay
 * was restarted or its connection broke; and it lets any peer at all bring it circuits and have itself listened on,
 * which is refused here.
 */
import { circuitRelayTransport, RELAY_V2_STOP_CODEC } from '@libp2p/circuit-relay-v2'
import type { Listener, Transport, Upgrader } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Multiaddr } from '@multiformats/multiaddr'
import { type Clock, messageOf } from '../core/index.ts'
import { peerIn } from './addresses.ts'
import { abortable, withDeadline } from './deadline.ts'
import { overriding } from './overriding.ts'
import type { PeerId } from './peer-id.ts'

/** What became of a relay, for the person who named it. */
export interface RelayNews {
  readonly relay: PeerId
  readonly state: 'reserved' | 'lost' | 'unavailable'
  /** Of `unavailable`: why. */
  readonly message?: string
}

export interface RelayClientInit {
  readonly relays: readonly Multiaddr[]
  readonly self: PeerId
  readonly clock: Clock
  readonly onNews?: ((news: RelayNews) => void) | undefined
}

/** Pauses between attempts double from the first to the last; an attempt that hangs is given up. */
const relayRetries = { firstMs: 250, lastMs: 15_000, attemptMs: 15_000 } as const

type Components = Parameters<ReturnType<typeof circuitRelayTransport>>[0]

/** Marks relays that failed once as invalid for ever; there is no other way to forget that. */
interface Remembering {
  readonly reservationStore: { readonly relayFilter: { remove(item: Uint8Array): boolean } }
}

export class RelayClient {
  private readonly init: RelayClientInit
  private readonly allowed: ReadonlySet<string>
  private readonly reserved = new Map<PeerId, Multiaddr>()
  private transport: (Transport & Remembering) | undefined
  private upgrader: Upgrader | undefined
  private keeping: Promise<unknown> = Promise.resolve()
  private turn: Promise<unknown> = Promise.resolve()

  constructor(init: RelayClientInit) {
    this.init = init
    this.allowed = new Set(init.relays.map(peerIn))
  }

  /** The transport to give to libp2p: dials through any relay, is dialled through those of its own only. */
  circuits(components: Components): Transport {
    const { registrar } = components
    const guarded = overriding(registrar, {
      handle: (protocol, handler, options) =>
        registrar.handle(
          protocol,
          protocol !== RELAY_V2_STOP_CODEC
            ? handler
            : (stream, connection) => {
                if (this.allowed.has(connection.remotePeer.toString())) return handler(stream, connection)
                return stream.abort(new Error('circuits are taken from this node’s own relays only'))
              },
          options,
        ),
    })
    const transport = circuitRelayTransport()(overriding(components, { registrar: guarded }))
    this.transport = transport as Transport & Remembering
    this.upgrader = components.upgrader
    return transport
  }

  /** Addresses at which this node can be dialled now through its relays. */
  get addresses(): string[] {
    return [...this.reserved.values()].map((relay) => `${String(relay)}/p2p-circuit/p2p/${this.init.self}`)
  }

  /** Begins to keep the reservations, until the signal; resolves when each was tried once. */
  async start(signal: AbortSignal): Promise<void> {
    const tries = this.init.relays.map((relay) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      return { relay, tried: promise, onTried: resolve }
    })
    // Rejects only by the signal.
    this.keeping = Promise.allSettled(tries.map(({ relay, onTried }) => this.keep(relay, signal, onTried)))
    await Promise.all(tries.map(({ tried }) => tried))
  }

  /** Resolves when nothing is under way any more after the signal. */
  async stopped(): Promise<void> {
    await this.keeping
  }

  /** One after another: the library forgets those that wait in its queue when one is done. */
  private reserve(listener: Listener, relay: Multiaddr, signal: AbortSignal): Promise<void> {
    const { clock } = this.init
    const attempt = { clock, timeoutMs: relayRetries.attemptMs, signal, what: `Asking ${String(relay)}` }
    const reserved = this.turn.then(() =>
      withDeadline(attempt, () => listener.listen(relay.encapsulate('/p2p-circuit'))),
    )
    this.turn = reserved.catch(() => undefined)
    return reserved
  }

  private async keep(relay: Multiaddr, signal: AbortSignal, onTried: () => void): Promise<void> {
    const peer = peerIn(relay)
    const { clock, onNews } = this.init
    const listener = this.transport!.createListener({ upgrader: this.upgrader! })
    try {
      for (let pauseMs: number = relayRetries.firstMs; !signal.aborted; ) {
        try {
          this.transport!.reservationStore.relayFilter.remove(peerIdFromString(peer).toMultihash().bytes)
          await this.reserve(listener, relay, signal)
          if (listener.getAddrs().length === 0) throw new Error('it gave no reservation')
          this.reserved.set(peer, relay)
          pauseMs = relayRetries.firstMs
          onNews?.({ relay: peer, state: 'reserved' })
          onTried()
          await abortable(lost(listener), signal)
          this.reserved.delete(peer)
          onNews?.({ relay: peer, state: 'lost' })
        } catch (thrown) {
          if (signal.aborted) return
          onNews?.({ relay: peer, state: 'unavailable', message: messageOf(thrown) })
        }
        onTried()
        await clock.sleep(pauseMs, signal)
        pauseMs = Math.min(relayRetries.lastMs, pauseMs * 2)
      }
    } finally {
      onTried()
      this.reserved.delete(peer)
      await listener.close()
    }
  }
}

/** Resolves when the listener has no address any more. */
function lost(listener: Listener): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (listener.getAddrs().length > 0) return
      listener.removeEventListener('listening', look)
      resolve()
    }
    listener.addEventListener('listening', look)
    look()
  })
}
