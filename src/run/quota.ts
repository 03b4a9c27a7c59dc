/**
 * How many messages the host answers: a token bucket for each member, one for all strangers together. Filled by the
 * steady clock, so that no jump of the wall clock opens or closes it.
 */
import type { Clock } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'

export interface QuotaRate {
  readonly perSecond: number
  readonly burst: number
}

export const quotaLimits: { readonly member: QuotaRate; readonly strangers: QuotaRate } = {
  member: { perSecond: 20, burst: 64 },
  strangers: { perSecond: 200, burst: 400 },
}

interface Bucket {
  tokens: number
  filledAtMs: number
}

export class MessageQuota {
  private readonly clock: Clock
  private readonly buckets = new Map<PeerId, Bucket>()
  private readonly strangers: Bucket

  constructor(clock: Clock) {
    this.clock = clock
    this.strangers = { tokens: quotaLimits.strangers.burst, filledAtMs: clock.steady() }
  }

  /** Takes one message's place; false when there is none. */
  admit(peer: PeerId, known: boolean): boolean {
    if (!known) return this.take(this.strangers, quotaLimits.strangers)
    let bucket = this.buckets.get(peer)
    if (bucket === undefined) {
      bucket = { tokens: quotaLimits.member.burst, filledAtMs: this.clock.steady() }
      this.buckets.set(peer, bucket)
    }
    return this.take(bucket, quotaLimits.member)
  }

  /** Forgets peers that are not known any more. */
  retain(isKnown: (peer: PeerId) => boolean): void {
    for (const peer of this.buckets.keys()) if (!isKnown(peer)) this.buckets.delete(peer)
  }

  private take(bucket: Bucket, { perSecond, burst }: QuotaRate): boolean {
    const nowMs = this.clock.steady()
    bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.filledAtMs) * perSecond) / 1000)
    bucket.filledAtMs = nowMs
    if (bucket.tokens < 1) return false
    bucket.tokens -= 1
    return true
  }
}
