/**
 * The lines of the network in memory: each peer has an uplink and a downlink that pass one message after another at
 * their rate, and a latency to the middle of the network. A message flows through both at once (cut-through), and a
 * slow sender takes the receiver's downlink only for as long as the receiver needs.
 */
import type { Clock } from '../core/index.ts'
import type { PeerId } from './peer-id.ts'

/** A peer's line; what is not stated costs no time. */
export interface MemoryLink {
  readonly upBytesPerSecond?: number
  readonly downBytesPerSecond?: number
  /** From this peer to the middle of the network: a message takes the sum of both ends'. */
  readonly latencyMs?: number
}

export interface Crossing {
  readonly from: PeerId
  readonly to: PeerId
  readonly bytes: number
  /** Goes between what waits, as small frames do on a multiplexed line; what comes after it waits for both. */
  readonly urgent: boolean
  readonly signal: AbortSignal
  /** Told at least so often while the message is on its way. */
  readonly progress?: { readonly everyMs: number; readonly report: () => void }
}

type Direction = 'up' | 'down'

export class MemoryLinks {
  private readonly clock: Clock
  private readonly linkOf: (peer: PeerId) => MemoryLink | undefined
  /** When the line has passed all that was given to it. */
  private readonly freeAt = new Map<string, number>()

  constructor(clock: Clock, linkOf: (peer: PeerId) => MemoryLink | undefined) {
    this.clock = clock
    this.linkOf = linkOf
  }

  /** Resolves when the last byte has arrived. */
  async cross(crossing: Crossing): Promise<void> {
    const { from, to } = crossing
    const [sender, receiver] = [this.linkOf(from), this.linkOf(to)]
    if (sender === undefined && receiver === undefined) return
    const latencyMs = (sender?.latencyMs ?? 0) + (receiver?.latencyMs ?? 0)
    const up = this.occupy(from, 'up', sender?.upBytesPerSecond, crossing)
    await this.until(up.startAt + latencyMs, crossing)
    const down = this.occupy(to, 'down', receiver?.downBytesPerSecond, crossing)
    await this.until(Math.max(down.endAt, up.endAt + latencyMs), crossing)
  }

  private occupy(
    peer: PeerId,
    direction: Direction,
    bytesPerSecond: number | undefined,
    { bytes, urgent }: Crossing,
  ): { startAt: number; endAt: number } {
    const now = this.clock.now()
    if (bytesPerSecond === undefined) return { startAt: now, endAt: now }
    const key = `${direction} ${peer}`
    const freeAt = Math.max(now, this.freeAt.get(key) ?? now)
    const neededMs = (bytes / bytesPerSecond) * 1000
    this.freeAt.set(key, freeAt + neededMs)
    const startAt = urgent ? now : freeAt
    return { startAt, endAt: startAt + neededMs }
  }

  private async until(at: number, { signal, progress }: Crossing): Promise<void> {
    for (let leftMs = at - this.clock.now(); leftMs > 0; leftMs = at - this.clock.now()) {
      await this.clock.sleep(Math.min(leftMs, progress?.everyMs ?? leftMs), signal)
      progress?.report()
    }
  }
}
