/**
 * A network in one process: no sockets, time from a clock that may be virtual, faults drawn from a seed. What one
 * pair of peers meets depends only on the seed and on how often they have spoken, not on what others do meanwhile.
 */
import {
  type Clock,
  GroundswellError,
  type Random,
  type SeedPart,
  seededRandom,
  systemClock,
} from '../core/index.ts'
import { abortable, withDeadline } from './deadline.ts'
import { broken, oversizedReply, stopped, unreachable } from './errors.ts'
import { type Answer, HandlerTable, type OnHandlerError } from './handlers.ts'
import { PeerLedger } from './ledger.ts'
import { type MemoryLink, MemoryLinks } from './memory-links.ts'
import { type PeerId, parsePeerId } from './peer-id.ts'
import {
  type DialOptions,
  errorFrom,
  type Handler,
  type HandlerLimits,
  messageProtocol,
  type ProtocolId,
  type RequestOptions,
  type Transport,
  transportLimits,
} from './transport.ts'

/** What goes wrong, each a probability per request in [0, 1] unless stated. */
export interface MemoryFaults {
  /** The request vanishes: no answer and no error, only the caller's deadline. */
  readonly lose?: number
  /** The connection breaks while the request is sent: the handler never sees it. */
  readonly cutRequest?: number
  /** The connection breaks while the reply is sent: the handler has acted, whoever asked does not know. */
  readonly cutReply?: number
  /** Each direction takes a uniformly drawn time from this range. */
  readonly delayMs?: { readonly min: number; readonly max: number }
}

export interface MemoryNetworkInit {
  readonly seed?: SeedPart
  readonly faults?: MemoryFaults
  readonly clock?: Clock
  /** The line of each peer, asked whenever a message crosses it; without one a message takes no time. */
  readonly linkOf?: (peer: PeerId) => MemoryLink | undefined
}

export interface MemoryTransportInit {
  readonly self: PeerId
  readonly network: MemoryNetwork
  readonly onHandlerError?: OnHandlerError
}

/** Who is there, who is cut off from whom, and what goes wrong on the way. */
export class MemoryNetwork {
  readonly clock: Clock
  readonly links: MemoryLinks | undefined
  private readonly seed: SeedPart
  private readonly members = new Map<PeerId, MemoryTransport>()
  private readonly randoms = new Map<string, Random>()
  private islands = new Map<PeerId, number>()
  /** May be replaced at any time; requests under way keep what they drew. */
  faults: MemoryFaults

  constructor(init: MemoryNetworkInit = {}) {
    this.clock = init.clock ?? systemClock()
    this.links = init.linkOf && new MemoryLinks(this.clock, init.linkOf)
    this.seed = init.seed ?? 0
    this.faults = init.faults ?? {}
  }

  /** Splits the network: peers reach only those in the same group; whoever is in no group forms one more. */
  partition(...groups: readonly (readonly PeerId[])[]): void {
    this.islands = new Map(groups.flatMap((group, i) => group.map((peer) => [peer, i + 1] as const)))
  }

  /** Ends every partition. */
  heal(): void {
    this.islands = new Map()
  }

  enter(transport: MemoryTransport): void {
    if (this.members.has(transport.self)) throw new Error(`${transport.self} is in the network already.`)
    this.members.set(transport.self, transport)
  }

  leave(transport: MemoryTransport): void {
    if (this.members.get(transport.self) === transport) this.members.delete(transport.self)
  }

  /** The peer, unless it has gone or a partition lies between. */
  reach(from: PeerId, to: PeerId): MemoryTransport | undefined {
    const apart = (this.islands.get(from) ?? 0) !== (this.islands.get(to) ?? 0)
    return apart ? undefined : this.members.get(to)
  }

  randomBetween(from: PeerId, to: PeerId): Random {
    const key = `${from} ${to}`
    const random = this.randoms.get(key) ?? seededRandom(this.seed, from, to)
    this.randoms.set(key, random)
    return random
  }
}

/** Joins a network in memory; `/p2p/<PeerId>` is every member's address. */
export function memoryTransport(init: MemoryTransportInit): Transport {
  return new MemoryTransport(init)
}

class MemoryTransport implements Transport {
  readonly self: PeerId
  readonly addresses: readonly string[]
  readonly ledger: PeerLedger = new PeerLedger()
  private readonly network: MemoryNetwork
  private readonly handlers: HandlerTable
  private readonly known = new Set<PeerId>()
  private readonly stopping = new AbortController()

  constructor({ self, network, onHandlerError }: MemoryTransportInit) {
    this.self = self
    this.addresses = [`/p2p/${self}`]
    this.network = network
    this.handlers = new HandlerTable(this.ledger, network.clock, onHandlerError)
    network.enter(this)
  }

  async dial(address: string, options: DialOptions = {}): Promise<PeerId> {
    this.assertRunning()
    const peer = parsePeerId(/\/p2p\/([^/]+)$/.exec(address)?.[1] ?? address)
    const timeoutMs = options.timeoutMs ?? transportLimits.dialTimeoutMs
    const { clock } = this.network
    const deadline = { clock, timeoutMs, signal: options.signal, what: `Dialling ${address}` }
    await withDeadline(deadline, async (signal) => {
      await this.travel(peer, this.network.faults, signal)
      const greeting = { bytes: 0, urgent: true, signal }
      await this.network.links?.cross({ from: this.self, to: peer, ...greeting })
      await this.network.links?.cross({ from: peer, to: this.self, ...greeting })
    })
    const remote = this.network.reach(this.self, peer)
    if (remote === undefined) throw unreachable(peer)
    this.known.add(peer)
    remote.known.add(this.self)
    return peer
  }

  handle(protocol: ProtocolId, handler: Handler, limits?: Partial<HandlerLimits>): void {
    this.handlers.add(protocol, handler, limits)
  }

  async request(
    peer: PeerId,
    protocol: ProtocolId,
    bytes: Uint8Array,
    options: RequestOptions,
  ): Promise<Uint8Array> {
    this.assertRunning()
    const { maxReplyBytes, timeoutMs = transportLimits.requestTimeoutMs } = options
    const signal = AbortSignal.any([this.stopping.signal, ...(options.signal ? [options.signal] : [])])
    const what = `A request to ${peer} (${protocol})`
    const deadline = { clock: this.network.clock, timeoutMs, signal, what }
    try {
      const answer = await withDeadline(deadline, (until, progress) =>
        this.exchange(peer, protocol, bytes, until, { everyMs: timeoutMs / 2, report: progress }),
      )
      if (!answer.ok) {
        throw errorFrom(peer, answer.error)
      }
      if (answer.bytes.byteLength > maxReplyBytes) {
        this.ledger.refused(peer, 'reply-oversized')
        throw oversizedReply(peer, answer.bytes.byteLength, maxReplyBytes)
      }
      this.ledger.received(peer, answer.bytes.byteLength)
      return answer.bytes.slice()
    } catch (thrown) {
      if (thrown instanceof GroundswellError && thrown.code === 'peer/timeout') {
        this.ledger.refused(peer, 'reply-timeout')
      }
      throw thrown
    }
  }

  async stop(): Promise<void> {
    this.network.leave(this)
    this.stopping.abort(stopped())
  }

  /** One request and its answer, with what goes wrong on the way. */
  private async exchange(
    peer: PeerId,
    protocol: ProtocolId,
    bytes: Uint8Array,
    signal: AbortSignal,
    progress: { everyMs: number; report: () => void },
  ): Promise<Answer> {
    if (!this.known.has(peer) || this.network.reach(this.self, peer) === undefined) throw unreachable(peer)
    const random = this.network.randomBetween(this.self, peer)
    const { faults } = this.network
    // Drawn all at once and always, so that changing one probability does not shift the others' luck.
    const [lose, cutRequest, cutReply, cutAt] = [0, 0, 0, 0].map(() => random.nextFloat())

    const urgent = protocol === messageProtocol
    const onTheWay = { urgent, signal, progress }
    await this.travel(peer, faults, signal)
    await this.network.links?.cross({ from: this.self, to: peer, bytes: bytes.byteLength, ...onTheWay })
    if (lose! < (faults.lose ?? 0)) return never(signal)
    if (cutRequest! < (faults.cutRequest ?? 0)) {
      this.ledger.sent(peer, Math.floor(bytes.byteLength * cutAt!))
      throw this.broken(peer)
    }
    const remote = this.network.reach(this.self, peer)
    if (remote === undefined) return never(signal) // cut off on the way: nothing says so
    this.ledger.sent(peer, bytes.byteLength)

    const answer = await remote.serve(this.self, protocol, bytes.slice(), signal)
    if (answer === undefined) throw this.broken(peer)
    await this.travel(peer, faults, signal)
    const replyBytes = answer.ok ? answer.bytes.byteLength : 0
    await this.network.links?.cross({ from: peer, to: this.self, bytes: replyBytes, ...onTheWay })
    if (this.network.reach(this.self, peer) === undefined) return never(signal)
    if (cutReply! < (faults.cutReply ?? 0)) {
      if (answer.ok) this.ledger.received(peer, Math.floor(answer.bytes.byteLength * cutAt!))
      throw this.broken(peer)
    }
    return answer
  }

  /** The serving side; undefined when this peer stopped meanwhile. */
  private async serve(
    from: PeerId,
    protocol: ProtocolId,
    bytes: Uint8Array,
    signal: AbortSignal,
  ): Promise<Answer | undefined> {
    const place = this.handlers.admit(protocol, from)
    if ('code' in place) return { ok: false, error: place }
    try {
      this.ledger.received(from, bytes.byteLength)
      const until = AbortSignal.any([signal, this.stopping.signal])
      const answer = await abortable(this.handlers.answer(protocol, { from, bytes, signal: until }), until)
      if (answer.ok) this.ledger.sent(from, answer.bytes.byteLength)
      return answer
    } catch (thrown) {
      if (this.stopping.signal.aborted) return undefined
      throw thrown
    } finally {
      place[Symbol.dispose]()
    }
  }

  private async travel(peer: PeerId, faults: MemoryFaults, signal: AbortSignal): Promise<void> {
    if (faults.delayMs === undefined) return
    const { min, max } = faults.delayMs
    const share = this.network.randomBetween(this.self, peer).nextFloat()
    await this.network.clock.sleep(min + (max - min) * share, signal)
  }

  private broken(peer: PeerId): GroundswellError {
    this.ledger.refused(peer, 'connection-broken')
    return broken(peer)
  }

  private assertRunning(): void {
    if (this.stopping.signal.aborted) throw stopped()
  }
}

/** Nothing ever comes back: waits for the deadline. */
function never(signal: AbortSignal): Promise<Answer> {
  return abortable(new Promise<Answer>(() => undefined), signal)
}
