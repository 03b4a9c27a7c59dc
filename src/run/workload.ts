/**
 * What a peer does in a run, made from the run's manifest: the data fetched and opened, the training step compiled,
 * and the parameters flat, as peers exchange them.
 */
import { GroundswellError } from '../core/index.ts'
import { batchAt, openDataset } from '../data/index.ts'
import { flatten, layoutOf, unflatten } from '../model/index.ts'
import type { Backend } from '../runtime/index.ts'
import { Trainer } from '../train/index.ts'
import { programsOf } from './publish.ts'
import type { PrepareContext, Workload } from './trainer-peer.ts'

export interface OpenedWorkload extends Workload, AsyncDisposable {}

/**
 * @throws GroundswellError `run/other-program` when the run was made with another training step than this version has
 */
export async function openWorkload(context: PrepareContext, backend: Backend): Promise<OpenedWorkload> {
  const { manifest, signal } = context
  const { inner, model: config, seed } = manifest
  const layout = layoutOf(config)
  for (const [name, cid] of Object.entries(await programsOf(manifest))) {
    if (manifest.programs[name] === cid) continue
    throw new GroundswellError('The run trains with another program than this version of Groundswell has.', {
      code: 'run/other-program',
      remedy: 'Install the version that the host runs.',
    })
  }
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
