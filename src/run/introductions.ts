/**
 * Whom a peer can reach besides the host: it dials those that a view names, each once and in the background, and
 * remembers who answered. The host has everything too, so nothing waits for this longer than it wants to.
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

export class Introductions {
  private readonly transport: Transport
  private readonly dialled = new Map<PeerId, Promise<void>>()
  private readonly reachable = new Set<PeerId>()

  constructor(transport: Transport) {
    this.transport = transport
  }

  introduce(view: RunView, signal: AbortSignal): void {
    for (const { peer, addresses } of view.peers) {
      if (!this.dialled.has(peer)) this.dialled.set(peer, this.dial(peer, addresses, signal))
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
    await Promise.all(this.dialled.values())
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
