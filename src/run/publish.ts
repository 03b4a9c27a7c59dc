/**
 * Putting a run into a blob store, so that peers can fetch all of it by name: data shards under their manifest, the
 * tokenizer, the training programs and the first checkpoint; and the run's manifest, which names them.
 */
import type { Cid } from '../core/index.ts'
import type { BuiltDataset } from '../data/index.ts'
import { flatten, type LlamaConfig, layoutOf, type Parameters } from '../model/index.ts'
import { type Blobs, memoryBlobs, putArtifact } from '../swarm/index.ts'
import { createSyncMethod } from '../sync/index.ts'
import { emitOnnx } from '../tensor/index.ts'
import { gradientPrograms, stepPrograms } from '../train/index.ts'
import type { Manifest } from './manifest.ts'

/** What a run starts from, and how it goes on. */
export interface RunDescription extends Pick<Manifest, 'name' | 'inner' | 'sync' | 'seed' | 'rounds'> {
  readonly dataset: BuiltDataset
  readonly model: LlamaConfig
  readonly parameters: Parameters
}

/** @throws the signal's reason; what is published by then stays, and is not written again */
export async function publishRun(blobs: Blobs, run: RunDescription, signal?: AbortSignal): Promise<Manifest> {
  const { dataset, model, parameters, name, inner, sync, seed, rounds } = run
  for (const [cid, bytes] of dataset.shards) {
    signal?.throwIfAborted()
    await blobs.put(bytes, { expected: cid })
  }
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
    programs: await putPrograms(blobs, { model, inner, sync }),
    initialCheckpoint: await putArtifact(blobs, initial, signal),
    inner,
    sync,
    seed,
    rounds,
  }
}

/** The programs that a manifest must name for its training step, if it is to mean what it means here. */
export function programsOf(
  manifest: Pick<Manifest, 'model' | 'inner' | 'sync'>,
): Promise<Record<string, Cid>> {
  return putPrograms(memoryBlobs(), manifest)
}

/** All peers of a run train with these programs, whatever backend they run them on. */
async function putPrograms(
  blobs: Blobs,
  { model: config, inner, sync }: Pick<Manifest, 'model' | 'inner' | 'sync'>,
): Promise<Record<string, Cid>> {
  const { batchSize, sequenceLength, gradientAccumulation, optimiser } = inner
  const programs: Record<string, Cid> = {}
  const options = { config, batchSize, sequenceLength, gradientAccumulation, optimiser }
  const { quantity } = createSyncMethod(sync)
  const made = quantity === 'gradient' ? gradientPrograms(options) : stepPrograms(options)
  for (const [name, program] of Object.entries(made)) {
    const { bytes } = emitOnnx(program, { dialect: 'portable' })
    programs[`${name}.portable`] = await putArtifact(blobs, bytes)
  }
  return programs
}
