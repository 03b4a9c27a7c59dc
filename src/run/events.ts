/**
 * What can happen to a run, as it stands in the log: small records with the run time at which the host saw them.
 * Replaying them through the reducer gives the state, so nothing else has to survive a crash (besides blobs).
 */
import { z } from 'zod'
import { type Cid, decodeCanonical, encodeCanonical, GroundswellError, parseCid } from '../core/index.ts'
import { type PeerId, parsePeerId } from '../swarm/index.ts'
import { type RoundPolicy, roundPolicySchema } from './policy.ts'

interface At {
  /** Run time in milliseconds: time that hosts have spent on this run. It never goes back, whatever clocks do. */
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
      /** H of the method. */
      readonly innerSteps: number
      /** Tokens of one batch, which is one inner step. */
      readonly batchTokens: number
      readonly checkpoint: Cid
      readonly seed: string
    })
  /** A host has begun, or taken over. */
  | (At & {
      readonly type: 'hosted'
      /** Random name of the host's process. */
      readonly session: string
      /** Its wall clock, for people: milliseconds since the Unix epoch. */
      readonly wallMs: number
    })
  /** A peer asks in, or in again. */
  | (By & { readonly type: 'joined'; readonly name: string; readonly addresses: readonly string[] })
  /** It has fetched what it needs, and measured itself: inner steps per second, null when it could not. */
  | (By & { readonly type: 'ready'; readonly stepsPerSecond: number | null })
  | (By & { readonly type: 'left' })
  /** It has been silent for too long. */
  | (By & { readonly type: 'vanished' })
  /** Its update is here, was checked, and counts from now on whatever happens to the peer. */
  | (By & {
      readonly type: 'contributed'
      /** Round of the lease… */
      readonly round: number
      /** …and when it was granted, which tells it from others of a round that began anew; older logs do not say. */
      readonly grantedAtMs?: number | undefined
      readonly update: Cid
      /** Inner steps done, at most those of the lease: the first so many of its batches. */
      readonly steps: number
      readonly loss: number
      readonly bytes: number
      readonly norm: number
      /** The signed message in which the peer said so. */
      readonly report: Uint8Array
    })
  /** Its update was fetched and refused. */
  | (By & {
      readonly type: 'rejected'
      readonly round: number
      readonly grantedAtMs?: number | undefined
      readonly update: Cid
      readonly code: string
      readonly reason: string
      readonly report: Uint8Array
    })
  /** It merged a round and got another checkpoint than the host. */
  | (By & { readonly type: 'disagreed'; readonly round: number; readonly checkpoint: Cid })
  /** Time has passed. */
  | (At & { readonly type: 'ticked' })
  /** The host has merged a round; its checkpoint is what everyone compares with. */
  | (At & { readonly type: 'checkpointed'; readonly round: number; readonly checkpoint: Cid })
  /** The owner wants the run to stand still, to go on, to go on by other rules, or to end with the open round. */
  | (At & { readonly type: 'paused' })
  | (At & { readonly type: 'resumed' })
  | (At & { readonly type: 'policyChanged'; readonly policy: RoundPolicy })
  | (At & { readonly type: 'ending' })

export const eventLimits = {
  /** Of one encoded event. A signed report is the largest part of any. */
  maxEventBytes: 65_536,
  maxNameLength: 64,
  maxAddresses: 8,
  maxAddressLength: 512,
  maxReportBytes: 4096,
  maxReasonLength: 500,
  /** Inner steps that one contribution may claim. */
  maxSteps: 1_000_000_000,
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

const at = { atMs: z.number().min(0) }
const by = { ...at, peer: peerSchema }
const round = z.int().min(1)
const grantedAtMs = z.number().min(0).optional()
const report = z
  .instanceof(Uint8Array)
  .refine((bytes) => bytes.byteLength <= eventLimits.maxReportBytes) as z.ZodType<Uint8Array>

const eventSchema: z.ZodType<RunEvent> = z.discriminatedUnion('type', [
  z.strictObject({
    ...at,
    type: z.literal('created'),
    runId: cidSchema,
    policy: roundPolicySchema,
    innerSteps: z.int().min(1),
    batchTokens: z.int().min(1),
    checkpoint: cidSchema,
    seed: z.string().max(128),
  }),
  z.strictObject({ ...at, type: z.literal('hosted'), session: z.string().max(64), wallMs: z.number() }),
  z.strictObject({ ...by, type: z.literal('joined'), name: nameSchema, addresses: addressesSchema }),
  z.strictObject({ ...by, type: z.literal('ready'), stepsPerSecond: z.number().positive().nullable() }),
  z.strictObject({ ...by, type: z.literal('left') }),
  z.strictObject({ ...by, type: z.literal('vanished') }),
  z.strictObject({
    ...by,
    type: z.literal('contributed'),
    round,
    grantedAtMs,
    update: cidSchema,
    steps: z.int().min(1).max(eventLimits.maxSteps),
    loss: z.number(),
    bytes: z.int().min(0),
    norm: z.number().min(0),
    report,
  }),
  z.strictObject({
    ...by,
    type: z.literal('rejected'),
    round,
    grantedAtMs,
    update: cidSchema,
    code: z.string().max(64),
    reason: z.string().max(eventLimits.maxReasonLength),
    report,
  }),
  z.strictObject({ ...by, type: z.literal('disagreed'), round, checkpoint: cidSchema }),
  z.strictObject({ ...at, type: z.literal('ticked') }),
  z.strictObject({ ...at, type: z.literal('checkpointed'), round, checkpoint: cidSchema }),
  z.strictObject({ ...at, type: z.literal('paused') }),
  z.strictObject({ ...at, type: z.literal('resumed') }),
  z.strictObject({ ...at, type: z.literal('policyChanged'), policy: roundPolicySchema }),
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
