/** The loss of a batch as a program of its own, on the parameters that the training step keeps resident. */
import { llamaLoss, llamaWeights } from '../model/index.ts'
import { defineProgram, type Program, parameter } from '../tensor/index.ts'
import { type BatchOptions, inputsAndTargets } from './step.ts'

/** Input: `tokens` int32 [batchSize, sequenceLength + 1]. Output: `loss`, the mean cross-entropy in nats. */
export function buildEvaluation({
  config,
  batchSize,
  sequenceLength,
  place = 'device',
}: BatchOptions): Program {
  const state = llamaWeights(config)
  const tokens = parameter('tokens', [batchSize, sequenceLength + 1], 'int32')
  const loss = llamaLoss({ config, weights: state, ...inputsAndTargets(tokens), place })
  return defineProgram({
    name: 'llama-evaluation',
    inputs: { tokens },
    state,
    outputs: { loss },
    updates: {},
  })
}
