/**
 * AdamW (Loshchilov and Hutter, https://arxiv.org/abs/1711.05101) as a graph, in the form and with the constants of
 * `torch.optim.AdamW`: p ← p·(1 − lr·λ) − lr·m̂/(√v̂ + ε) with bias-corrected moments.
 */
import { add, div, exp, mul, neg, reciprocal, sqrt, sub, type Tensor, tanh } from '../tensor/index.ts'

/** What all parameters of one step share; scalars. */
export interface AdamwScalars {
  readonly learningRate: Tensor
  /** lr / (1 − β₁ᵗ) */
  readonly stepSize: Tensor
  /** 1 / √(1 − β₂ᵗ) */
  readonly secondMomentScale: Tensor
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
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
  return {
    learningRate,
    stepSize: div(learningRate, biasCorrection(beta1, step)),
    secondMomentScale: reciprocal(sqrt(biasCorrection(beta2, step))),
    beta1,
    beta2,
    epsilon,
  }
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

export interface AdamwUpdate {
  readonly parameter: Tensor
  readonly firstMoment: Tensor
  readonly secondMoment: Tensor
}

/** The next values of one parameter and its moments. `gradient` is already clipped. */
export function adamwUpdate(
  options: AdamwUpdate & { readonly gradient: Tensor; readonly weightDecay: number },
  scalars: AdamwScalars,
): AdamwUpdate {
  const { parameter, gradient, weightDecay } = options
  const { beta1, beta2, epsilon, learningRate, stepSize, secondMomentScale } = scalars
  const firstMoment = add(mul(options.firstMoment, beta1), mul(gradient, 1 - beta1))
  const secondMoment = add(mul(options.secondMoment, beta2), mul(mul(gradient, gradient), 1 - beta2))
  const denominator = add(mul(sqrt(secondMoment), secondMomentScale), epsilon)
  const decayed = weightDecay === 0 ? parameter : mul(parameter, sub(1, mul(learningRate, weightDecay)))
  const next = sub(decayed, mul(div(firstMoment, denominator), stepSize))
  return { parameter: next, firstMoment, secondMoment }
}
