/**
 * Whom a peer can reach besides the host: it dials those that a view names, each once at its addresses and in the
 * background, and remembers who answered. The host has everything too, so nothing waits for this longer than it wants to.
 */
import type { PeerId, Transport } from '../swarm/index.ts'
import type { RunView } from './protocol.ts'

const limits = {
  /** Addresses of one peer that are tried, and for how long each. */
  addresses: 3,
  dialTimeoutMs: 1500,
  /** Peers that are remembered; whoever was dialled longest ago is dialled again when it is named again. */
  peers: 1024,
} as const

interface Dialled {
  /** A peer that has been started again listens elsewhere. */
  readonly at: string
  readonly done: Promise<void>
}

export class Introductions {
  private readonly transport: Pick<Transport, 'dial'>
  private readonly dialled = new Map<PeerId, Dialled>()
  private readonly reachable = new Set<PeerId>()

  constructor(transport: Pick<Transport, 'dial'>) {
    this.transport = transport
  }

  introduce(view: RunView, signal: AbortSignal): void {
    for (const { peer, addresses } of view.peers) {
      const at = addresses.join(' ')
      if (this.dialled.get(peer)?.at === at) continue
      this.dialled.delete(peer)
      this.dialled.set(peer, { at, done: this.dial(peer, addresses, signal) })
    }
    for (const peer of this.dialled.keys()) {
      if (this.dialled.size <= limits.peers) break
      this.dialled.delete(peer)
      this.reachable.delete(peer)
    }
  }

  canReach(peer: PeerId): boolean {
    return this.reachable.has(peer)
  }

  /** Waits for the dialling that is under way. */
  async settled(): Promise<void> {
    await Promise.all([...this.dialled.values()].map(({ done }) => done))
  }

  private async dial(peer: PeerId, addresses: readonly string[], signal: AbortSignal): Promise<void> {
    for (const address of addresses.slice(0, limits.addresses)) {
      try {
        const options = { timeoutMs: limits.dialTimeoutMs, signal }
        // The address is the peer's own word: whoever answers there must be that peer.
        if ((await this.transport.dial(address, options)) === peer) this.reachable.add(peer)
        return
      } catch {
        // An address behind a router or of another network; the next one may do, and the host always does.
      }
    }
  }
}
