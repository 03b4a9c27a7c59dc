/** The gated unit of Llama's feed-forward layer (Shazeer, https://arxiv.org/abs/2002.05202). */
import { customGradient } from '../operations/control.ts'
import { add, mul, sigmoid, silu, sub } from '../operations/elementwise.ts'
import type { Tensor } from '../tensor.ts'

/**
 * silu(gate)·up. With σ = sigmoid(gate) and dUp = g·silu(gate), dGate = up·(σ·(g − dUp) + dUp): one pass less
 * than the product rule would take. silu(gate) is made again from σ, which costs a pass instead of a matrix that is kept
 * until then (55 of 900 MB at 13M parameters, in the same time).
 */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  return customGradient(
    [gate, up],
    (a, b) => mul(silu(a), b),
    ({ inputs: [a, b], gradient }) => {
      const gateSigmoid = sigmoid(a!)
      const dUp = mul(gradient, mul(a!, gateSigmoid))
      return [mul(b!, add(mul(gateSigmoid, sub(gradient, dUp)), dUp)), dUp]
    },
  )
}
