/**
 * What a peer does in a run, made from the run's manifest: the data fetched and opened, the training step compiled,
 * and the parameters flat, as peers exchange them.
 */
import { GroundswellError } from '../core/index.ts'
import { batchNumbered, openDataset } from '../data/index.ts'
import { layoutOf, type ParameterLayout, unflatten } from '../model/index.ts'
import type { Backend } from '../runtime/index.ts'
import { createSyncMethod } from '../sync/index.ts'
import { GradientTrainer, Trainer, type TrainerOptions } from '../train/index.ts'
import type { InnerTrainer, PrepareContext, Workload } from './inner-trainer.ts'
import { programsOf } from './publish.ts'

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
  const engine = {
    ...{ backend, config, settings: inner },
    // Replaced before the first step that counts: each lease starts from what was merged.
    parameters: unflatten(new Float32Array(layout.totalSize), layout),
  }
  const { quantity } = createSyncMethod(manifest.sync)
  const { trainer, dispose } =
    quantity === 'gradient' ? await gradientTrainer(engine, layout) : await stepTrainer(engine, layout)
  const batchSize = inner.batchSize * inner.gradientAccumulation
  const { sequenceLength } = inner
  return {
    trainer,
    batch: (batch) => batchNumbered(dataset, { seed, batch, batchSize, sequenceLength }),
    [Symbol.asyncDispose]: dispose,
  }
}

interface Opened {
  readonly trainer: InnerTrainer
  readonly dispose: () => Promise<void>
}

async function stepTrainer(engine: TrainerOptions, layout: ParameterLayout): Promise<Opened> {
  const trainer = await Trainer.create(engine)
  return {
    trainer: {
      step: (tokens, options) => trainer.step(tokens, options),
      gradient: () => Promise.reject(new TypeError('This run exchanges parameters, not gradients.')),
      parameters: () => trainer.flatParameters(),
      setParameters: (flat) => trainer.setParameters(unflatten(flat, layout)),
      reset: () => trainer.resetOptimiser(),
    },
    dispose: () => trainer[Symbol.asyncDispose](),
  }
}

async function gradientTrainer(engine: TrainerOptions, layout: ParameterLayout): Promise<Opened> {
  const trainer = await GradientTrainer.create(engine)
  return {
    trainer: {
      step: () => Promise.reject(new TypeError('This run exchanges gradients, not parameters.')),
      gradient: async (tokens) => {
        const { gradient, loss, tokens: predicted } = await trainer.gradient(tokens)
        return { loss, tokens: predicted, gradient }
      },
      parameters: () => Promise.reject(new TypeError('This run exchanges gradients, not parameters.')),
      setParameters: (flat) => trainer.setParameters(unflatten(flat, layout)),
      reset: async () => undefined, // it has no optimiser
    },
    dispose: () => trainer[Symbol.asyncDispose](),
  }
}
