/**
 * What the tables compare: every method with the settings of its card (docs/methods.md), scaled to runs of a few hundred
 * steps, and the models that are trained.
 *
 * Two things differ from the cards, for all methods alike. H is 10 where the cards have 30 and more, so that a run of
 * a few hundred steps has dozens of merges, and the outer momentum of DiLoCo and its kin is 0.6 where it is 0.9: in so
 * few rounds a momentum that sums up ten of them overshoots (docs/experiments.md measures both). AdamW's inner rate is
 * the best of docs/experiments.md for this text and model. Muon's, DeMo's and DisTrO's are the best of ⅓, 1 and 3 times
 * 1e-3 for the 0.4M model with 4 replicas, 100 steps and one seed (`--model 0.4M --tokens 102400 --rate-factors`).
 */
import { type LlamaConfig, layoutOf, llamaConfig } from '../../src/model/index.ts'
import { type SyncSettings, syncSettingsSchema } from '../../src/sync/index.ts'
import { type OptimiserSettings, optimiserSchema } from '../../src/train/index.ts'

export interface MethodCase {
  readonly name: string
  /** Where its code begins, in src/sync. */
  readonly source: string
  readonly sync: SyncSettings
  readonly optimiser: OptimiserSettings
}

const outer = { outerLearningRate: 0.7, outerMomentum: 0.6 } as const
const innerSteps = 10

interface Given {
  readonly sync: Readonly<Record<string, unknown>> & { readonly method: string }
  readonly optimiser: Readonly<Record<string, unknown>>
  readonly source?: string
}

const given: Readonly<Record<string, Given>> = {
  'data-parallel': { sync: { method: 'data-parallel' }, optimiser: { learningRate: 1e-3 } },
  diloco: { sync: { method: 'diloco', innerSteps, ...outer }, optimiser: { learningRate: 1e-3 } },
  'streaming-diloco': {
    sync: { method: 'streaming-diloco', innerSteps, outerLearningRate: 0.7, outerMomentum: 0.6 },
    optimiser: { learningRate: 1e-3 },
  },
  'sparse-loco': { sync: { method: 'sparse-loco', innerSteps }, optimiser: { learningRate: 1e-3 } },
  decoupled: { sync: { method: 'decoupled', innerSteps, ...outer }, optimiser: { learningRate: 1e-3 } },
  noloco: {
    sync: { method: 'noloco', innerSteps, outerLearningRate: 0.7, outerMomentum: 0.5 },
    optimiser: { learningRate: 1e-3 },
  },
  muloco: {
    sync: { method: 'diloco', innerSteps, ...outer, encoding: 'int2', errorFeedback: 0.95 },
    optimiser: { kind: 'muon', learningRate: 3e-3 },
    source: 'diloco',
  },
  demo: { sync: { method: 'demo' }, optimiser: { learningRate: 3e-3 } },
  distro: { sync: { method: 'distro' }, optimiser: { learningRate: 1e-3 }, source: 'demo' },
}

export const methodNames: readonly string[] = Object.keys(given)

/** @throws Error for a name that is none */
export function methodCase(name: string): MethodCase {
  const found = given[name]
  if (found === undefined) {
    throw new Error(`There is no method “${name}”; choose from ${methodNames.join(', ')}.`)
  }
  const { sync, optimiser, source = name } = found
  const inner = optimiserSchema.parse(optimiser)
  // Data parallelism has its optimiser in the merge.
  const merged = sync.method === 'data-parallel' ? { ...sync, optimiser } : sync
  return { name, source, sync: syncSettingsSchema.parse(merged), optimiser: inner }
}

export interface ModelCase {
  readonly name: string
  readonly config: LlamaConfig
  readonly parameters: number
}

/** Byte-level Llamas; heads of 64, but of 32 in the smallest. */
const shapes: Readonly<
  Record<string, readonly [layers: number, hidden: number, inner: number, heads: number]>
> = {
  toy: [1, 16, 32, 2],
  '0.4M': [3, 96, 256, 3],
  '1.2M': [4, 160, 384, 4],
  '3.3M': [4, 256, 688, 4],
}

const modelNames: readonly string[] = Object.keys(shapes)

/** @throws Error for a name that is none */
export function modelCase(name: string, vocabulary: { size: number; endOfText: number }): ModelCase {
  const shape = shapes[name]
  if (shape === undefined) {
    throw new Error(`There is no model “${name}”; choose from ${modelNames.join(', ')}.`)
  }
  const [layers, hiddenSize, intermediateSize, attentionHeads] = shape
  const config = llamaConfig({
    vocabularySize: vocabulary.size,
    ...{ layers, hiddenSize, intermediateSize, attentionHeads },
    ...{ bosTokenId: vocabulary.endOfText, eosTokenId: vocabulary.endOfText },
  })
  return { name, config, parameters: layoutOf(config).totalSize }
}
