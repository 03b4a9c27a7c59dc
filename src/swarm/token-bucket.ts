/**
 * A rate in bytes per second as a bucket of tokens (the leaky bucket as a meter of ITU-T I.371, also RFC 2697): it
 * fills at the rate up to its burst, and whoever wants to move bytes takes as many tokens first, in order of arrival.
 * Over any window of t seconds no more than `rate · t + max(burst, largest take)` bytes are let through.
 */
import type { Clock } from '../core/index.ts'

export interface TokenBucketInit {
  readonly bytesPerSecond: number
  /** What may go at once after a pause; a quarter of a second's worth, and at least 64 KiB, unless stated. */
  readonly burstBytes?: number
  /** How far `spend` may go below nothing: one burst unless stated, so that who waits is not starved by it. */
  readonly maxDebtBytes?: number
  readonly clock: Clock
}

const leastBurstBytes = 64 * 1024

interface Waiter {
  readonly bytes: number
  readonly grant: () => void
}

export class TokenBucket {
  readonly bytesPerSecond: number
  readonly burstBytes: number
  private readonly maxDebtBytes: number
  private readonly clock: Clock
  private readonly queue: Waiter[] = []
  /** Negative after a take beyond the burst, or after bytes that could not wait. */
  private level: number
  private filledAt: number
  private sleeping: AbortController | undefined
  private granting = false

  /** @throws RangeError for a rate that is not above 0 */
  constructor({ bytesPerSecond, burstBytes, maxDebtBytes, clock }: TokenBucketInit) {
    if (!(bytesPerSecond > 0))
      throw new RangeError(`A rate of ${bytesPerSecond} bytes/s lets nothing through.`)
    this.bytesPerSecond = bytesPerSecond
    this.burstBytes = burstBytes ?? Math.max(leastBurstBytes, bytesPerSecond / 4)
    this.maxDebtBytes = maxDebtBytes ?? this.burstBytes
    this.clock = clock
    this.level = this.burstBytes
    this.filledAt = clock.now()
  }

  /** Callers that wait. */
  get waiting(): number {
    return this.queue.length
  }

  /**
   * Resolves when it is this caller's turn and the bytes may move; rejects with the signal's reason. More than the
   * burst is granted when the bucket is full, and paid off before anybody else's turn.
   */
  take(bytes: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const waiter: Waiter = {
        bytes,
        grant: () => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        },
      }
      const onAbort = (): void => {
        this.queue.splice(this.queue.indexOf(waiter), 1)
        this.sleeping?.abort() // the next may want less
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.queue.push(waiter)
      void this.grantInTurn()
    })
  }

  /** Counts bytes that move without waiting. */
  spend(bytes: number): void {
    this.fill()
    this.level = Math.min(this.level, Math.max(this.level - bytes, -this.maxDebtBytes))
  }

  /** Returns tokens that were taken for bytes that did not come. */
  giveBack(bytes: number): void {
    this.fill()
    this.level = Math.min(this.burstBytes, this.level + bytes)
    this.sleeping?.abort()
  }

  /** Milliseconds until the debt is paid off; 0 without one. */
  debtMs(): number {
    this.fill()
    return this.level >= 0 ? 0 : (-this.level / this.bytesPerSecond) * 1000
  }

  private fill(): void {
    const now = this.clock.now()
    const elapsedMs = Math.max(0, now - this.filledAt) // a clock may be set back
    this.level = Math.min(this.burstBytes, this.level + (elapsedMs / 1000) * this.bytesPerSecond)
    this.filledAt = now
  }

  private async grantInTurn(): Promise<void> {
    if (this.granting) return
    this.granting = true
    for (let next = this.queue[0]; next !== undefined; next = this.queue[0]) {
      this.fill()
      const missing = Math.min(next.bytes, this.burstBytes) - this.level
      if (missing <= 1e-6) {
        this.level -= next.bytes
        this.queue.shift()
        next.grant()
        continue
      }
      this.sleeping = new AbortController()
      const waitMs = Math.ceil((missing / this.bytesPerSecond) * 1000)
      await this.clock.sleep(waitMs, this.sleeping.signal).catch(() => undefined) // woken early: looks again
      this.sleeping = undefined
    }
    this.granting = false
  }
}
