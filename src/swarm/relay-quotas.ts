/**
 * What a relay lets each peer use: bytes in a rolling window, bytes per second, reservations and circuits. Both ends
 * of a circuit are charged for all that passes it, so that what a relay carries in a window is bounded by the number
 * of its reservations, however many identities dial them.
 */
import type { Clock } from '../core/index.ts'
import type { PeerId } from './peer-id.ts'
import { TokenBucket } from './token-bucket.ts'

export interface RelayQuotas {
  /** Of one peer in one window, both directions together. */
  readonly bytesPerPeer: number
  readonly windowMs: number
  /** Of one peer, all its circuits together. */
  readonly bytesPerSecondPerPeer: number
  /** Peers that can be reached through this relay. */
  readonly maxReservations: number
  /** A reservation that is not renewed ends after this long; so does one whose peer has gone. */
  readonly reservationMs: number
  /** Circuits that one peer may have opened. */
  readonly maxCircuitsPerPeer: number
  /** Circuits through which one peer is reached. */
  readonly maxCircuitsToPeer: number
  /** Peers whose use is remembered; the longest inactive without a circuit is forgotten. */
  readonly maxPeers: number
}

export const relayQuotas: RelayQuotas = {
  bytesPerPeer: 64 * 2 ** 30,
  windowMs: 24 * 3_600_000,
  bytesPerSecondPerPeer: 64 * 2 ** 20,
  maxReservations: 1024,
  reservationMs: 1_800_000,
  maxCircuitsPerPeer: 32,
  maxCircuitsToPeer: 256,
  maxPeers: 4096,
}

export type RelayRefusal =
  /** The bytes of a peer's window were used up: a circuit was closed, or none opened. */
  'quota-used-up' | 'too-many-circuits' | 'too-many-reservations'

/** The window moves on by this many parts. */
const windowParts = 24

/** A sum over the last `windowMs`, exact to a twenty-fourth of it. */
export class RollingSum {
  private readonly parts = new Float64Array(windowParts)
  private readonly partMs: number
  private readonly clock: Clock
  private newest: number

  constructor(windowMs: number, clock: Clock) {
    this.partMs = windowMs / windowParts
    this.clock = clock
    this.newest = this.partNow()
  }

  add(amount: number): void {
    this.moveOn()
    this.parts[this.newest % windowParts]! += amount
  }

  total(): number {
    this.moveOn()
    return this.parts.reduce((sum, part) => sum + part, 0)
  }

  private partNow(): number {
    return Math.floor(this.clock.now() / this.partMs)
  }

  private moveOn(): void {
    const now = this.partNow()
    // A clock that is set back keeps what was counted.
    const passed = Math.min(windowParts, Math.max(0, now - this.newest))
    for (let i = 0; i < passed; i++) this.parts[(now - i) % windowParts] = 0
    this.newest = Math.max(now, this.newest)
  }
}

interface Use {
  readonly bytes: RollingSum
  readonly rate: TokenBucket
  opened: number
  reached: number
}

export class RelayAccounts {
  readonly quotas: RelayQuotas
  readonly refusals: Partial<Record<RelayRefusal, number>> = {}
  relayedBytes = 0
  private readonly clock: Clock
  private readonly uses = new Map<PeerId, Use>()

  constructor(quotas: RelayQuotas, clock: Clock) {
    this.quotas = quotas
    this.clock = clock
  }

  refused(reason: RelayRefusal): void {
    this.refusals[reason] = (this.refusals[reason] ?? 0) + 1
  }

  usedUp(peer: PeerId): boolean {
    return (this.uses.get(peer)?.bytes.total() ?? 0) >= this.quotas.bytesPerPeer
  }

  /** Why a circuit may not be opened; undefined if it may. */
  objection(from: PeerId, to: PeerId): RelayRefusal | undefined {
    if (this.usedUp(from) || this.usedUp(to)) return 'quota-used-up'
    const { maxCircuitsPerPeer, maxCircuitsToPeer } = this.quotas
    const most = (this.uses.get(from)?.opened ?? 0) >= maxCircuitsPerPeer
    return most || (this.uses.get(to)?.reached ?? 0) >= maxCircuitsToPeer ? 'too-many-circuits' : undefined
  }

  /** Takes the places of a circuit, to be disposed of when it has ended. */
  open(from: PeerId, to: PeerId): Disposable {
    this.useOf(from).opened += 1
    this.useOf(to).reached += 1
    return {
      [Symbol.dispose]: () => {
        this.useOf(from).opened -= 1
        this.useOf(to).reached -= 1
      },
    }
  }

  /** Counts what passed a circuit; the milliseconds that it must now rest to keep to the rate. */
  passed(bytes: number, ends: readonly PeerId[]): number {
    this.relayedBytes += bytes
    let restMs = 0
    for (const peer of ends) {
      const use = this.useOf(peer)
      use.bytes.add(bytes)
      use.rate.spend(bytes)
      restMs = Math.max(restMs, use.rate.debtMs())
    }
    return restMs
  }

  byPeer(): Map<PeerId, { readonly bytes: number; readonly circuits: number }> {
    return new Map(
      [...this.uses].map(([peer, { bytes, opened, reached }]) => [
        peer,
        { bytes: bytes.total(), circuits: opened + reached },
      ]),
    )
  }

  private useOf(peer: PeerId): Use {
    const { windowMs, bytesPerSecondPerPeer, maxPeers } = this.quotas
    const use = this.uses.get(peer) ?? {
      bytes: new RollingSum(windowMs, this.clock),
      rate: new TokenBucket({
        bytesPerSecond: bytesPerSecondPerPeer,
        maxDebtBytes: Number.POSITIVE_INFINITY,
        clock: this.clock,
      }),
      opened: 0,
      reached: 0,
    }
    this.uses.delete(peer) // the longest inactive stands first
    this.uses.set(peer, use)
    if (this.uses.size > maxPeers) {
      for (const [other, { opened, reached }] of this.uses) {
        if (other === peer || opened + reached > 0) continue
        this.uses.delete(other)
        break
      }
    }
    return use
  }
}
