/**
 * One optimiser step as one program: forward, backward, clipping and AdamW. Parameters and moments are its resident
 * state, so between steps nothing crosses into JavaScript but tokens and two scalars.
 */
import {
  embeddingName,
  isNormalization,
  type LlamaConfig,
  llamaLoss,
  llamaWeights,
  outputName,
  type Parameters,
  residentParameters,
} from '../model/index.ts'
import type { HostTensor } from '../runtime/index.ts'
import {
  add,
  clipByGlobalNorm,
  defineProgram,
  globalNorm,
  grad,
  mul,
  type Program,
  parameter,
  slice,
  type Tensor,
} from '../tensor/index.ts'
import { adamwScalars, adamwUpdate } from './adamw.ts'
import type { OptimiserSettings } from './settings.ts'

export { parametersOf, residentParameters } from '../model/index.ts'

export interface TrainStepOptions {
  readonly config: LlamaConfig
  readonly batchSize: number
  readonly sequenceLength: number
  /** Batches whose mean gradient makes one step; 1 if absent. */
  readonly gradientAccumulation?: number
  readonly optimiser: OptimiserSettings
}

/**
 * Inputs: `tokens` int32 [batchSize · gradientAccumulation, sequenceLength + 1]; `learningRate`, and `step` counted
 * from 1, float32 scalars. Outputs: `loss`, the mean cross-entropy in nats; `gradientNorm`, before clipping. State:
 * parameters by Hugging Face name, as `residentParameters` gives them, and their moments.
 */
export function buildTrainStep(options: TrainStepOptions): Program {
  const { config, batchSize, sequenceLength, gradientAccumulation = 1, optimiser } = options
  const weights = llamaWeights(config)
  const names = Object.keys(weights)
  const tokens = parameter('tokens', [batchSize * gradientAccumulation, sequenceLength + 1], 'int32')
  const learningRate = parameter('learningRate', [])
  const step = parameter('step', [])

  let loss: Tensor | undefined
  let gradients: Tensor[] | undefined
  for (let batch = 0; batch < gradientAccumulation; batch++) {
    const rows = slice(tokens, { axis: 0, start: batch * batchSize, end: (batch + 1) * batchSize })
    const own = mul(llamaLoss({ config, weights, ...inputsAndTargets(rows) }), 1 / gradientAccumulation)
    const ownGradients = grad(
      own,
      names.map((name) => weights[name]!),
    )
    loss = loss === undefined ? own : add(loss, own)
    gradients = gradients?.map((total, i) => add(total, ownGradients[i]!)) ?? ownGradients
  }

  const clipped =
    optimiser.clipNorm > 0
      ? clipByGlobalNorm(gradients!, optimiser.clipNorm)
      : { gradients: gradients!, norm: globalNorm(gradients!) }
  const scalars = adamwScalars({ ...optimiser, learningRate, step })
  const state: Record<string, Tensor> = { ...weights }
  const updates: Record<string, Tensor> = {}
  names.forEach((name, i) => {
    const weight = weights[name]!
    const [first, second] = momentNames(name)
    state[first] = parameter(first, weight.shape)
    state[second] = parameter(second, weight.shape)
    const next = adamwUpdate(
      {
        parameter: weight,
        firstMoment: state[first],
        secondMoment: state[second],
        gradient: clipped.gradients[i]!,
        weightDecay: decays(name, optimiser) ? optimiser.weightDecay : 0,
      },
      scalars,
    )
    updates[name] = next.parameter
    updates[first] = next.firstMoment
    updates[second] = next.secondMoment
  })
  return defineProgram({
    name: 'llama-train-step',
    inputs: { tokens, learningRate, step },
    state,
    outputs: { loss: loss!, gradientNorm: clipped.norm },
    updates,
  })
}

/** int32 [batch, sequence + 1] as what the model reads and what it should say. */
export function inputsAndTargets(tokens: Tensor): { tokens: Tensor; targets: Tensor } {
  const sequence = tokens.shape[1]! - 1
  return {
    tokens: slice(tokens, { axis: 1, end: sequence }),
    targets: slice(tokens, { axis: 1, start: 1 }),
  }
}

function decays(name: string, { decayNorms, decayEmbeddings }: OptimiserSettings): boolean {
  if (isNormalization(name)) return decayNorms
  return name === embeddingName || name === outputName ? decayEmbeddings : true
}

function momentNames(name: string): [string, string] {
  return [`moments.first.${name}`, `moments.second.${name}`]
}

/** Parameters with empty moments. */
export function initialTrainingState(
  config: LlamaConfig,
  parameters: Parameters,
): Record<string, HostTensor> {
  const resident = residentParameters(config, parameters)
  for (const [name, { shape, data }] of Object.entries({ ...resident })) {
    for (const moment of momentNames(name)) {
      resident[moment] = { dtype: 'float32', shape, data: new Float32Array(data.length) }
    }
  }
  return resident
}
