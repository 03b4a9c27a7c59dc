/**
 * How much a host does for others: messages that it answers, joins that it writes down, and questions that cost it
 * more than a moment. Token buckets of single peers, and one for all strangers together, as identities are free. Filled
 * by the steady clock, so that no jump of the wall clock opens or closes one.
 */
import type { Clock } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'

export interface QuotaRate {
  readonly perSecond: number
  readonly burst: number
}

export const quotaLimits: {
  readonly member: QuotaRate
  readonly strangers: QuotaRate
  readonly joins: QuotaRate
  readonly questions: QuotaRate
} = {
  member: { perSecond: 20, burst: 64 },
  strangers: { perSecond: 200, burst: 400 },
  /** Of one identity. Each is an entry of the log, and so is what it brings: a `ready`, and its going. */
  joins: { perSecond: 0.1, burst: 8 },
  /** In whole pages of the ledger, of which one takes a host some 60 ms; of all strangers, and of all others. */
  questions: { perSecond: 2, burst: 8 },
}

/** Joins of all who have not contributed yet: as many as the run has room for at once, and again within minutes. */
export function newcomersRate(maximumPeers: number): QuotaRate {
  return { perSecond: Math.max(1, maximumPeers / 256), burst: Math.max(64, maximumPeers) }
}

class Bucket {
  private readonly clock: Clock
  private tokens: number
  private filledAtMs: number

  constructor(clock: Clock, { burst }: QuotaRate) {
    this.clock = clock
    this.tokens = burst
    this.filledAtMs = clock.steady()
  }

  /** What is in it now. */
  fill({ perSecond, burst }: QuotaRate): number {
    const nowMs = this.clock.steady()
    this.tokens = Math.min(burst, this.tokens + ((nowMs - this.filledAtMs) * perSecond) / 1000)
    this.filledAtMs = nowMs
    return this.tokens
  }

  take(rate: QuotaRate, cost = 1): boolean {
    if (this.fill(rate) < cost) return false
    this.tokens -= cost
    return true
  }

  giveBack(cost = 1): void {
    this.tokens += cost
  }
}

export class MessageQuota {
  private readonly clock: Clock
  private readonly buckets = new Map<PeerId, Bucket>()
  private readonly strangers: Bucket

  constructor(clock: Clock) {
    this.clock = clock
    this.strangers = new Bucket(clock, quotaLimits.strangers)
  }

  /** Takes one message's place; false when there is none. */
  admit(peer: PeerId, known: boolean): boolean {
    if (!known) return this.strangers.take(quotaLimits.strangers)
    let bucket = this.buckets.get(peer)
    if (bucket === undefined) {
      bucket = new Bucket(this.clock, quotaLimits.member)
      this.buckets.set(peer, bucket)
    }
    return bucket.take(quotaLimits.member)
  }

  /** Forgets peers that are not known any more. */
  retain(isKnown: (peer: PeerId) => boolean): void {
    for (const peer of this.buckets.keys()) if (!isKnown(peer)) this.buckets.delete(peer)
  }
}

/**
 * Who leaves without a trace is a stranger again, so what an identity has used up is kept here until its bucket would
 * be full again, and no longer: the table is as bounded as the joins are.
 */
export class JoinQuota {
  private readonly clock: Clock
  private readonly maximumPeers: () => number
  /** Those who used theirs longest ago come first. */
  private readonly own = new Map<PeerId, Bucket>()
  private readonly newcomers: Bucket

  constructor(clock: Clock, maximumPeers: () => number) {
    this.clock = clock
    this.maximumPeers = maximumPeers
    this.newcomers = new Bucket(clock, newcomersRate(maximumPeers()))
  }

  /** Identities of which something is kept. */
  get size(): number {
    return this.own.size
  }

  /** Takes a join's place; false when there is none. Who has `contributed` needs none of the newcomers'. */
  take(peer: PeerId, contributed: boolean): boolean {
    this.forgetTheFull()
    const { joins } = quotaLimits
    const own = this.own.get(peer) ?? new Bucket(this.clock, joins)
    if (own.fill(joins) < 1) return false
    if (!contributed && !this.newcomers.take(newcomersRate(this.maximumPeers()))) return false
    own.take(joins)
    this.own.delete(peer)
    this.own.set(peer, own)
    return true
  }

  /** For a join that was refused, so that nothing was written. */
  giveBack(peer: PeerId, contributed: boolean): void {
    this.own.get(peer)?.giveBack()
    if (!contributed) this.newcomers.giveBack()
  }

  private forgetTheFull(): void {
    for (const [peer, bucket] of this.own) {
      if (bucket.fill(quotaLimits.joins) < quotaLimits.joins.burst) return
      this.own.delete(peer)
    }
  }
}

/** Questions that cost a host more than a moment, counted by what they cost; of each peer one at a time. */
export class QuestionQuota {
  private readonly strangers: Bucket
  private readonly others: Bucket
  private readonly underWay = new Set<PeerId>()

  constructor(clock: Clock) {
    this.strangers = new Bucket(clock, quotaLimits.questions)
    this.others = new Bucket(clock, quotaLimits.questions)
  }

  /** Takes the place of a question that costs so much at most, to be settled when it is answered; undefined when there is none. */
  take(
    peer: PeerId,
    isStranger: boolean,
    most: number,
  ): { readonly settle: (cost: number) => void } | undefined {
    const bucket = isStranger ? this.strangers : this.others
    if (this.underWay.has(peer) || !bucket.take(quotaLimits.questions, most)) return undefined
    this.underWay.add(peer)
    return {
      settle: (cost) => {
        this.underWay.delete(peer)
        bucket.giveBack(most - cost)
      },
    }
  }
}
