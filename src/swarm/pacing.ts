/**
 * A contributor's cap on what a transport sends and receives. Up: every frame takes its tokens before it goes. Down:
 * whoever asks takes the tokens of the longest reply before asking and returns what did not come, so that a slow line
 * is never filled and no stream has to be paused (a paused yamux stream may be reset). Control messages are counted
 * and never wait: a heartbeat behind a checkpoint would come too late.
 */
import type { Clock } from '../core/index.ts'
import { TokenBucket } from './token-bucket.ts'
import { messageProtocol, type ProtocolId } from './transport.ts'

export interface RateCaps {
  /** Of all that is sent on streams, to all peers together. Unlimited unless stated. */
  readonly upBytesPerSecond?: number
  /** Of all that is received. Unlimited unless stated. */
  readonly downBytesPerSecond?: number
}

/** How replies are cut into frames and when each may go. */
export interface Pace {
  readonly frameBytes: number
  readonly take: (bytes: number, signal: AbortSignal) => Promise<void>
}

export const pacingLimits: Readonly<
  Record<'maxFrameBytes' | 'minFrameBytes' | 'framesPerSecond' | 'backlogMs', number>
> = {
  maxFrameBytes: 64 * 1024,
  /** Frames become this small at low rates, so that side by side each reply moves on within its reader's patience. */
  minFrameBytes: 4 * 1024,
  framesPerSecond: 16,
  /** Replies that would have to wait longer than this for the cap are refused with `peer/busy`. */
  backlogMs: 15_000,
}

export class Pacer {
  private readonly up: TokenBucket | undefined
  private readonly down: TokenBucket | undefined
  private readonly pace: Pace | undefined
  private backlogBytes = 0

  constructor({ upBytesPerSecond, downBytesPerSecond }: RateCaps, clock: Clock) {
    if (upBytesPerSecond !== undefined) {
      const up = new TokenBucket({ bytesPerSecond: upBytesPerSecond, clock })
      const { minFrameBytes, maxFrameBytes, framesPerSecond } = pacingLimits
      const frameBytes = Math.floor(upBytesPerSecond / framesPerSecond)
      this.up = up
      this.pace = {
        frameBytes: Math.max(minFrameBytes, Math.min(maxFrameBytes, frameBytes)),
        take: (bytes, signal) => up.take(bytes, signal),
      }
    }
    if (downBytesPerSecond !== undefined) {
      this.down = new TokenBucket({ bytesPerSecond: downBytesPerSecond, clock })
    }
  }

  /** The pace of what is sent for a protocol; undefined where nothing waits. */
  paceOf(protocol: ProtocolId): Pace | undefined {
    return protocol === messageProtocol ? undefined : this.pace
  }

  /** Bytes went out on a protocol; those that had a pace are counted already. */
  sent(protocol: ProtocolId, bytes: number): void {
    if (this.paceOf(protocol) === undefined) this.up?.spend(bytes)
  }

  /** Bytes came that were not reserved: requests of others, and control messages. */
  received(bytes: number): void {
    this.down?.spend(bytes)
  }

  /** Waits until a reply of so many bytes may come; dispose of it with what came in fact. */
  async reserve(protocol: ProtocolId, maxReplyBytes: number, signal: AbortSignal): Promise<Reservation> {
    const { down } = this
    if (down === undefined) return noReservation
    if (protocol === messageProtocol) return { settle: (bytes) => down.spend(bytes) }
    await down.take(maxReplyBytes, signal)
    return {
      settle: (bytes) => {
        if (bytes < maxReplyBytes) down.giveBack(maxReplyBytes - bytes)
        else down.spend(bytes - maxReplyBytes)
      },
    }
  }

  /** Takes a place in the line for a reply, to be disposed of when it is sent; undefined when the line is too long. */
  admit(protocol: ProtocolId, bytes: number): Disposable | undefined {
    if (this.up === undefined || this.paceOf(protocol) === undefined)
      return { [Symbol.dispose]: () => undefined }
    const mostBytes = (pacingLimits.backlogMs / 1000) * this.up.bytesPerSecond
    if (this.backlogBytes > 0 && this.backlogBytes + bytes > mostBytes) return undefined
    this.backlogBytes += bytes
    return {
      [Symbol.dispose]: () => {
        this.backlogBytes -= bytes
      },
    }
  }
}

export interface Reservation {
  /** Says how many bytes came. */
  readonly settle: (bytes: number) => void
}

const noReservation: Reservation = { settle: () => undefined }
