/**
 * One cell of a table of losses: one method with M replicas and one seed, trained to a number of tokens. The batch of all
 * replicas together is the same for every M, so that M replicas take as many steps as one does, each on a 1/M of the
 * batch: equal tokens, equal steps, one schedule, as in the published scaling laws of DiLoCo
 * (https://arxiv.org/abs/2503.09799).
 */
import { resolve } from 'node:path'
import { collectCorpus, findInstalledPackages } from '../../src/cli/demo/corpus.ts'
import { demoSettings } from '../../src/cli/demo-settings.ts'
import { buildDataset, type Dataset, loadDocuments, openDataset } from '../../src/data/index.ts'
import { byteTokenizer, initialParameters } from '../../src/model/index.ts'
import { nodeFiles, trainTogether } from '../../src/run/index.ts'
import type { Backend } from '../../src/runtime/index.ts'
import { createSyncMethod, type SyncSettings } from '../../src/sync/index.ts'
import { type OptimiserSettings, scheduleSchema, type TrainerSettings } from '../../src/train/index.ts'
import { methodBits } from './method-bits.ts'
import { type MethodCase, modelCase } from './settings.ts'

/** All that a cell depends on. */
export interface TrainingKey {
  readonly method: string
  readonly sync: SyncSettings
  readonly optimiser: OptimiserSettings
  /** What its code comes to (method-bits.ts). */
  readonly bits: string
  readonly model: string
  /** Name and size of the text. */
  readonly text: string
  readonly replicas: number
  readonly seed: number
  readonly shape: RunShape
}

export interface RunShape {
  /** Of all replicas together, as they were asked for. */
  readonly tokens: number
  /** Sequences per step of all replicas together. */
  readonly batchSize: number
  readonly sequenceLength: number
  readonly warmupSteps: number
  /** Sequences of the held-out text that the loss is measured on. */
  readonly validationSequences: number
  /** Measurements of it over a run. */
  readonly measurements: number
}

export interface TrainingValue {
  /** Validation loss in nats per token, with the tokens of all replicas that it took. */
  readonly losses: readonly { readonly tokens: number; readonly loss: number }[]
  readonly parameters: number
  readonly rounds: number
  readonly steps: number
  /** Of one peer's update. */
  readonly bytesPerParameterPerRound: number
  /** What one peer sends over the whole run, once. */
  readonly bytesPerPeer: number
  readonly seconds: number
}

export interface TextSource {
  readonly name: string
  dataset(seed: number): Promise<Dataset>
}

/** A folder or file of text, or what the demo collects from the install. */
export async function textSource(path: string | undefined): Promise<TextSource> {
  const documents =
    path === undefined
      ? await collectCorpus(await findInstalledPackages(import.meta.dirname), {
          maxBytes: demoSettings.corpusBytes,
        })
      : (await loadDocuments(nodeFiles(), resolve(path))).documents
  const characters = documents.reduce((sum, { text }) => sum + text.length, 0)
  const kept = new Map<number, Promise<Dataset>>()
  const build = async (seed: number): Promise<Dataset> => {
    const tokenizer = byteTokenizer()
    const built = await buildDataset({ documents, tokenizer, heldOutFraction: 0.05, seed })
    return openDataset(built.manifestBytes, (cid) => built.shards.get(cid))
  }
  const name =
    path === undefined ? 'texts of the installed packages' : path.split('/').filter(Boolean).at(-1)!
  return {
    name: `${name}, ${characters} characters`,
    dataset: (seed) => {
      const dataset = kept.get(seed) ?? build(seed)
      kept.set(seed, dataset)
      return dataset
    },
  }
}

export function trainingKey(
  method: MethodCase,
  given: Pick<TrainingKey, 'model' | 'text' | 'replicas' | 'seed' | 'shape'>,
): TrainingKey {
  const { name, sync, optimiser } = method
  const { model, text, replicas, seed, shape } = given
  return {
    method: name,
    sync,
    optimiser,
    bits: methodBits(sync),
    model,
    text,
    replicas,
    seed,
    shape,
  }
}

export interface EqualTokens {
  /** Sequences per step of one replica. */
  readonly replicaBatch: number
  readonly rounds: number
  /** Of each replica. */
  readonly steps: number
  /** Of all replicas: what was asked for, to the nearest whole round. */
  readonly tokens: number
}

/** How M replicas share the batches of one. @throws RangeError when the batch cannot be shared so */
export function equalTokens(shape: RunShape, replicas: number, innerSteps: number): EqualTokens {
  const { batchSize, sequenceLength, tokens } = shape
  if (batchSize % replicas !== 0) {
    throw new RangeError(`${replicas} replicas cannot share a batch of ${batchSize} sequences.`)
  }
  const stepTokens = batchSize * sequenceLength
  const rounds = Math.max(1, Math.round(tokens / (stepTokens * innerSteps)))
  const steps = rounds * innerSteps
  return { replicaBatch: batchSize / replicas, rounds, steps, tokens: steps * stepTokens }
}

const vocabulary = (): { size: number; endOfText: number } => {
  const { vocabularySize: size, endOfTextId: endOfText } = byteTokenizer()
  return { size, endOfText }
}

export const byteModel = (name: string): ReturnType<typeof modelCase> => modelCase(name, vocabulary())

export function innerSettings(key: TrainingKey, share: EqualTokens): TrainerSettings {
  const { shape, optimiser } = key
  return {
    ...{ steps: share.steps, batchSize: share.replicaBatch, gradientAccumulation: 1 },
    sequenceLength: shape.sequenceLength,
    optimiser,
    schedule: scheduleSchema.parse({ kind: 'cosine', warmupSteps: shape.warmupSteps }),
  }
}

export async function trainCell(
  key: TrainingKey,
  means: { readonly backend: Backend; readonly text: TextSource },
): Promise<TrainingValue> {
  const { sync, replicas, seed, shape } = key
  const method = createSyncMethod(sync)
  const share = equalTokens(shape, replicas, method.innerSteps)
  const { config, parameters } = byteModel(key.model)
  const started = performance.now()
  const { losses, bytesPerParameterPerRound, report } = await trainTogether({
    ...{ backend: means.backend, sync, replicas, seed, rounds: share.rounds },
    model: config,
    parameters: initialParameters(config, seed),
    dataset: await means.text.dataset(seed),
    inner: innerSettings(key, share),
    evaluationBatches: Math.max(1, Math.round(shape.validationSequences / share.replicaBatch)),
    evaluateEveryRounds: Math.max(1, Math.floor(share.rounds / shape.measurements)),
  })
  return {
    losses: losses.map(({ tokens, loss }) => ({ tokens, loss: Number(loss.toFixed(5)) })),
    ...{ parameters, rounds: share.rounds, steps: share.steps },
    bytesPerParameterPerRound,
    bytesPerPeer: report.updateBytes / replicas,
    seconds: Math.round((performance.now() - started) / 100) / 10,
  }
}
