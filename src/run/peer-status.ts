/** What a peer tells whoever lends the machine: what happens to it, how it stands, and how it ended. */
import type { Manifest } from './manifest.ts'
import type { CheckpointName, PeerPhase } from './protocol.ts'
import type { ReplicaEvent } from './replica.ts'
import type { Verdict } from './state.ts'

export type PeerEvent =
  | { readonly type: 'phase'; readonly phase: PeerPhase; readonly why: string }
  | { readonly type: 'joined'; readonly manifest: Manifest }
  | { readonly type: 'measured'; readonly stepsPerSecond: number | null }
  | { readonly type: 'leased'; readonly round: number; readonly steps: number }
  | { readonly type: 'step'; readonly round: number; readonly step: number; readonly loss: number }
  /** `round` is that of the lease, `countedIn` a later one when it came late. */
  | {
      readonly type: 'accepted'
      readonly round: number
      readonly countedIn: number
      readonly steps: number
      readonly tokens: number
    }
  | {
      readonly type: 'refused'
      readonly round: number
      readonly code: string
      readonly message: string
      readonly remedy: string
    }
  /** The lease was taken back before this peer was done with it. */
  | { readonly type: 'missed'; readonly round: number; readonly why: string }
  | {
      readonly type: 'expelled'
      readonly untilRound: number
      readonly reason: string
      readonly remedy: string
    }
  | { readonly type: 'reconnecting'; readonly attempt: number; readonly why: string }
  | ReplicaEvent

/** What a contributor always sees. */
export interface PeerStatus {
  readonly phase: PeerPhase
  /** Why it is not training, in words. */
  readonly why: string
  readonly round: number
  readonly lastRound: number
  /** Inner steps done of its lease, and those of the lease; 0 without one. */
  readonly step: number
  readonly leaseSteps: number
  /** Of the median peer. */
  readonly innerSteps: number
  readonly loss: number | null
  readonly tokensPerSecond: number | null
  /** As the host measured it, or else this peer itself. */
  readonly stepsPerSecond: number | null
  /** Its part of all accepted tokens, from 0 to 1. */
  readonly share: number
  readonly contributions: number
  /** Round that counted its last accepted contribution; 0 when there is none. */
  readonly lastAccepted: number
  /** What became of its newest finished lease, and what can be done about it. */
  readonly lastVerdict: (Verdict & { readonly remedy: string }) | null
  readonly checkpoint: CheckpointName | null
  readonly sentBytes: number
  readonly receivedBytes: number
}

export interface PeerResult {
  /** `left`: the signal was aborted. */
  readonly reason: 'finished' | 'left'
  readonly status: PeerStatus
  /** The newest merged parameters, if it got so far. */
  readonly parameters: Float32Array | undefined
}
