/**
 * What can happen to a run, as it stands in the log: small records with the time at which the host saw them. Replaying
 * them through the reducer gives the state, so nothing else has to survive a crash (besides blobs).
 */
import { z } from 'zod'
import { type Cid, decodeCanonical, encodeCanonical, GroundswellError, parseCid } from '../core/index.ts'
import { type PeerId, parsePeerId } from '../swarm/index.ts'

/** How rounds open and close; pinned by the manifest. */
export interface RoundPolicy {
  /** Rounds after which the run is finished. */
  readonly rounds: number
  /** Peers that must be ready before the first round opens. Later rounds open with whoever is there. */
  readonly minimumPeers: number
  /** Peers that may be in the run at a time. */
  readonly maximumPeers: number
  /** Share of a round's peers whose contributions start the grace period. */
  readonly quorum: number
  /** How long a round stays open after its quorum. */
  readonly graceMs: number
  /** After this time a round closes with whatever it has, once that is at least one contribution. */
  readonly maxRoundMs: number
  /** Silence after which a peer counts as gone. */
  readonly vanishAfterMs: number
}

export const roundPolicySchema: z.ZodType<RoundPolicy> = z.strictObject({
  rounds: z.int().min(1).max(10_000_000),
  minimumPeers: z.int().min(1).max(256).default(1),
  maximumPeers: z.int().min(1).max(256).default(256),
  quorum: z.number().gt(0).max(1).default(0.67),
  graceMs: z.int().min(0).max(86_400_000).default(10_000),
  maxRoundMs: z.int().min(1000).max(604_800_000).default(3_600_000),
  vanishAfterMs: z.int().min(500).max(3_600_000).default(15_000),
})

/** One peer's accepted work in one round. */
export interface Accepted {
  readonly peer: PeerId
  /** Artifact of the encoded update. */
  readonly update: Cid
  /** Training tokens behind it: its weight in the merge. */
  readonly tokens: number
  /** Mean training loss over its inner steps. */
  readonly loss: number
}

interface At {
  /** Milliseconds since the Unix epoch by the host's clock, which may jump. */
  readonly atMs: number
}
interface By extends At {
  readonly peer: PeerId
}

export type RunEvent =
  /** Always the first one, and only that. */
  | (At & {
      readonly type: 'created'
      readonly runId: Cid
      readonly policy: RoundPolicy
      readonly checkpoint: Cid
      readonly seed: string
    })
  /** A peer asks in, for the first time or again. */
  | (By & { readonly type: 'joined'; readonly name: string; readonly addresses: readonly string[] })
  /** It has everything it needs for the next round. */
  | (By & { readonly type: 'ready' })
  /** It said good-bye. */
  | (By & { readonly type: 'left' })
  /** It has been silent for too long. */
  | (By & { readonly type: 'vanished' })
  /** Its update is here, was checked, and counts from now on whatever happens to the peer. */
  | (By &
      Accepted & {
        readonly type: 'contributed'
        readonly round: number
        /** The signed message in which the peer said so. */
        readonly report: Uint8Array
      })
  /** Time has passed. */
  | (At & { readonly type: 'ticked' })
  /** The host has merged a round; its checkpoint is what everyone compares with. */
  | (At & { readonly type: 'checkpointed'; readonly round: number; readonly checkpoint: Cid })
  /** A peer has merged a round and got this checkpoint. */
  | (By & { readonly type: 'applied'; readonly round: number; readonly checkpoint: Cid })
  /** The owner wants the run to end with the round that is open. */
  | (At & { readonly type: 'ending' })

export const eventLimits = {
  /** Of one encoded event. A signed report is the largest part of any. */
  maxEventBytes: 65_536,
  maxNameLength: 64,
  maxAddresses: 8,
  maxAddressLength: 256,
  maxReportBytes: 4096,
  /** Tokens that one contribution may claim: far beyond any round, far below where float64 loses counts. */
  maxTokens: 1_099_511_627_776,
} as const

/** Text that is a CID. */
export const cidSchema: z.ZodType<Cid> = z
  .string()
  .max(128)
  .transform((text, context) => {
    try {
      return parseCid(text)
    } catch {
      context.addIssue({ code: 'custom', message: 'not a CID' })
      return z.NEVER
    }
  })

/** Text that is a PeerId. */
export const peerSchema: z.ZodType<PeerId> = z
  .string()
  .max(64)
  .transform((text, context) => {
    try {
      return parsePeerId(text)
    } catch {
      context.addIssue({ code: 'custom', message: 'not a PeerId' })
      return z.NEVER
    }
  })

/** A name that a peer gives itself: shown to people, so nothing that moves a cursor. */
export const nameSchema: z.ZodType<string> = z
  .string()
  .max(eventLimits.maxNameLength)
  .regex(/^[^\p{C}]*$/u)

export const addressesSchema: z.ZodType<string[]> = z
  .array(
    z
      .string()
      .max(eventLimits.maxAddressLength)
      .regex(/^\/[\x21-\x7e]+$/),
  )
  .max(eventLimits.maxAddresses)

const at = { atMs: z.number() }
const by = { ...at, peer: peerSchema }
const round = z.int().min(1)

const eventSchema: z.ZodType<RunEvent> = z.discriminatedUnion('type', [
  z.strictObject({
    ...at,
    type: z.literal('created'),
    runId: cidSchema,
    policy: roundPolicySchema,
    checkpoint: cidSchema,
    seed: z.string().max(128),
  }),
  z.strictObject({ ...by, type: z.literal('joined'), name: nameSchema, addresses: addressesSchema }),
  z.strictObject({ ...by, type: z.literal('ready') }),
  z.strictObject({ ...by, type: z.literal('left') }),
  z.strictObject({ ...by, type: z.literal('vanished') }),
  z.strictObject({
    ...by,
    update: cidSchema,
    tokens: z.int().min(1).max(eventLimits.maxTokens),
    loss: z.number(),
    type: z.literal('contributed'),
    round,
    report: z.instanceof(Uint8Array).refine((bytes) => bytes.byteLength <= eventLimits.maxReportBytes),
  }),
  z.strictObject({ ...at, type: z.literal('ticked') }),
  z.strictObject({ ...at, type: z.literal('checkpointed'), round, checkpoint: cidSchema }),
  z.strictObject({ ...by, type: z.literal('applied'), round, checkpoint: cidSchema }),
  z.strictObject({ ...at, type: z.literal('ending') }),
])

export function encodeEvent(event: RunEvent): Uint8Array {
  return encodeCanonical(event)
}

/** Reads an event from a log. @throws GroundswellError `log/damaged` */
export function decodeEvent(bytes: Uint8Array, position: number): RunEvent {
  try {
    return eventSchema.parse(decodeCanonical(bytes, eventLimits.maxEventBytes))
  } catch (cause) {
    throw new GroundswellError(`Entry ${position} of the run’s log is not an event.`, {
      code: 'log/damaged',
      remedy: 'Restore the log from a copy, or start a new run from the newest checkpoint.',
      cause,
    })
  }
}
