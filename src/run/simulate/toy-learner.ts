/**
 * A learner that needs no engine: gradient descent on a quadratic that every batch sees through noise of its own. Its
 * loss is the mean squared distance to the target, so averaging over peers helps as it does in training.
 */
import { seededRandom } from '../../core/index.ts'
import { type LlamaConfig, layoutOf, llamaConfig, type ParameterLayout } from '../../model/index.ts'
import type { Learner } from './swarm-training.ts'

const toyModel: LlamaConfig = llamaConfig({
  vocabularySize: 16,
  hiddenSize: 8,
  intermediateSize: 8,
  layers: 2,
  attentionHeads: 2,
})

/** Two tiny layers of a Llama, so that methods which look at names and shapes find them. */
export const toyLayout: ParameterLayout = layoutOf(toyModel)

const learningRate = 0.2
const noise = 0.3
/** What a batch counts as. */
export const toyTokens = 8

export function toyLearner(seed: number): Learner {
  const target = normals(1, 'simulate/toy/target', seed)
  let parameters: Float32Array = new Float32Array(toyLayout.totalSize)
  const loss = (at: Float32Array): number =>
    at.reduce((sum, value, i) => sum + (value - target[i]!) ** 2, 0) / toyLayout.totalSize
  const gradientOf = (tokens: Int32Array): Float32Array => {
    const seen = normals(noise, 'simulate/toy/noise', seed, ...tokens)
    return parameters.map((value, i) => value - target[i]! - seen[i]!)
  }
  return {
    step: async (tokens, { rateScale }) => {
      const before = loss(parameters)
      const gradient = gradientOf(tokens)
      parameters = parameters.map((value, i) => value - learningRate * rateScale * gradient[i]!)
      return { loss: before, tokens: toyTokens }
    },
    gradient: async (tokens) => ({
      loss: loss(parameters),
      tokens: toyTokens,
      gradient: gradientOf(tokens),
    }),
    parameters: async () => parameters.slice(),
    setParameters: async (flat) => {
      parameters = flat.slice()
    },
    reset: async () => undefined, // it has no optimiser
    memory: async () => parameters.slice(),
    recall: async (memory) => {
      parameters = memory === undefined ? new Float32Array(toyLayout.totalSize) : (memory as Float32Array)
    },
    evaluate: async (flat) => loss(flat),
  }
}

/** The number of the batch is all there is to it. */
export const toyBatch = (number: number): Int32Array => Int32Array.of(number)

/** The rate that methods with averaged gradients step with. */
export const toyLearningRate = (): number => learningRate

function normals(scale: number, ...seed: (string | number)[]): Float32Array {
  const random = seededRandom(...seed)
  return Float32Array.from({ length: toyLayout.totalSize }, () => random.nextNormal() * scale)
}
