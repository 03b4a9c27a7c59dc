/**
 * A Llama and its optimiser as the learner of a simulation: one trainer on one backend, whose parameters and moments
 * are exchanged for those of the peer whose turn it is.
 */
import { orDispose } from '../../core/index.ts'
import { type Dataset, validationBatches } from '../../data/index.ts'
import {
  type LlamaConfig,
  layoutOf,
  type ParameterLayout,
  type Parameters,
  unflatten,
} from '../../model/index.ts'
import type { Backend } from '../../runtime/index.ts'
import type { SyncMethod } from '../../sync/index.ts'
import {
  Evaluator,
  GradientTrainer,
  Trainer,
  type TrainerOptions,
  type TrainerSettings,
  type TrainerSnapshot,
} from '../../train/index.ts'
import type { Learner } from './swarm-training.ts'

export interface LlamaLearnerOptions {
  readonly backend: Backend
  readonly model: LlamaConfig
  readonly parameters: Parameters
  readonly inner: TrainerSettings
  readonly dataset: Dataset
  readonly evaluationBatches: number
}

/** For methods that exchange gradients, `quantity` 'gradient', it has no optimiser and gives gradients alone. */
export async function llamaLearner(
  options: LlamaLearnerOptions,
  quantity: SyncMethod['quantity'],
): Promise<Learner & AsyncDisposable> {
  const { backend, model: config, parameters, inner, dataset, evaluationBatches } = options
  const { batchSize, sequenceLength } = inner
  const layout = layoutOf(config)
  const evaluator = await Evaluator.create({ backend, config, parameters, batchSize, sequenceLength })
  const validation = validationBatches(dataset, { batchSize, sequenceLength, maxBatches: evaluationBatches })
  const engine = { backend, config, parameters, settings: inner }
  const learner = await orDispose(evaluator, () =>
    quantity === 'gradient' ? gradientsOf(engine, layout) : stepsOf(engine, layout),
  )
  return {
    ...learner,
    evaluate: async (flat) => {
      await evaluator.setParameters(unflatten(flat, layout))
      return evaluator.evaluate(validation)
    },
    [Symbol.asyncDispose]: async () => {
      await evaluator[Symbol.asyncDispose]()
      await learner[Symbol.asyncDispose]()
    },
  }
}

type Engine = Omit<Learner, 'evaluate'> & AsyncDisposable

async function stepsOf(options: TrainerOptions, layout: ParameterLayout): Promise<Engine> {
  const trainer = await Trainer.create(options)
  const fresh = await orDispose(trainer, () => trainer.snapshot())
  return {
    step: (tokens, at) => trainer.step(tokens, at),
    gradient: () => Promise.reject(new TypeError('This method exchanges parameters, not gradients.')),
    parameters: () => trainer.flatParameters(),
    setParameters: (flat) => trainer.setParameters(unflatten(flat, layout)),
    reset: () => trainer.resetOptimiser(),
    memory: () => trainer.snapshot(),
    recall: (memory) => trainer.restore((memory as TrainerSnapshot | undefined) ?? fresh),
    [Symbol.asyncDispose]: () => trainer[Symbol.asyncDispose](),
  }
}

async function gradientsOf(options: TrainerOptions, layout: ParameterLayout): Promise<Engine> {
  const trainer = await GradientTrainer.create(options)
  const parameters = (): Promise<never> =>
    Promise.reject(new TypeError('This method exchanges gradients, not parameters.'))
  return {
    step: parameters,
    parameters,
    gradient: (tokens) => trainer.gradient(tokens),
    setParameters: (flat) => trainer.setParameters(unflatten(flat, layout)),
    reset: async () => undefined,
    memory: async () => undefined,
    recall: async () => undefined,
    [Symbol.asyncDispose]: () => trainer[Symbol.asyncDispose](),
  }
}
