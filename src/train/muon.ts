/**
 * Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) as a graph: momentum whose matrices are made
 * orthogonal before they are applied, for the hidden matrices of a model; its embedding, output matrix and norms stay
 * with AdamW.
 *
 *   M ← μ M + g,   O = NewtonSchulz(g + μ M),   p ← p·(1 − lr·λ) − lr·s·O
 *
 * The scale s = 0.2·√max(rows, columns) is that of Moonlight (https://arxiv.org/abs/2502.16982), as in
 * `torch.optim.Muon` with `match_rms_adamw`: with it one learning rate and one decay suit both kinds of parameters.
 */
import {
  add,
  div,
  type MatmulOptions,
  matmul,
  mul,
  sqrt,
  sub,
  sumOfSquares,
  type Tensor,
} from '../tensor/index.ts'

/** Of the quintic iteration, from Jordan's post: they take any singular value of (0, 1] to about 1 in five steps. */
const coefficients = { a: 3.4445, b: -4.775, c: 2.0315 }
const iterations = 5

export interface MuonUpdate {
  readonly parameter: Tensor
  readonly momentum: Tensor
}

/** The next values of one matrix and its momentum. `gradient` is already clipped; the transpose behaves alike. */
export function muonUpdate(
  options: MuonUpdate & {
    readonly gradient: Tensor
    readonly learningRate: Tensor
    readonly weightDecay: number
    readonly decay: number
  },
): MuonUpdate {
  const { parameter, gradient, learningRate, weightDecay, decay } = options
  const momentum = add(mul(options.momentum, decay), gradient)
  const direction = orthogonalised(add(gradient, mul(momentum, decay)))
  const [rows, columns] = parameter.shape as [number, number]
  const scale = 0.2 * Math.sqrt(Math.max(rows, columns))
  const decayed = weightDecay === 0 ? parameter : mul(parameter, sub(1, mul(learningRate, weightDecay)))
  return { parameter: sub(decayed, mul(direction, mul(learningRate, scale))), momentum }
}

/** Five steps X ← aX + (bA + cA²)X with A = XXᵀ, from X = G/(‖G‖ + 10⁻⁷); on the shorter side, so that A is small. */
function orthogonalised(matrix: Tensor): Tensor {
  const [rows, columns] = matrix.shape as [number, number]
  const { a, b, c } = coefficients
  let x = div(matrix, add(sqrt(sumOfSquares(matrix)), 1e-7))
  const wide = rows <= columns
  const gram: MatmulOptions = wide ? { transposeB: true } : { transposeA: true }
  for (let i = 0; i < iterations; i++) {
    const square = matmul(x, x, gram) // [shorter, shorter]
    const polynomial = add(mul(square, b), mul(matmul(square, square), c))
    x = add(mul(x, a), wide ? matmul(polynomial, x) : matmul(x, polynomial))
  }
  return x
}
