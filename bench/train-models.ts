/** The models that the training bench runs, and what a step of them costs. */
import { countParameters, type LlamaConfig, llamaConfig } from '../src/model/index.ts'

export interface BenchModel {
  readonly config: LlamaConfig
  readonly batchSize: number
  readonly sequenceLength: number
}

export const benchModels: Readonly<Record<string, BenchModel>> = {
  '3.3M': {
    config: llamaConfig({
      vocabularySize: 256,
      hiddenSize: 256,
      intermediateSize: 688,
      layers: 4,
      attentionHeads: 4,
    }),
    batchSize: 16,
    sequenceLength: 128,
  },
  '13M': {
    config: llamaConfig({
      vocabularySize: 4096,
      hiddenSize: 384,
      intermediateSize: 1024,
      layers: 6,
      attentionHeads: 6,
      keyValueHeads: 2,
    }),
    batchSize: 8,
    sequenceLength: 256,
  },
}

export function tokensPerStep({ batchSize, sequenceLength }: BenchModel): number {
  return batchSize * sequenceLength
}

/**
 * Floating-point operations of a step by the usual convention: 6 per token and parameter that is multiplied with,
 * and 12 · layers · hiddenSize · sequenceLength per token for attention, masked half included.
 */
export function flopsPerStep(model: BenchModel): number {
  const { config, sequenceLength } = model
  const multiplied = countParameters(config) - config.vocabularySize * config.hiddenSize
  const attention = 12 * config.layers * config.hiddenSize * sequenceLength
  return (6 * multiplied + attention) * tokensPerStep(model)
}

/** [m, k] · [k, n], `count` times. */
export interface Product {
  readonly m: number
  readonly k: number
  readonly n: number
  readonly count: number
}

/** The matrix products of the forward pass and how often each occurs: what the share of the peak is measured on. */
export function productsOf(model: BenchModel): Product[] {
  const { config } = model
  const m = tokensPerStep(model)
  const { hiddenSize, intermediateSize, layers } = config
  const queries = config.attentionHeads * config.headSize
  const keys = config.keyValueHeads * config.headSize
  return [
    { m, k: hiddenSize, n: queries, count: layers },
    { m, k: hiddenSize, n: keys, count: 2 * layers },
    { m, k: queries, n: hiddenSize, count: layers },
    { m, k: hiddenSize, n: intermediateSize, count: 2 * layers },
    { m, k: intermediateSize, n: hiddenSize, count: layers },
    { m, k: hiddenSize, n: config.vocabularySize, count: 1 },
  ]
}
