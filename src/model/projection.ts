/**
 * Products with a weight matrix whose gradient is made by plain products. The gradient of a weight, xᵀ·dy, sums over
 * all rows; ONNX Runtime's CPU reads a factor that is flagged as transposed a quarter slower than a transposed copy,
 * and the copy costs little where it is the narrow factor that is copied, or serves several products. So matrices that
 * share an input (queries, keys and values; gate and up) lie on the backend as [in, out] and use one copy of that
 * input; those that lead back into the residual stream keep [out, in] and use a copy of the stream's gradient. (Copies
 * whose rows begin a multiple of 4 KiB apart would be slower than the flag: train/step.ts sees to the number of rows.)
 */
import type { Place } from '../runtime/index.ts'
import {
  apply,
  concat,
  customGradient,
  matmul,
  type Operation,
  pad,
  slice,
  type Tensor,
  transpose,
  zeros,
} from '../tensor/index.ts'
import { spareColumns } from './row-strides.ts'

/**
 * The transpose of a matrix, in memory of its own. An operation beside `transpose`, because that one becomes a flag of
 * the product it feeds.
 */
const transposedCopyOperation: Operation<Record<string, never>> = {
  name: 'transposedCopy',
  infer: ([x]) => ({ shape: [x!.shape[1]!, x!.shape[0]!], dtype: x!.dtype }),
  gradient: ({ gradient }) => [transpose(gradient, [1, 0])],
  lower: ({ graph, inputs: [x] }) =>
    graph.node('Transpose', [x!.name], { attributes: { perm: { ints: [1, 0] } } }),
  evaluate: ({ inputs: [x] }) => {
    const [rows, columns] = x!.shape as [number, number]
    return x!.data.map((_, i) => x!.data[(i % rows) * columns + Math.floor(i / rows)]!)
  },
}

export function transposedCopy(x: Tensor): Tensor {
  return apply(transposedCopyOperation, [x], {})
}

/** Products with weight matrices, in graphs for one kind of place. `spare`: columns of zeros that the weight is to have behind its own. */
export interface Projections {
  /** x·W: x [rows, in], W [in, out], the result [rows, out + spare]. */
  apart(x: Tensor, weight: Tensor, spare?: number): Tensor
  /** x·Wᵀ: x [rows, in + spare], W [out, in]. */
  back(x: Tensor, weight: Tensor, spare?: number): Tensor
}

export function projectionsFor(place: Place): Projections {
  const product = (left: Tensor, right: Tensor, options: { readonly transposeB?: boolean } = {}): Tensor => {
    const after = spareColumns(left.shape[1]!, place)
    const longer = pad(right, { axis: options.transposeB === true ? 1 : 0, after })
    return matmul(pad(left, { axis: 1, after }), longer, options)
  }
  return {
    apart: (x, weight, spare = 0) =>
      customGradient(
        [x, weight],
        (rows, matrix) => product(rows, pad(matrix, { axis: 1, after: spare })),
        ({ inputs: [rows, matrix], gradient }) => [
          product(gradient, paddedAgain(matrix!, spare), { transposeB: true }),
          slice(matmul(transposedCopy(rows!), gradient), { axis: 1, end: matrix!.shape[1]! }),
        ],
      ),
    back: (x, weight, spare = 0) =>
      customGradient(
        [x, weight],
        (rows, matrix) => product(rows, pad(matrix, { axis: 1, after: spare }), { transposeB: true }),
        ({ inputs: [rows, matrix], gradient }) => [
          product(gradient, paddedAgain(matrix!, spare)),
          slice(matmul(transposedCopy(gradient), rows!), { axis: 1, end: matrix!.shape[1]! }),
        ],
      ),
  }
}

/**
 * What `pad` makes, for the backward pass, in other words: nobody finds the two to be the same, and none is kept from one pass to the
 * other (29 MB at 13M parameters).
 */
function paddedAgain(matrix: Tensor, spare: number): Tensor {
  return spare === 0 ? matrix : concat([matrix, zeros([matrix.shape[0]!, spare])], { axis: 1 })
}
