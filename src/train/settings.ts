/**
 * What a training run is asked to do, checked by zod: the optimiser, the schedule of its learning rate, the shape of
 * a batch and how often to measure. Names and defaults are those of the field; the defaults suit models of a few
 * million parameters (small batches, peak rate 1e-3), where those of the large published runs would be too cautious.
 */
import { z } from 'zod'
import type { LearningRateSchedule } from './schedule.ts'

/**
 * AdamW with decoupled decay (https://arxiv.org/abs/1711.05101), or Muon for the hidden matrices beside AdamW for the
 * rest, behind clipping by the global norm.
 */
export interface OptimiserSettings {
  readonly kind: 'adamw' | 'muon'
  /** The peak of the schedule. */
  readonly learningRate: number
  readonly weightDecay: number
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
  /** μ of Muon; ignored by AdamW. */
  readonly muonMomentum: number
  /** Gradients are scaled down to this global norm; 0 leaves them as they are. */
  readonly clipNorm: number
  /** Whether weight decay also applies to the gains of the norms. */
  readonly decayNorms: boolean
  /** Whether weight decay also applies to the embedding, and to the output matrix when it is not tied to it. */
  readonly decayEmbeddings: boolean
}

export interface ScheduleSettings {
  readonly kind: 'cosine' | 'wsd' | 'constant'
  readonly warmupSteps: number
  /** Where the decay ends, as a fraction of the peak; ignored by `constant`. */
  readonly finalFraction: number
  /** Steps of the final decay, `wsd` only. */
  readonly decaySteps: number
  /** Form of the final decay, `wsd` only. */
  readonly decayShape: 'linear' | 'one-minus-sqrt'
}

export interface TrainingSettings {
  readonly steps: number
  readonly batchSize: number
  readonly sequenceLength: number
  /** Batches whose mean gradient makes one step. */
  readonly gradientAccumulation: number
  readonly optimiser: OptimiserSettings
  readonly schedule: ScheduleSettings
  /** Measure the validation loss after every so many steps; 0 only at the end. */
  readonly evaluateEvery: number
  readonly evaluationBatches: number
  /** Write a resumable checkpoint after every so many steps; 0 only at the end. */
  readonly checkpointEvery: number
}

const count = z.int().nonnegative().max(1_000_000_000)
const positiveCount = z.int().positive().max(1_000_000_000)
const decayRate = z.number().min(0).lt(1)

export const optimiserSchema: z.ZodType<OptimiserSettings> = z.strictObject({
  kind: z.enum(['adamw', 'muon']).default('adamw'),
  learningRate: z.number().positive().max(10).default(1e-3),
  weightDecay: z.number().nonnegative().max(10).default(0.1),
  beta1: decayRate.default(0.9),
  beta2: decayRate.default(0.95),
  epsilon: z.number().positive().max(1).default(1e-8),
  muonMomentum: decayRate.default(0.95),
  clipNorm: z.number().nonnegative().default(1),
  decayNorms: z.boolean().default(false),
  decayEmbeddings: z.boolean().default(false),
})

export const scheduleSchema: z.ZodType<ScheduleSettings> = z.strictObject({
  kind: z.enum(['cosine', 'wsd', 'constant']).default('cosine'),
  warmupSteps: count.default(20),
  finalFraction: z.number().min(0).max(1).default(0.1),
  decaySteps: count.default(0),
  decayShape: z.enum(['linear', 'one-minus-sqrt']).default('one-minus-sqrt'),
})

export const trainingSchema: z.ZodType<TrainingSettings> = z.strictObject({
  steps: positiveCount.default(1000),
  batchSize: positiveCount.max(65_536).default(8),
  sequenceLength: positiveCount.max(1_048_576).default(128),
  gradientAccumulation: positiveCount.max(65_536).default(1),
  optimiser: optimiserSchema.prefault({}),
  schedule: scheduleSchema.prefault({}),
  evaluateEvery: count.default(100),
  evaluationBatches: positiveCount.default(20),
  checkpointEvery: count.default(200),
})

/** The settings with every default filled in. */
export function defaultTrainingSettings(): TrainingSettings {
  return trainingSchema.parse({})
}

/** The schedule that these settings describe, in absolute rates and steps. */
export function scheduleOf(
  settings: Pick<TrainingSettings, 'steps' | 'schedule' | 'optimiser'>,
): LearningRateSchedule {
  const { kind, warmupSteps, finalFraction, decaySteps, decayShape } = settings.schedule
  const peak = settings.optimiser.learningRate
  const floor = peak * finalFraction
  const totalSteps = settings.steps
  switch (kind) {
    case 'constant':
      return { kind, peak, warmupSteps }
    case 'cosine':
      return { kind, peak, floor, warmupSteps, totalSteps }
    case 'wsd':
      return { kind, peak, floor, warmupSteps, totalSteps, decaySteps, decayShape }
    default:
      throw new TypeError(`no schedule ${String(kind satisfies never)}`)
  }
}
