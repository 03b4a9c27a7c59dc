/**
 * What a fetch knows of each source: how fast it proved to be, how much may be asked of it at a time, and whether it
 * may be asked now. Speed is measured, as what a peer says of itself may be wrong.
 */
import type { Cid } from '../core/index.ts'
import type { PeerId } from './peer-id.ts'

/** Why a source was not used any more, or did not give a blob. */
export interface SourceFailure {
  readonly peer: PeerId
  readonly cid: Cid
  readonly reason: 'wrong-hash' | 'oversized' | 'timeout' | 'broken' | 'missing' | 'refused' | 'malformed'
  readonly message: string
}

export const sourceLimits = {
  /** Chunks asked of a source at first; each that comes allows one more, each refusal for being busy halves it. */
  firstWindow: 12,
  /** Below what a peer serves to one other (`fetchLimits.servedPerPeer`), as those called off count there for a while. */
  mostWindow: 24,
  /** Until a source has given something, when there are others. */
  unprovenWindow: 8,
  /** No more is asked of a source than it gives in this time at its measured speed: alone, and beside others. */
  aloneMs: 15_000,
  besideMs: 5000,
  /** Breaks in a row before a source counts as lost. */
  maxBreaks: 3,
  firstRestMs: 50,
  /** A lost source is asked again after this, doubling, as long as others carry on. */
  lostRestMs: 2000,
  longestRestMs: 60_000,
  maxBusy: 20,
  /** What is smaller says more of the round trip than of the speed. */
  leastMeasuredBytes: 65_536,
} as const

export class Source {
  readonly peer: PeerId
  underWay = 0
  receivedBytes = 0
  /** Lied, or gave what is no reply: never asked again. */
  banned = false
  /** Blobs that it does not have. */
  readonly lacks: Set<Cid> = new Set()
  private window: number = sourceLimits.firstWindow
  /** Bytes per second when several are under way; undefined until measured. */
  private speed: number | undefined
  private breaks = 0
  private busy = 0
  private restUntil = 0
  private failedAt = Number.NEGATIVE_INFINITY

  constructor(peer: PeerId) {
    this.peer = peer
  }

  /** Tried so often in vain that it is no reason to go on. */
  get lost(): boolean {
    return this.banned || this.breaks > sourceLimits.maxBreaks
  }

  get proven(): boolean {
    return this.speed !== undefined
  }

  restMs(now: number): number {
    return Math.max(0, this.restUntil - now)
  }

  hasRoom(sizeBytes: number, alone: boolean): boolean {
    const { unprovenWindow, aloneMs, besideMs } = sourceLimits
    const most = alone || this.proven ? this.window : unprovenWindow
    if (this.speed === undefined) return this.underWay < most
    const fitting = (this.speed * (alone ? aloneMs : besideMs)) / 1000 / sizeBytes
    return this.underWay < Math.max(1, Math.min(most, fitting))
  }

  /** Milliseconds in which one more of this size would be here; 0 for a source yet to be measured. */
  expectedMs(sizeBytes: number, ahead: number = this.underWay): number {
    return this.speed === undefined ? 0 : ((ahead + 1) * sizeBytes * 1000) / this.speed
  }

  /** A blob came that was asked for `tookMs` ago. */
  gave(bytes: number, tookMs: number): void {
    if (bytes >= sourceLimits.leastMeasuredBytes) {
      const sample = (bytes * this.underWay * 1000) / Math.max(1, tookMs)
      this.speed = this.speed === undefined ? sample : 0.7 * this.speed + 0.3 * sample
    }
    this.receivedBytes += bytes
    this.window = Math.min(sourceLimits.mostWindow, this.window + 1)
    this.breaks = this.busy = 0
  }

  /** It has too much to do; false when that has been so for too long. */
  wasBusy(now: number): boolean {
    this.window = Math.max(1, Math.floor(this.window / 2))
    this.restUntil = Math.max(this.restUntil, now + Math.min(1000, 25 * 2 ** this.busy))
    return ++this.busy <= sourceLimits.maxBusy
  }

  /** A request failed that was made at `askedAt`; those that broke together count once. */
  failed(reason: SourceFailure['reason'], askedAt: number, now: number): void {
    if (reason === 'missing') return
    if (reason === 'wrong-hash' || reason === 'oversized' || reason === 'malformed') {
      this.banned = true
      return
    }
    if (askedAt <= this.failedAt) return
    this.failedAt = now
    this.breaks = reason === 'broken' ? this.breaks + 1 : Math.max(this.breaks, sourceLimits.maxBreaks) + 1
    const { maxBreaks, firstRestMs, lostRestMs, longestRestMs } = sourceLimits
    const doubled = this.lost
      ? lostRestMs * 2 ** (this.breaks - maxBreaks - 1)
      : firstRestMs * 2 ** (this.breaks - 1)
    this.restUntil = now + Math.min(longestRestMs, doubled)
  }

  /** Hears that time has passed in which things may have changed. */
  reconsider(): void {
    if (this.banned) return
    this.lacks.clear()
    this.breaks = Math.min(this.breaks, sourceLimits.maxBreaks)
  }
}
