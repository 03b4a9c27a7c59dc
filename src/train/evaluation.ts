/** The loss of a batch as a program of its own, on the parameters that the training step keeps resident. */
import { type LlamaConfig, llamaLoss, llamaWeights } from '../model/index.ts'
import { defineProgram, type Program, parameter } from '../tensor/index.ts'
import { inputsAndTargets } from './step.ts'

export interface EvaluationOptions {
  readonly config: LlamaConfig
  readonly batchSize: number
  readonly sequenceLength: number
}

/** Input: `tokens` int32 [batchSize, sequenceLength + 1]. Output: `loss`, the mean cross-entropy in nats. */
export function buildEvaluation({ config, batchSize, sequenceLength }: EvaluationOptions): Program {
  const state = llamaWeights(config)
  const tokens = parameter('tokens', [batchSize, sequenceLength + 1], 'int32')
  const loss = llamaLoss({ config, weights: state, ...inputsAndTargets(tokens) })
  return defineProgram({
    name: 'llama-evaluation',
    inputs: { tokens },
    state,
    outputs: { loss },
    updates: {},
  })
}
