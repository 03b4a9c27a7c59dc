/**
 * What a peer does in a run, made from the run's manifest: the data fetched and opened, the training step compiled,
 * and the parameters flat, as peers exchange them.
 */
import { batchAt, openDataset } from '../data/index.ts'
import { flatten, layoutOf, unflatten } from '../model/index.ts'
import type { PrepareContext, Workload } from '../run/index.ts'
import type { Backend } from '../runtime/index.ts'
import { Trainer } from '../train/index.ts'

export interface OpenedWorkload extends Workload, AsyncDisposable {}

export async function openWorkload(context: PrepareContext, backend: Backend): Promise<OpenedWorkload> {
  const { manifest, signal } = context
  const { inner, model: config, seed } = manifest
  const layout = layoutOf(config)
  const dataset = await openDataset(await context.fetchBlob(manifest.data), (cid) => context.fetchBlob(cid), {
    signal,
  })
  const trainer = await Trainer.create({
    backend,
    config,
    // Replaced before the first step: each round starts from what was merged.
    parameters: unflatten(new Float32Array(layout.totalSize), layout),
    settings: inner,
  })
  const batchSize = inner.batchSize * inner.gradientAccumulation
  return {
    trainer: {
      step: (tokens, globalStep) => trainer.step(tokens, { scheduleStep: globalStep }),
      parameters: async () => flatten(await trainer.parameters(), layout),
      setParameters: (flat) => trainer.setParameters(unflatten(flat, layout)),
    },
    batchAt: (at) => batchAt(dataset, { ...at, seed, batchSize, sequenceLength: inner.sequenceLength }),
    [Symbol.asyncDispose]: () => trainer[Symbol.asyncDispose](),
  }
}
