/**
 * The border: what a message must look like before anything believes it, for bodies that come from any peer and
 * replies that come from a host that nobody need trust either. Bodies are what they are and nothing else; of replies what
 * is not known here is left away, so that a newer host can say more without losing its peers.
 */
import { z } from 'zod'
import { addressesSchema, cidSchema, eventLimits, nameSchema, peerSchema } from './events.ts'
import { type RoundPolicy, roundPolicySchema } from './policy.ts'
import {
  type CheckpointName,
  type LedgerPage,
  type MessageKind,
  type Messages,
  type OpenRoundView,
  type Progress,
  type PublicStatus,
  peerPhases,
  protocolLimits,
  type Report,
  type RunView,
} from './protocol.ts'

type Schemas = {
  readonly [Kind in MessageKind]: {
    readonly body: z.ZodType<Messages[Kind]['body']>
    readonly reply: z.ZodType<Messages[Kind]['reply']>
  }
}

const round = z.int().min(0)
const positiveRound = z.int().min(1)
const count = z.int().min(0)
const none = z.null()
const code = z.string().max(64)
const reason = z.string().max(eventLimits.maxReasonLength)
const speed = z.number().positive().nullable()
const steps = z.int().min(1).max(eventLimits.maxSteps)
const tokens = z.int().min(1)
const phase = z.enum([
  ...(['waiting', 'warmingUp', 'training', 'closing', 'coolingDown', 'paused', 'finished'] as const),
])
const memberStatus = z.enum(['joining', 'ready', 'active', 'left', 'vanished', 'expelled'])
const checkpointName: z.ZodType<CheckpointName> = z.strictObject({ round, checkpoint: cidSchema })

const progressSchema: z.ZodType<Progress> = z.strictObject({
  phase: z.enum(peerPhases),
  round,
  step: z.int().min(0).max(eventLimits.maxSteps),
  loss: z.number().nullable(),
  tokensPerSecond: z.number().min(0).nullable(),
  sentBytes: count,
  receivedBytes: count,
})

const openSchema: z.ZodType<OpenRoundView | null> = z
  .object({
    round: positiveRound,
    assigned: count,
    inTime: count,
    outstanding: count,
    closesInMs: z.number().min(0).nullable(),
  })
  .nullable()

const viewSchema: z.ZodType<RunView> = z.object({
  version: count,
  life: z.string().max(64).default(''), // a host of an earlier version does not tell
  phase,
  round,
  lastRound: round,
  missingPeers: count,
  checkpoint: checkpointName,
  open: openSchema,
  you: z.object({
    status: memberStatus,
    lease: z
      .object({
        round: positiveRound,
        steps,
        ranges: z
          .array(z.object({ start: count, end: tokens }))
          .min(1)
          .max(protocolLimits.maxRanges),
        grantedAtMs: z.number().min(0),
      })
      .nullable(),
    contributions: count,
    lastRound: round,
    lastVerdict: z
      .object({
        round: positiveRound,
        outcome: z.enum(['accepted', 'late', 'rejected', 'expired']),
        code,
        reason,
      })
      .nullable(),
    expelledUntil: round,
    stepsPerSecond: speed,
    share: z.number().min(0).max(1),
  }),
  closed: z
    .array(
      z.object({
        round: positiveRound,
        seed: z.string().max(128),
        accepted: z
          .array(z.object({ peer: peerSchema, update: cidSchema, weight: z.number().positive() }))
          .min(1)
          .max(protocolLimits.maxAcceptedTold)
          .nullable(),
        checkpoint: cidSchema.nullable(),
      }),
    )
    .max(16),
  peers: z
    .array(z.object({ peer: peerSchema, addresses: addressesSchema, holdsCheckpoint: z.boolean() }))
    .max(protocolLimits.maxPeersTold),
  rewarm: z.object({ round: positiveRound, steps: count }).nullable(),
})

const statusSchema: z.ZodType<PublicStatus> = z.object({
  runId: cidSchema,
  name: nameSchema,
  method: z.string().max(64),
  phase,
  round,
  lastRound: round,
  version: count,
  nowMs: z.number().min(0),
  policy: roundPolicySchema,
  pauseRequested: z.boolean(),
  innerSteps: steps,
  batchTokens: tokens,
  checkpoint: checkpointName,
  loss: z.number().nullable(),
  medianNorm: z.number().min(0).nullable(),
  counts: z.object({ present: count, ready: count, joining: count }),
  open: openSchema,
  batches: z.object({ next: count, pooled: count, skipped: count }),
  totals: z.object({ contributions: count, tokens: count, bytes: count }),
  known: count,
  members: z
    .array(
      z.object({
        peer: peerSchema,
        name: nameSchema,
        status: memberStatus,
        contributions: count,
        tokens: count,
        bytes: count,
        late: count,
        rejected: count,
        expired: count,
        strikes: count.default(0),
        lastRound: round,
        stepsPerSecond: speed,
        phase: z.enum(peerPhases).nullable(),
      }),
    )
    .max(protocolLimits.maxMembersTold),
})

const ledgerSchema: z.ZodType<LedgerPage> = z.object({
  entries: z
    .array(
      z.object({
        position: count,
        atMs: z.number().min(0),
        type: z.enum(['contributed', 'rejected']),
        round: positiveRound,
        leaseRound: positiveRound,
        peer: peerSchema,
        update: cidSchema,
        steps,
        tokens,
        loss: z.number(),
        bytes: count,
        outcome: z.enum(['accepted', 'late', 'rejected']),
        code,
        reason,
        report: z
          .instanceof(Uint8Array)
          .refine(({ byteLength }) => byteLength <= eventLimits.maxReportBytes) as z.ZodType<Uint8Array>,
      }),
    )
    .max(protocolLimits.maxLedgerEntries),
  next: count,
  length: count,
})

export const reportSchema: z.ZodType<Report> = z.strictObject({
  round: positiveRound,
  grantedAtMs: z.number().min(0).optional(),
  update: cidSchema,
  steps,
  tokens,
  loss: z.number(),
})

/** Names and numbers; whether they are a policy is seen when they are laid over the one in force. */
const policyChange = z
  .record(z.string().max(32), z.number())
  .refine((change) => Object.keys(change).length <= 32, 'too many values') as z.ZodType<Partial<RoundPolicy>>

export const messages: Schemas = {
  join: { body: z.strictObject({ name: nameSchema, addresses: addressesSchema }), reply: none },
  ready: { body: z.strictObject({ stepsPerSecond: speed }), reply: none },
  watch: {
    body: z.strictObject({
      version: z.int().min(-1),
      held: checkpointName.nullable(),
      progress: progressSchema,
    }),
    reply: viewSchema,
  },
  report: {
    body: reportSchema,
    reply: z.object({
      outcome: z.enum(['accepted', 'late', 'rejected']),
      round: positiveRound,
      code,
      reason,
      remedy: z.string().max(eventLimits.maxReasonLength),
    }),
  },
  disagreed: { body: z.strictObject({ round: positiveRound, checkpoint: cidSchema }), reply: none },
  leave: { body: none, reply: none },
  status: { body: z.strictObject({}), reply: statusSchema },
  ledger: {
    body: z.strictObject({ from: count, limit: z.int().min(1).max(protocolLimits.maxLedgerEntries) }),
    reply: ledgerSchema,
  },
  control: {
    body: z.strictObject({
      action: z.union([z.enum(['pause', 'resume', 'end']), z.strictObject({ policy: policyChange })]),
    }),
    reply: statusSchema,
  },
}
