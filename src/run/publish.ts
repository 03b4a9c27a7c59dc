/**
 * Putting a run into a blob store, so that peers can fetch all of it by name: data shards under their manifest, the
 * tokenizer, the training program and the first checkpoint; and the run's manifest, which names them.
 */
import type { Cid } from '../core/index.ts'
import type { BuiltDataset } from '../data/index.ts'
import { flatten, type LlamaConfig, layoutOf, type Parameters } from '../model/index.ts'
import { type Blobs, memoryBlobs, putArtifact } from '../swarm/index.ts'
import { createSyncMethod } from '../sync/index.ts'
import { emitOnnx } from '../tensor/index.ts'
import { buildTrainStep } from '../train/index.ts'
import type { Manifest } from './manifest.ts'

/** What a run starts from, and how it goes on. */
export interface RunDescription extends Pick<Manifest, 'name' | 'inner' | 'sync' | 'seed' | 'rounds'> {
  readonly dataset: BuiltDataset
  readonly model: LlamaConfig
  readonly parameters: Parameters
}

/** The program that all peers of a run train with, whatever backend they run it on. */
export const trainStepProgram = 'train-step.portable'

export async function publishRun(blobs: Blobs, run: RunDescription): Promise<Manifest> {
  const { dataset, model, parameters, name, inner, sync, seed, rounds } = run
  for (const [cid, bytes] of dataset.shards) await blobs.put(bytes, { expected: cid })
  await blobs.put(dataset.manifestBytes, { expected: dataset.manifestCid })
  const method = createSyncMethod(sync)
  const layout = layoutOf(model)
  const initial = method.serialiseState(method.createState(layout, flatten(parameters, layout)))
  return {
    format: 'groundswell/manifest/1',
    name,
    model,
    tokenizer: await putArtifact(blobs, dataset.tokenizerBytes),
    data: dataset.manifestCid,
    programs: { [trainStepProgram]: await putArtifact(blobs, trainStepBytes({ model, inner })) },
    initialCheckpoint: await putArtifact(blobs, initial),
    inner,
    sync,
    seed,
    rounds,
  }
}

/** The CID that a manifest must name for its training step, if it is to mean what it means here. */
export function trainStepCid(manifest: Pick<Manifest, 'model' | 'inner'>): Promise<Cid> {
  return putArtifact(memoryBlobs(), trainStepBytes(manifest))
}

function trainStepBytes({ model: config, inner }: Pick<Manifest, 'model' | 'inner'>): Uint8Array {
  const { batchSize, sequenceLength, gradientAccumulation, optimiser } = inner
  const program = buildTrainStep({ config, batchSize, sequenceLength, gradientAccumulation, optimiser })
  return emitOnnx(program, { dialect: 'portable' }).bytes
}
