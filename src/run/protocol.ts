/**
 * What peers, owners and onlookers say to a host and what it answers, as kinds of signed messages (swarm). Control is
 * pulled: a peer asks `watch` and gets the run as it concerns that peer as soon as something has changed, or after a
 * short while; its asking is its heartbeat. protocol-schemas.ts
 * checks each body and each reply before anything else sees it.
 */
import type { Cid } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'
import type { RoundPolicy } from './policy.ts'
import type { BatchRange, MemberStatus, OpenRound, Phase, Verdict } from './state.ts'

export const protocolLimits = {
  /** Of a view: what is told of closed rounds and of peers, with room. */
  maxViewBytes: 524_288,
  /** Peers whose addresses a view tells, and how many addresses of each. */
  maxPeersTold: 64,
  maxAddressesTold: 4,
  /** Contributions of one closed round that a view lists, and of all of them; beyond, peers fetch the checkpoint. */
  maxAcceptedTold: 256,
  maxAcceptedToldInAll: 768,
  /** Ranges of a lease; a lease from a pool in small pieces has fewer steps rather than more ranges. */
  maxRanges: 64,
  /** Members that a public status names. */
  maxMembersTold: 256,
  /** Entries on a page of the ledger, and entries of the log that are looked at for one page. */
  maxLedgerEntries: 64,
  maxLedgerScan: 2048,
  /** Of an answer to a peer other than a view. */
  maxAnswerBytes: 8192,
  maxStatusBytes: 262_144,
  maxLedgerBytes: 524_288,
} as const

/** What a peer is doing, in the order of a round. */
export const peerPhases = [
  'connecting',
  'fetching',
  'measuring',
  'waiting',
  'training',
  'reporting',
  'merging',
  'finished',
] as const
export type PeerPhase = (typeof peerPhases)[number]

/** What a peer says about itself with every heartbeat. Shown to people, never trusted. */
export interface Progress {
  readonly phase: PeerPhase
  readonly round: number
  /** Inner steps done of its lease. */
  readonly step: number
  /** Training loss of the newest step; null before the first. */
  readonly loss: number | null
  readonly tokensPerSecond: number | null
  readonly sentBytes: number
  readonly receivedBytes: number
}

/** A checkpoint by its round; round 0 is the initial one. */
export interface CheckpointName {
  readonly round: number
  readonly checkpoint: Cid
}

/** One accepted contribution, as much as a merge needs of it. */
interface AcceptedView {
  readonly peer: PeerId
  readonly update: Cid
  readonly weight: number
}

export interface ClosedRoundView {
  readonly round: number
  readonly seed: string
  /** In the order of the merge; null when they are too many to tell: then the checkpoint is fetched. */
  readonly accepted: readonly AcceptedView[] | null
  /** The host's result; null while it merges. */
  readonly checkpoint: Cid | null
}

export interface LeaseView {
  readonly round: number
  readonly steps: number
  readonly ranges: readonly BatchRange[]
  /** Run time; with the round it tells this lease from every other one. */
  readonly grantedAtMs: number
}

export interface OpenRoundView extends Pick<OpenRound, 'round' | 'assigned' | 'inTime' | 'outstanding'> {
  /** Milliseconds from this view until the round closes with what it has; null without a deadline. */
  readonly closesInMs: number | null
}

/** The run as one peer needs to know it. */
export interface RunView {
  /** Of the state that this shows; a later `watch` asks for something newer. */
  readonly version: number
  /** Name of the host's process. A log that lost its end goes on under another: versions compare within one life only. */
  readonly life: string
  readonly phase: Phase
  readonly round: number
  readonly lastRound: number
  /** Peers still missing before training can begin, or begin again. */
  readonly missingPeers: number
  readonly checkpoint: CheckpointName
  readonly open: OpenRoundView | null
  readonly you: {
    readonly status: MemberStatus
    readonly lease: LeaseView | null
    readonly contributions: number
    /** Round that counted its last accepted contribution; 0 when there is none. */
    readonly lastRound: number
    readonly lastVerdict: Verdict | null
    /** The first round in which an expelled peer may be in again; 0 for one that was never expelled. */
    readonly expelledUntil: number
    readonly stepsPerSecond: number | null
    /** Its part of all tokens accepted so far, from 0 to 1. */
    readonly share: number
  }
  /** Rounds that it has not merged yet, oldest first. */
  readonly closed: readonly ClosedRoundView[]
  /** Peers that contributed to those rounds, or hold the newest checkpoint, and where to reach them. */
  readonly peers: readonly {
    readonly peer: PeerId
    readonly addresses: readonly string[]
    readonly holdsCheckpoint: boolean
  }[]
  /** The round from which the learning rate rises again, and over how many inner steps; null when it never fell. */
  readonly rewarm: { readonly round: number; readonly steps: number } | null
}

/** What became of a reported update. */
export interface ReportAnswer {
  readonly outcome: 'accepted' | 'late' | 'rejected'
  /** The round that counts it, or in which it was rejected. */
  readonly round: number
  /** Why it was rejected, and what can be done; empty otherwise. */
  readonly code: string
  readonly reason: string
  readonly remedy: string
}

/** One member as everybody may see it. */
export interface PublicMember {
  readonly peer: PeerId
  readonly name: string
  readonly status: MemberStatus
  readonly contributions: number
  readonly tokens: number
  readonly bytes: number
  readonly late: number
  readonly rejected: number
  readonly expired: number
  /** Refused updates in a row; at the policy's maximum the peer is expelled. */
  readonly strikes: number
  readonly lastRound: number
  readonly stepsPerSecond: number | null
  readonly phase: PeerPhase | null
}

/** The run as everybody may see it. */
export interface PublicStatus {
  readonly runId: Cid
  readonly name: string
  /** Name and version of the synchronisation method. */
  readonly method: string
  readonly phase: Phase
  readonly round: number
  readonly lastRound: number
  /** Events in the log. */
  readonly version: number
  /** Run time in milliseconds. */
  readonly nowMs: number
  readonly policy: RoundPolicy
  readonly pauseRequested: boolean
  readonly innerSteps: number
  readonly batchTokens: number
  readonly checkpoint: CheckpointName
  /** Mean training loss that the peers of the newest closed round reported, weighted by tokens. */
  readonly loss: number | null
  readonly medianNorm: number | null
  readonly counts: { readonly present: number; readonly ready: number; readonly joining: number }
  readonly open: OpenRoundView | null
  /** Batches leased at least once; of those the ones that came back and wait for another peer, and the ones given up. */
  readonly batches: { readonly next: number; readonly pooled: number; readonly skipped: number }
  /** Accepted so far, also of members that are forgotten by now. */
  readonly totals: { readonly contributions: number; readonly tokens: number; readonly bytes: number }
  /** How many members the host remembers; `members` are those present first, and of them those with the most tokens. */
  readonly known: number
  readonly members: readonly PublicMember[]
}

/** An update that was counted or rejected, with the peer's own signed word for it. */
export interface LedgerEntry {
  /** In the log. */
  readonly position: number
  /** Run time. */
  readonly atMs: number
  readonly type: 'contributed' | 'rejected'
  /** The round that counts it, or in which it was rejected. */
  readonly round: number
  /** The round whose lease it is for. */
  readonly leaseRound: number
  readonly peer: PeerId
  readonly update: Cid
  readonly steps: number
  readonly tokens: number
  readonly loss: number
  /** Length of the update; 0 for a rejected one. */
  readonly bytes: number
  readonly outcome: 'accepted' | 'late' | 'rejected'
  readonly code: string
  readonly reason: string
  /** The signed message in which the peer reported it: `verifyLedgerEntry` checks it without the host. */
  readonly report: Uint8Array
}

export interface LedgerPage {
  readonly entries: readonly LedgerEntry[]
  /** Where the next page begins. A page may be empty although there are more. */
  readonly next: number
  /** Entries of the whole log: at `next === length` there is nothing more yet. */
  readonly length: number
}

/** What an owner may ask for: to stand still after the open round, to go on, to end with it, to go on by other rules. */
export type ControlAction = 'pause' | 'resume' | 'end' | { readonly policy: Partial<RoundPolicy> }

/** What a peer says of its update. */
export interface Report {
  /** Of the lease… */
  readonly round: number
  /** …and when it was granted; older peers do not say. */
  readonly grantedAtMs?: number | undefined
  readonly update: Cid
  /** Inner steps done: the first so many batches of the lease. */
  readonly steps: number
  readonly tokens: number
  /** Mean over those steps. */
  readonly loss: number
}

/** The kinds of messages: what is sent, and what the host answers when it does not refuse. */
export interface Messages {
  /** Asks in, or in again; harmless when it is in. */
  readonly join: { body: { name: string; addresses: string[] }; reply: null }
  /** Has everything for the next round, and has measured itself. */
  readonly ready: { body: { stepsPerSecond: number | null }; reply: null }
  /** Asks for a state newer than `version`, holding this checkpoint. */
  readonly watch: {
    body: { version: number; held: CheckpointName | null; progress: Progress }
    reply: RunView
  }
  /** Its update is ready to be fetched from it; answered when it has been judged. */
  readonly report: { body: Report; reply: ReportAnswer }
  /** Its merge of a round gave another checkpoint than the host's. */
  readonly disagreed: { body: CheckpointName; reply: null }
  readonly leave: { body: null; reply: null }
  /** For everybody, member or not. */
  readonly status: { body: Record<string, never>; reply: PublicStatus }
  readonly ledger: { body: { from: number; limit: number }; reply: LedgerPage }
  /** For owners. */
  readonly control: { body: { action: ControlAction }; reply: PublicStatus }
}
export type MessageKind = keyof Messages
