/**
 * Which method a run uses, as it stands in a run file and in a manifest, and the method made from it. A new method
 * adds its schema to the union and its line to the switch.
 */
import { z } from 'zod'
import { diloco } from './diloco.ts'
import type { EncodingName } from './encodings.ts'
import type { SyncMethod } from './method.ts'

interface DilocoSettings {
  readonly method: 'diloco'
  /** H, inner steps between two merges. */
  readonly innerSteps: number
  /** η of the outer Nesterov step. */
  readonly outerLearningRate: number
  /** μ of the outer Nesterov step; 0 leaves plain averaging with the outer rate. */
  readonly outerMomentum: number
  /** How updates travel: 4 bytes per parameter, or about one. */
  readonly encoding: EncodingName
}

export type SyncSettings = DilocoSettings

/** Defaults are those of the DiLoCo paper, except for H = 500 and float32, which suit larger models. */
const dilocoSettingsSchema = z.strictObject({
  method: z.literal('diloco'),
  innerSteps: z.int().min(1).max(100_000).default(30),
  outerLearningRate: z.number().positive().max(10).default(0.7),
  outerMomentum: z.number().min(0).lt(1).default(0.9),
  encoding: z.enum(['float32', 'int8']).default('int8'),
})

export const syncSettingsSchema: z.ZodType<SyncSettings> = z.discriminatedUnion('method', [
  dilocoSettingsSchema,
])

export function createSyncMethod(settings: SyncSettings): SyncMethod {
  const { method } = settings
  switch (method) {
    case 'diloco':
      return diloco(settings)
    default:
      throw new TypeError(`no method ${String(method satisfies never)}`)
  }
}
