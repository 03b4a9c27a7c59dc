/**
 * Putting a prepared run into a blob store, so that peers can fetch all of it by name: data shards under their
 * manifest, the tokenizer, and the first checkpoint; and the run's manifest, which names them.
 */
import { flatten, layoutOf } from '../model/index.ts'
import type { Manifest } from '../run/index.ts'
import { type Blobs, putArtifact } from '../swarm/index.ts'
import { createSyncMethod } from '../sync/index.ts'
import { emitOnnx } from '../tensor/index.ts'
import { buildTrainStep } from '../train/index.ts'
import type { PreparedRun } from './prepare.ts'
import type { RunFile } from './run-file.ts'

export async function publishRun(blobs: Blobs, run: RunFile, prepared: PreparedRun): Promise<Manifest> {
  const { built, config, parameters } = prepared
  for (const [cid, bytes] of built.shards) await blobs.put(bytes, { expected: cid })
  await blobs.put(built.manifestBytes, { expected: built.manifestCid })
  const method = createSyncMethod(run.sync)
  const layout = layoutOf(config)
  const initial = method.serialiseState(method.createState(layout, flatten(parameters, layout)))
  const { steps, batchSize, sequenceLength, gradientAccumulation, optimiser, schedule } = run.training
  const program = emitOnnx(
    buildTrainStep({ config, batchSize, sequenceLength, gradientAccumulation, optimiser }),
    { dialect: 'portable' },
  )
  const { name, minimumPeers, maximumPeers, quorum } = run.run
  return {
    format: 'groundswell/manifest/1',
    name,
    model: config,
    tokenizer: await putArtifact(blobs, built.tokenizerBytes),
    data: built.manifestCid,
    programs: { 'train-step.portable': await putArtifact(blobs, program.bytes) },
    initialCheckpoint: await putArtifact(blobs, initial),
    inner: { steps, batchSize, sequenceLength, gradientAccumulation, optimiser, schedule },
    sync: run.sync,
    seed: run.seed,
    rounds: {
      rounds: roundsOf(run),
      minimumPeers,
      maximumPeers,
      quorum,
      graceMs: Math.round(run.run.graceSeconds * 1000),
      maxRoundMs: Math.round(run.run.maxRoundSeconds * 1000),
      vanishAfterMs: Math.round(run.run.vanishAfterSeconds * 1000),
    },
  }
}

/** Rounds in which a peer that is always there takes the steps asked for. */
function roundsOf(run: RunFile): number {
  return Math.ceil(run.training.steps / run.sync.innerSteps)
}
