/**
 * Products with a weight matrix whose gradient is made by plain products. The gradient of a weight, xᵀ·dy, sums over
 * all rows; ONNX Runtime's CPU reads a factor that is flagged as transposed a quarter slower than a transposed copy,
 * and the copy costs little where it is the narrow factor that is copied, or serves several products. So matrices that
 * share an input (queries, keys and values; gate and up) lie on the backend as [in, out] and use one copy of that
 * input; those that lead back into the residual stream keep [out, in] and use a copy of the stream's gradient.
 */
import { apply, customGradient, matmul, type Operation, type Tensor, transpose } from '../tensor/index.ts'

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

/** x·W: x [rows, in], W [in, out]. */
export function projectApart(x: Tensor, weight: Tensor): Tensor {
  return customGradient(
    [x, weight],
    (rows, matrix) => matmul(rows, matrix),
    ({ inputs: [rows, matrix], gradient }) => [
      matmul(gradient, matrix!, { transposeB: true }),
      matmul(transposedCopy(rows!), gradient),
    ],
  )
}

/** x·Wᵀ: x [rows, in], W [out, in]. */
export function projectBack(x: Tensor, weight: Tensor): Tensor {
  return customGradient(
    [x, weight],
    (rows, matrix) => matmul(rows, matrix, { transposeB: true }),
    ({ inputs: [rows, matrix], gradient }) => [
      matmul(gradient, matrix!),
      matmul(transposedCopy(gradient), rows!),
    ],
  )
}
