/** The demo's model, text and settings, ready to be trained by several simulated peers in one process. */
import type { Files } from '../../core/index.ts'
import { buildDataset, type Dataset, type Document, loadDocuments, openDataset } from '../../data/index.ts'
import {
  byteTokenizer,
  initialParameters,
  type LlamaConfig,
  llamaConfig,
  type Parameters,
} from '../../model/index.ts'
import { optimiserSchema, scheduleSchema, type TrainerSettings } from '../../train/index.ts'
import { collectCorpus, findInstalledPackages } from '../demo/corpus.ts'
import { demoSettings } from '../demo-settings.ts'

export interface DemoTraining {
  readonly model: LlamaConfig
  readonly parameters: Parameters
  readonly dataset: Dataset
  readonly inner: TrainerSettings
  readonly evaluationBatches: number
}

/** @param options `steps`: where the schedule ends; `seed`: of the first parameters and the held-out text */
export async function demoTraining(options: {
  readonly files: Files
  /** A folder or file to learn from; the texts of the install when there is none. */
  readonly data: string | undefined
  readonly steps: number
  readonly seed: number
  readonly signal: AbortSignal
}): Promise<DemoTraining> {
  const { steps, seed, signal } = options
  const tokenizer = byteTokenizer()
  const built = await buildDataset({
    documents: await documentsOf(options),
    tokenizer,
    heldOutFraction: 0.05,
    seed,
    signal,
  })
  const model = llamaConfig({
    ...demoSettings.model,
    vocabularySize: tokenizer.vocabularySize,
    bosTokenId: tokenizer.endOfTextId,
    eosTokenId: tokenizer.endOfTextId,
  })
  const { batchSize, sequenceLength, learningRate, warmupSteps, evaluationBatches } = demoSettings
  return {
    model,
    parameters: initialParameters(model, seed),
    dataset: await openDataset(built.manifestBytes, (cid) => built.shards.get(cid), { signal }),
    inner: {
      ...{ steps, batchSize, sequenceLength, gradientAccumulation: 1 },
      optimiser: optimiserSchema.parse({ learningRate }),
      schedule: scheduleSchema.parse({ kind: 'cosine', warmupSteps }),
    },
    evaluationBatches,
  }
}

async function documentsOf(options: {
  readonly files: Files
  readonly data: string | undefined
  readonly signal: AbortSignal
}): Promise<readonly Document[]> {
  const { files, data, signal } = options
  if (data !== undefined) return (await loadDocuments(files, data, { signal })).documents
  const maxBytes = demoSettings.corpusBytes
  return collectCorpus(await findInstalledPackages(import.meta.dirname), { maxBytes, signal })
}
