/**
 * What the tables compare: every method with the settings of its card (docs/methods.md), scaled to runs of a few hundred
 * steps, and the models that are trained.
 *
 * Three things differ from the cards, for all methods alike. H is 10 where the cards have 30 and more, so that a run of
 * a few hundred steps has dozens of merges; but 32 with two bits per value and 64 with four for those whose bytes are to
 * be a 500th of data parallelism's (MuLoCo, and Streaming DiLoCo). The outer momentum of DiLoCo and its kin is 0.6 where
 * it is 0.9: in so few rounds a momentum that sums up ten of them overshoots; and with H = 10 a rate of 0.4 goes better
 * with it than 0.7 (table 4). And beside the methods with AdamW as their inner optimiser there are some with Muon
 * (…-muon), and training with Muon on one machine (`muon`: the whole batch, merged every 10 steps by one replica, which
 * changes nothing), so that a gap can be told from an optimiser.
 *
 * Inner rates of AdamW are the best of ⅓, 1, 3 and 9 · 10⁻³ for the 0.4M model with 4 replicas and seed 1 (data
 * parallelism: 1), after 100 steps, and between 3 and 9 · 10⁻³ after 300. The 3.3M model has a third of them, which for
 * data parallelism is the best of 0.6, 1 and 2 · 10⁻³ (docs/experiments.md); Muon's, whose scale does not hang on the
 * width, and those of DeMo and DisTrO stay.
 */
import { type LlamaConfig, layoutOf, llamaConfig } from '../../src/model/index.ts'
import { type SyncSettings, syncSettingsSchema } from '../../src/sync/index.ts'
import { type OptimiserSettings, optimiserSchema } from '../../src/train/index.ts'

export interface MethodCase {
  readonly name: string
  readonly sync: SyncSettings
  readonly optimiser: OptimiserSettings
}

const outer = { outerLearningRate: 0.7, outerMomentum: 0.6 } as const
const innerSteps = 10
/** Of DiLoCo, and of what is DiLoCo but for one thing. */
const everyTenSteps = { innerSteps, ...outer, outerLearningRate: 0.4 } as const

interface Given {
  readonly sync: Readonly<Record<string, unknown>> & { readonly method: string }
  /** Of the inner optimiser. */
  readonly kind?: 'adamw' | 'muon'
  /** Its learning rate: of smaller models, and of the one with 3.3M parameters. */
  readonly rates: readonly [small: number, large: number]
}

const adamw = (small: number): Pick<Given, 'rates'> => ({ rates: [small, small / 3] })
const muon = { kind: 'muon', rates: [9e-3, 9e-3] } as const

const given: Readonly<Record<string, Given>> = {
  'data-parallel': { sync: { method: 'data-parallel' }, ...adamw(3e-3) },
  diloco: { sync: { method: 'diloco', ...everyTenSteps }, ...adamw(3e-3) },
  'streaming-diloco': {
    sync: { method: 'streaming-diloco', innerSteps: 64, ...outer },
    ...adamw(3e-3),
  },
  'sparse-loco': { sync: { method: 'sparse-loco', innerSteps }, ...adamw(9e-3) },
  'sparse-overlap': {
    sync: { method: 'sparse-loco', innerSteps, overlapSteps: 1 },
    ...adamw(9e-3),
  },
  decoupled: { sync: { method: 'decoupled', ...everyTenSteps }, ...adamw(3e-3) },
  noloco: {
    sync: { method: 'noloco', innerSteps, outerLearningRate: 0.7, outerMomentum: 0.5 },
    ...adamw(3e-3),
  },
  muloco: {
    sync: { method: 'muloco', innerSteps: 32, ...outer },
    ...muon,
  },
  'streaming-muon': {
    sync: { method: 'streaming-diloco', innerSteps: 32, ...outer, encoding: 'int2' },
    ...muon,
  },
  'sparse-muon': { sync: { method: 'sparse-loco', innerSteps }, ...muon },
  muon: {
    sync: {
      ...{ method: 'diloco', innerSteps, encoding: 'float32' },
      ...{ outerLearningRate: 1, outerMomentum: 0 },
    },
    ...muon,
  },
  demo: { sync: { method: 'demo' }, rates: [3e-3, 3e-3] },
  distro: { sync: { method: 'distro' }, rates: [1e-3, 1e-3] },
}

export const methodNames: readonly string[] = Object.keys(given)

/** Methods that a single replica stands for, whatever their number. */
export const soloMethods: ReadonlySet<string> = new Set(['data-parallel', 'muon'])

/** With the inner rate for that model. @throws Error for a name that is none */
export function methodCase(name: string, model = '0.4M'): MethodCase {
  const found = given[name]
  if (found === undefined) {
    throw new Error(`There is no method “${name}”; choose from ${methodNames.join(', ')}.`)
  }
  const { sync, kind = 'adamw', rates } = found
  const optimiser = { kind, learningRate: rates[model === '3.3M' ? 1 : 0] }
  const inner = optimiserSchema.parse(optimiser)
  // Data parallelism has its optimiser in the merge.
  const merged = sync.method === 'data-parallel' ? { ...sync, optimiser } : sync
  return { name, sync: syncSettingsSchema.parse(merged), optimiser: inner }
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
