/**
 * Clipping by the norm of all gradients together (Pascanu et al., https://arxiv.org/abs/1211.5063), as
 * PyTorch does it.
 */
import { add, div, minimum, mul, sqrt } from '../operations/elementwise.ts'
import { scalar } from '../operations/leaves.ts'
import { sumOfSquares } from '../operations/reduce.ts'
import type { Operand, Tensor } from '../tensor.ts'

/** √Σ‖g‖² over all tensors, a scalar. */
export function globalNorm(tensors: readonly Tensor[]): Tensor {
  const squares = tensors.map((tensor) => sumOfSquares(tensor))
  return sqrt(squares.reduce((total, square) => add(total, square), scalar(0)))
}

/** Scales all gradients by min(1, maxNorm/(norm + 10⁻⁶)); gives the norm before clipping too. */
export function clipByGlobalNorm(
  gradients: readonly Tensor[],
  maxNorm: Operand,
): { gradients: Tensor[]; norm: Tensor; factor: Tensor } {
  const norm = globalNorm(gradients)
  const factor = minimum(div(maxNorm, add(norm, 1e-6)), 1)
  return { gradients: gradients.map((gradient) => mul(gradient, factor)), norm, factor }
}
