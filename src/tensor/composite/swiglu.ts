/** The gated unit of Llama's feed-forward layer (Shazeer, https://arxiv.org/abs/2002.05202). */
import { customGradient } from '../operations/control.ts'
import { add, mul, sigmoid, silu, sub } from '../operations/elementwise.ts'
import type { Tensor } from '../tensor.ts'

/**
 * silu(gate)·up. With σ = sigmoid(gate) and dUp = g·silu(gate), dGate = up·(σ·(g − dUp) + dUp): one pass less
 * than the product rule would take.
 */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  return customGradient(
    [gate, up],
    (a, b) => {
      const activated = silu(a)
      return { output: mul(activated, b), saved: [activated] }
    },
    ({ inputs: [a, b], saved: [activated], gradient }) => {
      const dUp = mul(gradient, activated!)
      return [mul(b!, add(mul(sigmoid(a!), sub(gradient, dUp)), dUp)), dUp]
    },
  )
}
