/**
 * How rounds open and close, who may take part and what is done about trouble. The manifest pins the policy that a run
 * begins with; its owner may change it while the run goes on, and then the log says so.
 */
import { z } from 'zod'

export interface RoundPolicy {
  /** Rounds after which the run is finished. */
  readonly rounds: number
  /** Peers that must be ready before training begins, or begins again after everybody had gone. */
  readonly minimumPeers: number
  /** Peers that may be in the run at a time. */
  readonly maximumPeers: number
  /** Once enough are ready, how long to wait for those who are still fetching what they need. */
  readonly warmupMs: number
  /** Share of a round's peers whose contributions start the grace period. */
  readonly quorum: number
  /** How long a round stays open after its quorum, at least… */
  readonly graceMs: number
  /** …and at least this share of the time that it took to get there, so that long rounds wait longer. None if absent. */
  readonly graceShare?: number | undefined
  /** After this time a round closes with whatever it has; with nothing it begins anew, where others are ready to train it. */
  readonly maxRoundMs: number
  /** Silence after which a peer counts as gone. */
  readonly vanishAfterMs: number
  /**
   * By how many rounds an update may come late and still count, in the round that is open then and with its tokens
   * divided by 1 + lateness. Beyond, the lease expires: the update is refused and its batches return to the pool.
   */
  readonly maximumStaleness: number
  /** A fast peer gets at most this many times the inner steps of the median peer. */
  readonly maximumSpeedup: number
  /** Inner steps over which the learning rate rises again after everybody had gone. */
  readonly rewarmSteps: number
  /** Refused updates in a row after which a peer is expelled… */
  readonly maximumStrikes: number
  /** …for so many rounds. */
  readonly expulsionRounds: number
  /** An update whose norm is more than this many times the median of the last accepted ones is refused. */
  readonly maximumNormFactor: number
}

const usualSilenceMs = 15_000
const longestSilenceMs = 3_600_000

/**
 * How long a peer that is at work may be silent, unless the run says so: while it loads, encodes and merges a model, which
 * takes it a fifth of a microsecond per parameter on a busy machine, it is slow to answer.
 */
export function defaultVanishAfterMs(parameters: number): number {
  return Math.min(usualSilenceMs + Math.round(parameters / 5000), longestSilenceMs)
}

/** Members for which every host has room, however few its run takes. */
const leastPlaces = 256

/**
 * What a host needs room for when its run takes so many peers: each has a connection and a `watch` that waits, and says
 * something else besides; and there are those who come, look on, or come again over a new connection.
 */
export function hostPlaces(maximumPeers: number): {
  readonly peers: number
  readonly connections: number
  readonly messages: number
} {
  const peers = Math.max(leastPlaces, maximumPeers)
  return { peers, connections: peers + 256, messages: 2 * peers + 512 }
}

const milliseconds = (least: number, most: number): z.ZodInt => z.int().min(least).max(most)
const day = 86_400_000

export const roundPolicySchema: z.ZodType<RoundPolicy> = z
  .strictObject({
    rounds: z.int().min(1).max(10_000_000),
    minimumPeers: z.int().min(1).max(10_000).default(1),
    maximumPeers: z.int().min(1).max(10_000).default(256),
    warmupMs: milliseconds(0, day).default(60_000),
    quorum: z.number().gt(0).max(1).default(0.67),
    graceMs: milliseconds(0, day).default(10_000),
    graceShare: z.number().min(0).max(1).optional(),
    maxRoundMs: milliseconds(1000, 7 * day).default(3_600_000),
    vanishAfterMs: milliseconds(500, longestSilenceMs).default(usualSilenceMs),
    maximumStaleness: z.int().min(0).max(8).default(1),
    maximumSpeedup: z.number().min(1).max(64).default(4),
    rewarmSteps: z.int().min(0).max(1_000_000).default(20),
    maximumStrikes: z.int().min(1).max(100).default(3),
    expulsionRounds: z.int().min(1).max(1_000_000).default(20),
    maximumNormFactor: z.number().min(1).max(1e6).default(10),
  })
  .refine(({ minimumPeers, maximumPeers }) => minimumPeers <= maximumPeers, {
    path: ['minimumPeers'],
    message: 'more than maximumPeers: training would never begin',
  })
