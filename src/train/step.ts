/**
 * One optimiser step: forward, backward, clipping and AdamW or Muon. From one batch it is one program, from several it is two:
 * one that adds up gradients, run for each batch, and one that applies them. Parameters, moments and sums are resident
 * state, so nothing crosses into JavaScript but tokens and scalars.
 */
import {
  collide,
  embeddingName,
  ignoreIndex,
  isNormalization,
  type LlamaConfig,
  llamaLoss,
  llamaWeights,
  outputName,
  type Parameters,
  residentParameters,
} from '../model/index.ts'
import type { HostTensor, Place } from '../runtime/index.ts'
import {
  add,
  clipByGlobalNorm,
  concat,
  defineProgram,
  full,
  globalNorm,
  grad,
  mul,
  type Program,
  parameter,
  slice,
  sub,
  type Tensor,
  type TensorSpec,
} from '../tensor/index.ts'
import { adamwScalars, adamwUpdate } from './adamw.ts'
import { muonUpdate } from './muon.ts'
import type { OptimiserSettings } from './settings.ts'

export { residentParameters } from '../model/index.ts'

/** One batch through the model. */
export interface BatchOptions {
  readonly config: LlamaConfig
  readonly batchSize: number
  readonly sequenceLength: number
  /** Where the program will run; on a `device` if absent. */
  readonly place?: Place
}

export interface TrainStepOptions extends BatchOptions {
  readonly optimiser: OptimiserSettings
}

/**
 * A step from one batch. Inputs: `tokens` int32 [batchSize, sequenceLength + 1]; `learningRate`, and `step` counted
 * from 1, float32 scalars. Outputs: `loss`, the mean cross-entropy in nats; `gradientNorm`, before clipping. State:
 * parameters by Hugging Face name, as `residentParameters` gives them, and their moments.
 */
export function buildTrainStep(options: TrainStepOptions): Program {
  const { optimiser } = options
  const weights = llamaWeights(options.config)
  const { tokens, loss } = lossOfBatch(options, weights)
  const next = optimise(weights, gradientsOf(loss, weights), optimiser)
  return defineProgram({
    name: 'llama-train-step',
    inputs: { tokens, ...next.inputs },
    state: next.state,
    outputs: { loss, gradientNorm: next.gradientNorm },
    updates: next.updates,
    // With clipping every update needs the norm of the whole gradient, and so everything that reads the parameters.
    ...(optimiser.clipNorm > 0 && { updatesInPlace: true }),
  })
}

export interface GradientStepOptions extends BatchOptions {
  /** Batches whose mean gradient makes one step. */
  readonly gradientAccumulation: number
}

/**
 * The first half of a step from several batches, run once for each: its share of their mean gradient is added to
 * resident sums. Unrolled into one graph the batches would be no faster, and compiling them takes as much longer as
 * there are more of them. Input: `tokens` int32 [batchSize, sequenceLength + 1]. Output: `loss`, that of this batch.
 * State: the parameters, and the sums, which begin at zero.
 */
export function buildGradientStep(options: GradientStepOptions): Program {
  const weights = llamaWeights(options.config)
  const { tokens, loss } = lossOfBatch(options, weights)
  const gradients = gradientsOf(mul(loss, 1 / options.gradientAccumulation), weights)
  const sums = gradientSums(weights)
  return defineProgram({
    name: 'llama-gradient-step',
    inputs: { tokens },
    state: { ...weights, ...sums },
    outputs: { loss },
    updates: Object.fromEntries(
      Object.entries(sums).map(([name, sum], i) => [name, add(sum, gradients[i]!)]),
    ),
    // Nothing reads a sum but the addition that replaces it.
    updatesInPlace: true,
  })
}

/**
 * The second half: clipping and the optimiser with the summed gradient, and the sums back to zero. Inputs `learningRate` and
 * `step`, output `gradientNorm`, and state as those of `buildTrainStep`; the state has the sums too.
 */
export function buildApplyStep({
  config,
  optimiser,
}: Pick<TrainStepOptions, 'config' | 'optimiser'>): Program {
  const weights = llamaWeights(config)
  const sums = gradientSums(weights)
  const next = optimise(weights, Object.values(sums), optimiser)
  // x − x and not just zeros: so written, they cannot come before the clipping that reads the sums they replace.
  const zeros = next.gradients.map((gradient) => sub(gradient, gradient))
  return defineProgram({
    name: 'llama-apply-step',
    inputs: next.inputs,
    state: { ...next.state, ...sums },
    outputs: { gradientNorm: next.gradientNorm },
    updates: {
      ...next.updates,
      ...Object.fromEntries(Object.keys(sums).map((name, i) => [name, zeros[i]!])),
    },
    ...(optimiser.clipNorm > 0 && { updatesInPlace: true }),
  })
}

type Weights = Readonly<Record<string, Tensor>>

function lossOfBatch(options: BatchOptions, weights: Weights): { tokens: Tensor; loss: Tensor } {
  const { config, batchSize, sequenceLength, place = 'device' } = options
  const tokens = parameter('tokens', [batchSize, sequenceLength + 1], 'int32')
  // The gradient of a weight is a product of which rows of the batch are the columns.
  const pairs = collide(batchSize * sequenceLength, place) ? allWithTargets(tokens) : inputsAndTargets(tokens)
  return { tokens, loss: llamaLoss({ config, weights, ...pairs, place }) }
}

/** Placeholders in the order of the weights, by the names that the sums have in the state. */
function gradientSums(weights: Weights): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(weights).map(([weight, { shape }]) => {
      const name = `gradients.${weight}`
      return [name, parameter(name, shape)]
    }),
  )
}

function gradientsOf(loss: Tensor, weights: Weights): Tensor[] {
  return grad(loss, Object.values(weights))
}

/** Clipping and the optimiser. `gradients` are in the order of the weights; those that come back are clipped. */
function optimise(
  weights: Weights,
  gradients: readonly Tensor[],
  optimiser: OptimiserSettings,
): Pick<Program, 'inputs' | 'state' | 'updates'> & { gradients: readonly Tensor[]; gradientNorm: Tensor } {
  const learningRate = parameter('learningRate', [])
  const step = parameter('step', [])
  const clipped =
    optimiser.clipNorm > 0
      ? clipByGlobalNorm(gradients, optimiser.clipNorm)
      : { gradients, norm: globalNorm(gradients) }
  const scalars = adamwScalars({ ...optimiser, learningRate, step })
  const state: Record<string, Tensor> = { ...weights }
  const updates: Record<string, Tensor> = {}
  Object.entries(weights).forEach(([name, weight], i) => {
    const [first, second] = momentNames(name)
    const gradient = clipped.gradients[i]!
    const weightDecay = isDecayed(name, optimiser) ? optimiser.weightDecay : 0
    const firstMoment = parameter(first, weight.shape)
    state[first] = firstMoment
    if (usesMuon(name, weight.shape, optimiser)) {
      const decay = optimiser.muonMomentum
      const next = muonUpdate({
        ...{ parameter: weight, momentum: firstMoment, gradient, learningRate, weightDecay, decay },
      })
      updates[name] = next.parameter
      updates[first] = next.momentum
      return
    }
    const secondMoment = parameter(second, weight.shape)
    state[second] = secondMoment
    const rare = name === embeddingName
    const moments = { firstMoment, secondMoment }
    const next = adamwUpdate({ parameter: weight, ...moments, gradient, weightDecay, rare }, scalars)
    updates[name] = next.parameter
    updates[first] = next.firstMoment
    updates[second] = next.secondMoment
  })
  return {
    inputs: { learningRate, step },
    state,
    updates,
    gradients: clipped.gradients,
    gradientNorm: clipped.norm,
  }
}

/** int32 [batch, sequence + 1] as what the model reads and what it should say. */
export function inputsAndTargets(tokens: Tensor): { tokens: Tensor; targets: Tensor } {
  const sequence = tokens.shape[1]! - 1
  return {
    tokens: slice(tokens, { axis: 1, end: sequence }),
    targets: slice(tokens, { axis: 1, start: 1 }),
  }
}

/** The same, but that the model also reads the last token, after which it has nothing to say. */
function allWithTargets(tokens: Tensor): { tokens: Tensor; targets: Tensor } {
  const nothing = full(ignoreIndex, [tokens.shape[0]!, 1], 'int32')
  return { tokens, targets: concat([slice(tokens, { axis: 1, start: 1 }), nothing], { axis: 1 }) }
}

/** Whether weight decay applies to the parameter of this name. */
export function isDecayed(
  name: string,
  { decayNorms, decayEmbeddings }: Pick<OptimiserSettings, 'decayNorms' | 'decayEmbeddings'>,
): boolean {
  if (isNormalization(name)) return decayNorms
  return name === embeddingName || name === outputName ? decayEmbeddings : true
}

/** Whether Muon has the parameter of this name, which then has no second moment: the hidden matrices. */
function usesMuon(
  name: string,
  shape: readonly number[],
  { kind }: Pick<OptimiserSettings, 'kind'>,
): boolean {
  return kind === 'muon' && shape.length === 2 && name !== embeddingName && name !== outputName
}

function momentNames(name: string): [string, string] {
  return [`moments.first.${name}`, `moments.second.${name}`]
}

/** Parameters with the empty moments that the optimiser has. */
export function initialTrainingState(
  config: LlamaConfig,
  parameters: Parameters,
  optimiser: Pick<OptimiserSettings, 'kind'>,
): Record<string, HostTensor> {
  const resident = residentParameters(config, parameters)
  return { ...resident, ...emptyMoments(resident, optimiser) }
}

/** The moments that the optimiser has of resident parameters, all zero. */
export function emptyMoments(
  parameters: Readonly<Record<string, Pick<TensorSpec, 'shape'>>>,
  optimiser: Pick<OptimiserSettings, 'kind'>,
): Record<string, HostTensor> {
  const sizes = Object.values(parameters).map(({ shape }) => sizeOf(shape))
  const zeros = new Float32Array(Math.max(...sizes)) // one for all: a backend copies what it is given
  const moments: Record<string, HostTensor> = {}
  for (const [name, { shape }] of Object.entries(parameters)) {
    const [first, second] = momentNames(name)
    for (const moment of usesMuon(name, shape, optimiser) ? [first] : [first, second]) {
      moments[moment] = { dtype: 'float32', shape, data: zeros.subarray(0, sizeOf(shape)) }
    }
  }
  return moments
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1)

/** What `buildGradientStep` and `buildApplyStep` hold besides the training state: nothing between two steps. */
export function emptyGradientSums(config: LlamaConfig): Record<string, HostTensor> {
  return Object.fromEntries(
    Object.entries(gradientSums(llamaWeights(config))).map(([name, { shape }]) => [
      name,
      { dtype: 'float32', shape, data: new Float32Array(sizeOf(shape)) },
    ]),
  )
}
