/**
 * The validation loss of a run's checkpoints, from what the run's manifest names: a host that goes on with a run has
 * no need of the files that the run was made from.
 */
import { openDataset, validationBitsPerByte } from '../data/index.ts'
import { layoutOf, unflatten } from '../model/index.ts'
import type { Manifest } from '../run/index.ts'
import { type Blobs, needBlob } from '../swarm/index.ts'
import { Evaluator, evaluateOn } from '../train/index.ts'
import { openChosenBackend } from './backend.ts'
import type { RunFile } from './run-file-schema.ts'

export interface CheckpointLoss extends AsyncDisposable {
  /** Of flat parameters: nats per token, and bits per byte of text. */
  measure(flat: Float32Array): Promise<{ loss: number; bitsPerByte: number }>
}

/** @throws GroundswellError of `backend/`; the signal's reason */
export async function openCheckpointLoss(
  { manifest, blobs, run }: { readonly manifest: Manifest; readonly blobs: Blobs; readonly run: RunFile },
  signal: AbortSignal,
): Promise<CheckpointLoss> {
  const layout = layoutOf(manifest.model)
  const dataset = await openDataset(await needBlob(blobs, manifest.data), (cid) => needBlob(blobs, cid), {
    signal,
  })
  const backend = await openChosenBackend(run.runtime, signal)
  try {
    const evaluator = await Evaluator.create({
      ...{ backend, config: manifest.model },
      // Replaced before every measurement.
      parameters: unflatten(new Float32Array(layout.totalSize), layout),
      batchSize: run.training.batchSize,
      sequenceLength: run.training.sequenceLength,
    })
    return {
      measure: async (flat) => {
        await evaluator.setParameters(unflatten(flat, layout))
        const loss = await evaluateOn(evaluator, dataset, run.training, signal)
        return { loss, bitsPerByte: validationBitsPerByte(dataset.manifest, loss) }
      },
      [Symbol.asyncDispose]: async () => {
        await evaluator[Symbol.asyncDispose]()
        await backend[Symbol.asyncDispose]()
      },
    }
  } catch (thrown) {
    await backend[Symbol.asyncDispose]()
    throw thrown
  }
}
