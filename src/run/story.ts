/** For tests: a run told event by event, with peers and names of content that need no keys. */
import { expect } from 'vitest'
import { type Cid, cidOfDigest } from '../core/index.ts'
import { type PeerId, peerIdOf } from '../swarm/index.ts'
import type { RunEvent } from './events.ts'
import type { RoundPolicy } from './policy.ts'
import { createRun, type Effect, type Step, step } from './reducer.ts'
import type { Lease, Member, RunState } from './state.ts'

/** A name of content for each number. */
export function cid(n: number): Cid {
  const digest = new Uint8Array(32)
  new DataView(digest.buffer).setUint32(0, n)
  return cidOfDigest(digest, 'dag-cbor')
}

/** A peer for each number. */
export function peerNumber(n: number): PeerId {
  const key = new Uint8Array(32).fill(1)
  new DataView(key.buffer).setUint32(0, n)
  return peerIdOf(key)
}

export const ada: PeerId = peerNumber(1)
export const ben: PeerId = peerNumber(2)
export const cleo: PeerId = peerNumber(3)
export const dora: PeerId = peerNumber(4)
export const emil: PeerId = peerNumber(5)

export const storyPolicy: RoundPolicy = {
  rounds: 3,
  minimumPeers: 2,
  maximumPeers: 5,
  warmupMs: 10_000,
  quorum: 0.5,
  graceMs: 1000,
  maxRoundMs: 60_000,
  vanishAfterMs: 5000,
  maximumStaleness: 1,
  maximumSpeedup: 4,
  rewarmSteps: 20,
  maximumStrikes: 3,
  expulsionRounds: 2,
  maximumNormFactor: 10,
}

type Created = Extract<RunEvent, { type: 'created' }>

/** Ten inner steps a round, 64 tokens a batch. */
export const created: Created = {
  type: 'created',
  atMs: 0,
  runId: cid(1),
  policy: storyPolicy,
  innerSteps: 10,
  batchTokens: 64,
  checkpoint: cid(2),
  seed: 'dice',
}

/** What one thing after another makes of a run; every event must be legal. Time stands still unless it is said. */
export class Story {
  state: RunState
  readonly events: RunEvent[]
  /** Of the newest event. */
  effects: readonly Effect[] = []
  private updates = 1000

  constructor(policy: Partial<RoundPolicy> = {}) {
    const first: Created = { ...created, policy: { ...storyPolicy, ...policy } }
    this.events = [first]
    this.state = createRun(first)
  }

  try(event: RunEvent): Step {
    const result = step(this.state, event)
    if (result.refusal === undefined) {
      this.state = result.state
      this.events.push(event)
      this.effects = result.effects
    }
    return result
  }

  next(event: RunEvent): this {
    expect(this.try(event).refusal).toBeUndefined()
    return this
  }

  /** Lets run time pass; it shows with the next event. */
  at(atMs: number): this {
    this.atMs = atMs
    return this
  }
  private atMs = 1

  come(peer: PeerId): this {
    return this.next({ type: 'joined', atMs: this.atMs, peer, name: '', addresses: [] })
  }

  ready(peer: PeerId, stepsPerSecond: number | null = null): this {
    return this.next({ type: 'ready', atMs: this.atMs, peer, stepsPerSecond })
  }

  join(...peers: PeerId[]): this {
    for (const peer of peers) this.come(peer).ready(peer)
    return this
  }

  leave(peer: PeerId): this {
    return this.next({ type: 'left', atMs: this.atMs, peer })
  }

  vanish(peer: PeerId): this {
    return this.next({ type: 'vanished', atMs: this.atMs, peer })
  }

  /** An update of the peer's whole lease, unless something else is said. */
  contributed(
    peer: PeerId,
    change: Partial<Extract<RunEvent, { type: 'contributed' }>> = {},
  ): Extract<RunEvent, { type: 'contributed' }> {
    const lease = this.state.members.get(peer)?.lease
    return {
      type: 'contributed',
      atMs: this.atMs,
      peer,
      round: lease?.round ?? this.state.round,
      update: cid(this.updates++),
      steps: lease?.steps ?? 1,
      loss: 2,
      bytes: 100,
      norm: 1,
      report: new Uint8Array(1),
      ...change,
    }
  }

  contribute(...peers: PeerId[]): this {
    for (const peer of peers) this.next(this.contributed(peer))
    return this
  }

  reject(peer: PeerId, reason = 'It is not finite.'): this {
    const { atMs, round, update, report } = this.contributed(peer)
    return this.next({ type: 'rejected', atMs, peer, round, update, code: 'sync/invalid', reason, report })
  }

  merge(checkpoint: Cid = cid(1_000_000 + this.state.round)): this {
    return this.next({ type: 'checkpointed', atMs: this.atMs, round: this.state.round, checkpoint })
  }

  tick(): this {
    return this.next({ type: 'ticked', atMs: this.atMs })
  }

  member(peer: PeerId): Member {
    return this.state.members.get(peer)!
  }

  lease(peer: PeerId): Lease {
    return this.member(peer).lease!
  }
}
