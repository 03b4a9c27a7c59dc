/**
 * A Llama and its optimiser as the learner of a simulation: one trainer on one backend, whose parameters and moments
 * are exchanged for those of the peer whose turn it is.
 */
import { validationBatches, type Dataset } from '../../data/index.ts'
import { flatten, type LlamaConfig, layoutOf, type Parameters, unflatten } from '../../model/index.ts'
import type { Backend } from '../../runtime/index.ts'
import { Evaluator, Trainer, type TrainerSettings, type TrainerSnapshot } from '../../train/index.ts'
import type { Learner } from './swarm-training.ts'

export interface LlamaLearnerOptions {
  readonly backend: Backend
  readonly model: LlamaConfig
  readonly parameters: Parameters
  readonly inner: TrainerSettings
  readonly dataset: Dataset
  readonly evaluationBatches: number
}

export async function llamaLearner(options: LlamaLearnerOptions): Promise<Learner & AsyncDisposable> {
  const { backend, model, parameters, inner, dataset, evaluationBatches } = options
  const { batchSize, sequenceLength } = inner
  const layout = layoutOf(model)
  const trainer = await Trainer.create({ backend, config: model, parameters, settings: inner })
  const evaluator = await Evaluator.create({ backend, config: model, parameters, batchSize, sequenceLength })
  const validation = validationBatches(dataset, { batchSize, sequenceLength, maxBatches: evaluationBatches })
  const fresh = await trainer.snapshot()
  return {
    step: async (tokens, at) => (await trainer.step(tokens, at)).loss,
    gradient: async (tokens) => {
      const { loss, gradient } = await trainer.gradient(tokens)
      return { loss, gradient: flatten(gradient, layout) }
    },
    parameters: async () => flatten(await trainer.parameters(), layout),
    setParameters: (flat) => trainer.setParameters(unflatten(flat, layout)),
    memory: () => trainer.snapshot(),
    recall: (memory) => trainer.restore((memory as TrainerSnapshot | undefined) ?? fresh),
    evaluate: async (flat) => {
      await evaluator.setParameters(unflatten(flat, layout))
      return evaluator.evaluate(validation)
    },
    [Symbol.asyncDispose]: async () => {
      await evaluator[Symbol.asyncDispose]()
      await trainer[Symbol.asyncDispose]()
    },
  }
}
