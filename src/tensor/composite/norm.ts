/** Root-mean-square normalisation (Zhang and Sennrich, https://arxiv.org/abs/1910.07467). */
import { sumTo } from '../operations/broadcast.ts'
import { customGradient } from '../operations/control.ts'
import { mul, sub } from '../operations/elementwise.ts'
import { matmul } from '../operations/matmul.ts'
import { inverseRootMeanSquare, rmsNormalise } from '../operations/normalise.ts'
import { reshape } from '../operations/shape.ts'
import type { Tensor } from '../tensor.ts'

/**
 * x·w/√(mean(x²) + ε) over the last axis. With r = 1/√(…) and v = dy·r·x the gradients are dw = Σv and
 * dx = dy·r·w − x·r²·mean(v·w): the mean is a product of a matrix with a vector.
 */
export function rmsNorm(x: Tensor, weight: Tensor, epsilon: number): Tensor {
  return customGradient(
    [x, weight],
    (values, scale) => rmsNormalise(values, scale, epsilon),
    ({ inputs: [values, scale], gradient }) => {
      const width = values!.shape.at(-1)!
      const inverse = inverseRootMeanSquare(values!, scale!, epsilon)
      const scaled = mul(gradient, inverse)
      const v = mul(scaled, values!)
      const mean = matmul(v, reshape(scale!, [width, 1]), { alpha: 1 / width })
      const along = mul(values!, mul(mul(inverse, inverse), mean))
      return [sub(mul(scaled, scale!), along), sumTo(v, scale!.shape)]
    },
  )
}
