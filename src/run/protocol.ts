/**
 * What peers and the host say to each other, as kinds of signed messages (swarm). Control is pulled: a peer asks
 * `watch` and gets the run as it concerns that peer as soon as something has changed, or after a short while; its
 * asking is its heartbeat. Each body and each reply is checked here before anything else sees it.
 */
import { z } from 'zod'
import type { Cid } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'
import { type Accepted, addressesSchema, cidSchema, eventLimits, nameSchema, peerSchema } from './events.ts'
import {
  type ClosedRound,
  isPresent,
  type MemberStatus,
  outstandingPeers,
  type Phase,
  peersOf,
  type RunState,
} from './reducer.ts'

/** What a peer is doing, in the order of a round. */
const peerPhases = [
  'connecting',
  'fetching',
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
  /** Inner steps done in this round. */
  readonly step: number
  /** Training loss of the newest step; null before the first. */
  readonly loss: number | null
  readonly tokensPerSecond: number | null
  readonly sentBytes: number
  readonly receivedBytes: number
}

/** The run as one peer needs to know it. */
export interface RunView {
  /** Of the state that this shows; a later `watch` asks for something newer. */
  readonly version: number
  readonly phase: Phase
  readonly round: number
  readonly lastRound: number
  /** Peers still missing before the first round can open. */
  readonly missingPeers: number
  readonly checkpoint: { readonly round: number; readonly checkpoint: Cid }
  readonly open: {
    readonly round: number
    readonly replicas: number
    /** Peers whose contributions are in, and peers that are still awaited. */
    readonly contributed: number
    readonly outstanding: number
  } | null
  readonly you: {
    readonly status: MemberStatus
    /** Its share of the open round; null when it has none. */
    readonly replica: number | null
    /** Whether its contribution to the open round is in. */
    readonly contributed: boolean
    readonly contributions: number
    /** Round of its last accepted contribution; 0 when there is none. */
    readonly lastRound: number
  }
  /** Rounds that it has not merged yet, oldest first. */
  readonly closed: readonly ClosedRound[]
  /** Peers that hold the newest checkpoint, or contributed to those rounds, and where to reach them. */
  readonly peers: readonly {
    readonly peer: PeerId
    readonly addresses: readonly string[]
    readonly holdsCheckpoint: boolean
  }[]
}

export const protocolLimits = {
  /** Of a view: three rounds of 256 peers, with room. */
  maxViewBytes: 524_288,
  /** Peers whose addresses a view tells. */
  maxPeersTold: 64,
} as const

const round = z.int().min(0)
const bytes = z.int().min(0)

const progressSchema: z.ZodType<Progress> = z.strictObject({
  phase: z.enum(peerPhases),
  round,
  step: z.int().min(0).max(1_000_000_000),
  loss: z.number().nullable(),
  tokensPerSecond: z.number().min(0).nullable(),
  sentBytes: bytes,
  receivedBytes: bytes,
})

const viewSchema: z.ZodType<RunView> = z.strictObject({
  version: z.int().min(0),
  phase: z.enum(['waiting', 'training', 'grace', 'merging', 'finished']),
  round,
  lastRound: round,
  missingPeers: z.int().min(0),
  checkpoint: z.strictObject({ round, checkpoint: cidSchema }),
  open: z
    .strictObject({
      round,
      replicas: z.int().min(1).max(65_536),
      contributed: z.int().min(0),
      outstanding: z.int().min(0),
    })
    .nullable(),
  you: z.strictObject({
    status: z.enum(['joining', 'ready', 'active', 'left', 'vanished']),
    replica: z.int().min(0).max(65_536).nullable(),
    contributed: z.boolean(),
    contributions: z.int().min(0),
    lastRound: round,
  }),
  closed: z
    .array(
      z.strictObject({
        round,
        accepted: z
          .array(
            z.strictObject({
              peer: peerSchema,
              update: cidSchema,
              tokens: z.int().min(1).max(eventLimits.maxTokens),
              loss: z.number(),
            }),
          )
          .min(1)
          .max(1024),
        checkpoint: cidSchema.nullable(),
      }),
    )
    .max(16),
  peers: z
    .array(z.strictObject({ peer: peerSchema, addresses: addressesSchema, holdsCheckpoint: z.boolean() }))
    .max(protocolLimits.maxPeersTold),
})

/** The kinds of messages: what a peer sends, and what the host answers when it does not refuse. */
export interface Messages {
  /** Asks in, or in again; harmless when it is in. */
  readonly join: { body: { name: string; addresses: string[] }; reply: null }
  /** Has everything for the next round. */
  readonly ready: { body: null; reply: null }
  /** Asks for a state newer than `version`, having merged all rounds up to `applied`. */
  readonly watch: { body: { version: number; applied: number; progress: Progress }; reply: RunView }
  /** Its update is ready to be fetched from it; answered when it has been accepted. */
  readonly report: { body: Omit<Accepted, 'peer'> & { round: number }; reply: null }
  /** What it got by merging a round; answered with the host's checkpoint, or null before the host has it. */
  readonly applied: { body: { round: number; checkpoint: Cid }; reply: { checkpoint: Cid | null } }
  readonly leave: { body: null; reply: null }
}
export type MessageKind = keyof Messages

type Schemas = {
  readonly [Kind in MessageKind]: {
    readonly body: z.ZodType<Messages[Kind]['body']>
    readonly reply: z.ZodType<Messages[Kind]['reply']>
  }
}

const none = z.null()
const positiveRound = z.int().min(1)

export const messages: Schemas = {
  join: { body: z.strictObject({ name: nameSchema, addresses: addressesSchema }), reply: none },
  ready: { body: none, reply: none },
  watch: {
    body: z.strictObject({ version: z.int().min(-1), applied: round, progress: progressSchema }),
    reply: viewSchema,
  },
  report: {
    body: z.strictObject({
      round: positiveRound,
      update: cidSchema,
      tokens: z.int().min(1).max(eventLimits.maxTokens),
      loss: z.number(),
    }),
    reply: none,
  },
  applied: {
    body: z.strictObject({ round: positiveRound, checkpoint: cidSchema }),
    reply: z.strictObject({ checkpoint: cidSchema.nullable() }),
  },
  leave: { body: none, reply: none },
}

/** The run as it concerns `peer`, which has merged all rounds up to `applied`. */
export function viewFor(state: RunState, peer: PeerId, applied: number): RunView {
  const { open, members, policy } = state
  const member = members[peer]!
  const closed = state.closed.filter((each) => each.round > applied)
  const contributed = open === null ? [] : peersOf(open.contributions)
  const outstanding = outstandingPeers(state)
  const ready = Object.values(members).filter(
    ({ status }) => status === 'ready' || status === 'active',
  ).length
  return {
    version: state.version,
    phase: state.phase,
    round: state.round,
    lastRound: state.lastRound,
    missingPeers:
      state.phase === 'waiting' ? Math.max(0, (state.round === 1 ? policy.minimumPeers : 1) - ready) : 0,
    checkpoint: state.checkpoint,
    open:
      open === null
        ? null
        : {
            round: open.round,
            replicas: open.replicas,
            contributed: contributed.length,
            outstanding: outstanding.length,
          },
    you: {
      status: member.status,
      replica: open?.assignments[peer] ?? null,
      contributed: contributed.includes(peer),
      contributions: member.contributions,
      lastRound: member.lastRound,
    },
    closed,
    peers: peersWorthKnowing(state, peer, closed),
  }
}

/** Those who contributed to what is to be merged first, then holders of the newest checkpoint. */
function peersWorthKnowing(state: RunState, peer: PeerId, closed: readonly ClosedRound[]): RunView['peers'] {
  const { members, checkpoint } = state
  const holds = (each: PeerId): boolean => members[each]?.applied?.checkpoint === checkpoint.checkpoint
  const authors = closed.flatMap(({ accepted }) => accepted.map((each) => each.peer))
  const reachable = (each: PeerId): boolean =>
    each !== peer &&
    members[each] !== undefined &&
    isPresent(members[each]) &&
    members[each].addresses.length > 0
  const chosen = [...new Set([...authors, ...peersOf(members).filter(holds)])].filter(reachable)
  return chosen.slice(0, protocolLimits.maxPeersTold).map((each) => ({
    peer: each,
    addresses: members[each]!.addresses,
    holdsCheckpoint: holds(each),
  }))
}
