/**
 * Knows which messages of a peer were seen, in a few hundred bytes per peer and without trusting any clock. A process
 * draws a random session and counts its messages; like the window of IPsec (RFC 4303 §3.4.3) the guard holds the
 * highest number and which of the 256 below it have come, so messages may overtake each other on parallel streams.
 * A new session takes over from the one before, whose messages are then refused: two processes that share one
 * identity by mistake notice.
 */
import { base16 } from 'multiformats/bases/base16'
import type { PeerId } from './peer-id.ts'

export const replayLimits = {
  /** How far a message may be overtaken. */
  window: 256,
  /** Sessions of a peer that are remembered as past. */
  pastSessions: 8,
  /** More than a run may have members. */
  maxPeers: 16_384,
} as const

interface PeerSessions {
  current: string
  /** One beyond the highest number seen. */
  next: number
  /** Whether number n was seen, at n modulo the window. */
  readonly seen: Uint8Array
  past: string[]
}

export class ReplayGuard {
  private readonly peers = new Map<PeerId, PeerSessions>()

  check(peer: PeerId, session: Uint8Array, sequence: number): 'fresh' | 'replayed' | 'superseded' {
    const name = base16.baseEncode(session)
    const known = this.recall(peer, name)
    if (known.current !== name) {
      if (known.past.includes(name)) return 'superseded'
      known.past = [known.current, ...known.past].slice(0, replayLimits.pastSessions)
      known.current = name
      known.next = 0
      known.seen.fill(0)
    }
    return markSeen(known, sequence) ? 'fresh' : 'replayed'
  }

  private recall(peer: PeerId, session: string): PeerSessions {
    const known = this.peers.get(peer) ?? {
      current: session,
      next: 0,
      seen: new Uint8Array(replayLimits.window),
      past: [],
    }
    // Last in the order of insertion, so that the first is the one longest silent.
    this.peers.delete(peer)
    this.peers.set(peer, known)
    if (this.peers.size > replayLimits.maxPeers) {
      const [oldest] = this.peers.keys()
      this.peers.delete(oldest!)
    }
    return known
  }
}

/** Whether this number is new; if so it counts as seen from now on. */
function markSeen(state: PeerSessions, sequence: number): boolean {
  const { window } = replayLimits
  if (sequence < state.next - window) return false
  if (sequence >= state.next) {
    // Forget the numbers that share a place with those between the old and the new end of the window.
    const first = Math.max(state.next, sequence - window + 1)
    for (let n = first; n <= sequence; n++) state.seen[n % window] = 0
    state.next = sequence + 1
  }
  if (state.seen[sequence % window] === 1) return false
  state.seen[sequence % window] = 1
  return true
}
