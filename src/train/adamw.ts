/**
 * AdamW (Loshchilov and Hutter, https://arxiv.org/abs/1711.05101) as a graph, in the form and with the constants of
 * `torch.optim.AdamW`: p ← p·(1 − lr·λ) − lr·m̂/(√v̂ + ε) with bias-corrected moments.
 */
import { add, div, exp, mul, neg, sqrt, sub, type Tensor, tanh } from '../tensor/index.ts'

/**
 * What all parameters of one step share; scalars. The resident moments are the plain sums M = Σ β₁ⁱ·g and V = Σ β₂ⁱ·g²,
 * that is m/(1 − β₁) and v/(1 − β₂): the constant factors go into these scalars instead of costing two passes over
 * every parameter. With k = √((1 − β₂)/(1 − β₂ᵗ)) the step is lr·(1 − β₁)/((1 − β₁ᵗ)·k) · M/(√V + ε/k).
 */
export interface AdamwScalars {
  readonly learningRate: Tensor
  /** lr·(1 − β₁)/((1 − β₁ᵗ)·k) */
  readonly stepSize: Tensor
  /** ε/k */
  readonly epsilon: Tensor
  readonly beta1: number
  readonly beta2: number
}

export interface AdamwOptions {
  readonly learningRate: Tensor
  /** t, counted from 1: float32 scalar. */
  readonly step: Tensor
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
}

export function adamwScalars({ learningRate, step, beta1, beta2, epsilon }: AdamwOptions): AdamwScalars {
  const inverseK = sqrt(mul(biasCorrection(beta2, step), 1 / (1 - beta2)))
  const rate = div(mul(learningRate, 1 - beta1), biasCorrection(beta1, step))
  return { learningRate, stepSize: mul(rate, inverseK), epsilon: mul(inverseK, epsilon), beta1, beta2 }
}

/**
 * 1 − βᵗ. Written as −tanh(z/2)·(eᶻ + 1) with z = t·ln β, which in float32 keeps the digits that 1 − βᵗ loses for β
 * close to 1.
 */
function biasCorrection(beta: number, step: Tensor): Tensor {
  if (beta === 0) return div(step, step)
  const z = mul(step, Math.log(beta))
  return mul(neg(tanh(mul(z, 0.5))), add(exp(z), 1))
}

/** From it to the next float32 is more than the largest denormal. */
const grid = 2 ** -100

/**
 * The same number, or below 1e-30 the nearest multiple of 9e-38. A moment that gets no gradient any more decays into the denormals
 * and, as 0.95 of the least of them is rounded to itself, stays there, where arithmetic takes up to a hundred times as long.
 */
function withoutDenormals(moment: Tensor): Tensor {
  return sub(add(moment, grid), grid)
}

export interface AdamwUpdate {
  readonly parameter: Tensor
  readonly firstMoment: Tensor
  readonly secondMoment: Tensor
}

export interface AdamwInput extends AdamwUpdate {
  readonly gradient: Tensor
  readonly weightDecay: number
  /** Whether some of it may have no gradient for hundreds of steps, as the embeddings of rare tokens. */
  readonly rare: boolean
}

/** The next values of one parameter and its moment sums. `gradient` is already clipped. */
export function adamwUpdate(options: AdamwInput, scalars: AdamwScalars): AdamwUpdate {
  const { parameter, gradient, weightDecay, rare } = options
  const { beta1, beta2, epsilon, learningRate, stepSize } = scalars
  const kept = (moment: Tensor): Tensor => (rare ? withoutDenormals(moment) : moment)
  const firstMoment = kept(add(mul(options.firstMoment, beta1), gradient))
  const secondMoment = kept(add(mul(options.secondMoment, beta2), mul(gradient, gradient)))
  const direction = div(firstMoment, add(sqrt(secondMoment), epsilon))
  const decayed = weightDecay === 0 ? parameter : mul(parameter, sub(1, mul(learningRate, weightDecay)))
  return { parameter: sub(decayed, mul(direction, stepSize)), firstMoment, secondMoment }
}
