/**
 * Which method a run uses, as it stands in a run file and in a manifest, and the method made from it. A new method
 * adds its schema to the union and its line to the switch. docs/methods.md says what each setting does and whence the
 * defaults come.
 */
import { z } from 'zod'
import { optimiserSchema } from '../train/index.ts'
import { type DataParallelOptions, dataParallel } from './data-parallel.ts'
import { decoupled } from './decoupled.ts'
import { type DemoOptions, demo, distro } from './demo.ts'
import { type DilocoOptions, diloco } from './diloco.ts'
import { encodingNames } from './encodings.ts'
import type { SyncMethod } from './method.ts'
import { muloco } from './muloco.ts'
import { type NolocoOptions, noloco } from './noloco.ts'
import { type SparseLocoOptions, sparseLoco } from './sparse-loco.ts'
import { type StreamingDilocoOptions, streamingDiloco } from './streaming-diloco.ts'

export interface DilocoSettings extends DilocoOptions {
  readonly method: 'diloco'
}

export interface StreamingDilocoSettings extends StreamingDilocoOptions {
  readonly method: 'streaming-diloco'
}

export interface SparseLocoSettings extends SparseLocoOptions {
  readonly method: 'sparse-loco'
}

export interface DataParallelSettings extends DataParallelOptions {
  readonly method: 'data-parallel'
  readonly innerSteps: 1
}

export interface DecoupledSettings extends DilocoOptions {
  readonly method: 'decoupled'
}

export interface MulocoSettings extends DilocoOptions {
  readonly method: 'muloco'
}

export interface DemoSettings extends DemoOptions {
  readonly method: 'demo'
  readonly innerSteps: 1
}

export interface DistroSettings extends Omit<DemoOptions, 'values'> {
  readonly method: 'distro'
  readonly innerSteps: 1
}

export interface NolocoSettings extends NolocoOptions {
  readonly method: 'noloco'
}

export type SyncSettings =
  | DataParallelSettings
  | DecoupledSettings
  | DemoSettings
  | DilocoSettings
  | DistroSettings
  | MulocoSettings
  | NolocoSettings
  | SparseLocoSettings
  | StreamingDilocoSettings

const innerSteps = z.int().min(1).max(100_000)
const overlapSteps = z.int().min(0).max(1000)
const encoding = z.enum(encodingNames)
const outerStep = {
  outerLearningRate: z.number().positive().max(10),
  outerMomentum: z.number().min(0).lt(1),
}

/** β, of error feedback. */
const errorDecay = z.number().min(0).max(1)

/**
 * The outer rate is that of the DiLoCo paper. Its H = 500, float32 and momentum of 0.9 suit larger models and thousands of
 * rounds; in some dozens 0.6 is better (table 4, bench/results/table-outer.md).
 */
const dilocoSettingsSchema = z.strictObject({
  method: z.literal('diloco'),
  innerSteps: innerSteps.default(30),
  outerLearningRate: outerStep.outerLearningRate.default(0.7),
  outerMomentum: outerStep.outerMomentum.default(0.6),
  encoding: encoding.default('int8'),
  errorFeedback: errorDecay.optional(),
})

/** The outer rate is DiLoCo's, β that of SparseLoCo; the momentum is what a few dozen rounds bear (docs/experiments.md). */
const mulocoSettingsSchema = z.strictObject({
  method: z.literal('muloco'),
  innerSteps: innerSteps.default(30),
  outerLearningRate: outerStep.outerLearningRate.default(0.7),
  outerMomentum: outerStep.outerMomentum.default(0.6),
  encoding: encoding.default('int2'),
  errorFeedback: errorDecay.default(0.95),
})

/** H is that of the paper, the outer step DiLoCo's. */
const decoupledSettingsSchema = z.strictObject({
  method: z.literal('decoupled'),
  innerSteps: innerSteps.default(24),
  outerLearningRate: outerStep.outerLearningRate.default(0.7),
  outerMomentum: outerStep.outerMomentum.default(0.9),
  encoding: encoding.default('int8'),
  errorFeedback: errorDecay.optional(),
})

/** Defaults are those of the paper's main runs; it has fragments of three layers, whatever their number. */
const streamingDilocoSettingsSchema = z
  .strictObject({
    method: z.literal('streaming-diloco'),
    innerSteps: innerSteps.default(30),
    fragments: z.int().min(1).max(255).default(2),
    overlapSteps: overlapSteps.default(1),
    mixing: z.number().min(0).lt(1).default(0.5),
    outerLearningRate: outerStep.outerLearningRate.default(0.4),
    outerMomentum: outerStep.outerMomentum.default(0.9),
    encoding: encoding.default('fp4-e3m0'),
  })
  .refine(({ innerSteps, fragments }) => innerSteps % fragments === 0, {
    path: ['innerSteps'],
    message: 'must be a multiple of fragments',
  })
  .refine(({ innerSteps, fragments, overlapSteps }) => overlapSteps < innerSteps / fragments, {
    path: ['overlapSteps'],
    message: 'must be less than innerSteps / fragments',
  })

const average = z.enum(['all-peers', 'senders'])

/** Defaults are those of the paper, which knows no overlap. */
const sparseLocoSettingsSchema = z
  .strictObject({
    method: z.literal('sparse-loco'),
    innerSteps: innerSteps.default(30),
    overlapSteps: overlapSteps.default(0),
    kept: z.int().min(1).max(4096).default(64),
    errorDecay: errorDecay.default(0.95),
    outerLearningRate: outerStep.outerLearningRate.default(1),
    values: z.enum(['float32', 'int8', 'int2']).default('int2'),
    average: average.default('all-peers'),
  })
  .refine(({ innerSteps, overlapSteps }) => overlapSteps < innerSteps, {
    path: ['overlapSteps'],
    message: 'must be less than innerSteps',
  })

const dataParallelSettingsSchema = z.strictObject({
  method: z.literal('data-parallel'),
  innerSteps: z.literal(1).default(1),
  encoding: encoding.default('float32'),
  optimiser: optimiserSchema
    .refine(({ kind }) => kind === 'adamw', { path: ['kind'], message: 'must be adamw' })
    .prefault({}),
})

const decoupledMomentum = {
  innerSteps: z.literal(1).default(1),
  momentumDecay: z.number().min(0).lt(1).default(0.999),
  average: average.default('senders'),
}
const keptCoefficients = z.int().min(1).max(4096)
const weightDecay = z.number().min(0).max(10)

/** Defaults are those of the paper. */
const demoSettingsSchema = z.strictObject({
  method: z.literal('demo'),
  ...decoupledMomentum,
  kept: keptCoefficients.default(32),
  values: z.enum(['float16', 'int8', 'sign']).default('float16'),
  weightDecay: weightDecay.default(0),
})

/** Defaults are those that Psyche runs. */
const distroSettingsSchema = z.strictObject({
  method: z.literal('distro'),
  ...decoupledMomentum,
  kept: keptCoefficients.default(8),
  weightDecay: weightDecay.default(0.1),
})

/** Defaults are those of the published code, which sends float32. */
const nolocoSettingsSchema = z.strictObject({
  method: z.literal('noloco'),
  innerSteps: innerSteps.default(50),
  outerLearningRate: outerStep.outerLearningRate.default(0.7),
  outerMomentum: outerStep.outerMomentum.default(0.5),
  encoding: encoding.default('int8'),
  parametersEncoding: encoding.default('float16'),
})

export const syncSettingsSchema: z.ZodType<SyncSettings> = z.discriminatedUnion('method', [
  dilocoSettingsSchema,
  streamingDilocoSettingsSchema,
  dataParallelSettingsSchema,
  decoupledSettingsSchema,
  demoSettingsSchema,
  distroSettingsSchema,
  mulocoSettingsSchema,
  nolocoSettingsSchema,
  sparseLocoSettingsSchema,
])

export function createSyncMethod(settings: SyncSettings): SyncMethod {
  const { method } = settings
  switch (method) {
    case 'diloco':
      return diloco(settings)
    case 'streaming-diloco':
      return streamingDiloco(settings)
    case 'data-parallel':
      return dataParallel(settings)
    case 'decoupled':
      return decoupled(settings)
    case 'demo':
      return demo(settings)
    case 'distro':
      return distro(settings)
    case 'muloco':
      return muloco(settings)
    case 'noloco':
      return noloco(settings)
    case 'sparse-loco':
      return sparseLoco(settings)
    default:
      throw new TypeError(`no method ${String(method satisfies never)}`)
  }
}
