/**
 * Matrix products. Transposes of the factors and a scale are flags of the product, so that the backward
 * graph, which is mostly dX = dY·Wᵀ and dW = Xᵀ·dY, holds no Transpose node and copies nothing: on 2-D
 * factors they become flags of ONNX's Gemm, on batches those of ONNX Runtime's FusedMatMul where the dialect
 * has it.
 */
import { broadcastShapes, requireDType, shapeError } from '../rules.ts'
import { broadcastStrides, offsetsOf } from '../strides.ts'
import {
  apply,
  type LoweredValue,
  type LoweringContext,
  type Operation,
  type Shape,
  sizeOf,
  type Tensor,
  type TensorSpec,
  type Value,
} from '../tensor.ts'
import { sumTo } from './broadcast.ts'
import { mul } from './elementwise.ts'
import { reshape } from './shape.ts'

export interface MatmulAttributes {
  readonly transposeA: boolean
  readonly transposeB: boolean
  readonly alpha: number
}

export type MatmulOptions = Partial<MatmulAttributes>

/** Rows and columns of a factor, after its transpose. */
function matrixOf({ shape }: TensorSpec, transposed: boolean): { rows: number; columns: number } {
  const [last, beforeLast] = [shape.at(-1)!, shape.at(-2)!]
  return transposed ? { rows: last, columns: beforeLast } : { rows: beforeLast, columns: last }
}

function productShape(
  operation: string,
  inputs: readonly TensorSpec[],
  { transposeA, transposeB }: MatmulAttributes,
): Shape {
  const [a, b] = inputs as [TensorSpec, TensorSpec]
  requireDType(operation, inputs, 'float32')
  if (a.shape.length < 2 || b.shape.length < 2)
    throw shapeError(operation, 'needs factors of two axes or more', inputs)
  const left = matrixOf(a, transposeA)
  const right = matrixOf(b, transposeB)
  if (left.columns !== right.rows) {
    throw shapeError(operation, `inner lengths ${left.columns} and ${right.rows} differ`, inputs)
  }
  const batches = [a, b].map(({ shape, dtype }) => ({ shape: shape.slice(0, -2), dtype }))
  return [...broadcastShapes(operation, batches), left.rows, right.columns]
}

/** No batch axes, or only ones of length 1: the factor is one matrix. */
function isOneMatrix({ shape }: TensorSpec): boolean {
  return shape.slice(0, -2).every((length) => length === 1)
}

/** All batches of a factor as one tall matrix. */
function tall(x: Tensor): Tensor {
  return reshape(x, [-1, x.shape.at(-1)!])
}

export const matmulOperation: Operation<MatmulAttributes> = {
  name: 'matmul',
  infer: (inputs, attributes) => ({ shape: productShape('matmul', inputs, attributes), dtype: 'float32' }),
  gradient: ({ inputs: [a, b], attributes: { transposeA, transposeB, alpha }, gradient }) => {
    const da = transposeA
      ? matmul(b!, gradient, { transposeA: transposeB, transposeB: true, alpha })
      : matmul(gradient, b!, { transposeB: !transposeB, alpha })
    if (isOneMatrix(b!) && !isOneMatrix(a!) && !transposeA) {
      // one weight for many batches: the sum over batches is part of one tall product
      const [x, y] = [tall(a!), tall(gradient)]
      const db = transposeB
        ? matmul(y, x, { transposeA: true, alpha })
        : matmul(x, y, { transposeA: true, alpha })
      return [sumTo(da, a!.shape), reshape(db, b!.shape)]
    }
    const db = transposeB
      ? matmul(gradient, a!, { transposeA: true, transposeB: transposeA, alpha })
      : matmul(a!, gradient, { transposeA: !transposeA, alpha })
    return [sumTo(da, a!.shape), sumTo(db, b!.shape)]
  },
  lower: (context) => {
    const { graph, dialect, inputs, attributes, output } = context
    const [a, b] = inputs as [LoweredValue, LoweredValue]
    const { transposeA, transposeB, alpha } = attributes
    const plain = !transposeA && !transposeB && alpha === 1
    if (plain) return graph.node('MatMul', [a.name, b.name])
    if (a.shape.length === 2 && b.shape.length === 2) return lowerGemm(context, [a.name, b.name], 0)
    if (b.shape.length === 2 && !transposeA) {
      const flat = graph.node('Reshape', [
        a.name,
        graph.int64([sizeOf(a.shape) / a.shape.at(-1)!, a.shape.at(-1)!]),
      ])
      const product = lowerGemm(context, [flat, b.name], 0)
      return graph.node('Reshape', [product, graph.int64(output.shape)])
    }
    if (dialect === 'cpu') {
      return graph.node('FusedMatMul', [a.name, b.name], {
        domain: 'com.microsoft',
        attributes: {
          transA: { int: transposeA ? 1 : 0 },
          transB: { int: transposeB ? 1 : 0 },
          alpha: { float: alpha },
        },
      })
    }
    const left = transposeA ? lowerTranspose(context, a) : a.name
    const right = transposeB ? lowerTranspose(context, b) : b.name
    const product = graph.node('MatMul', [left, right])
    return alpha === 1 ? product : graph.node('Mul', [product, graph.constant('float32', [], [alpha])])
  },
  evaluate: ({ inputs: [a, b], attributes, output }) => multiply(a!, b!, attributes, output.shape),
}

function lowerTranspose({ graph }: LoweringContext<MatmulAttributes>, { name, shape }: LoweredValue): string {
  const order = shape.map((_, axis) => axis)
  order.push(...order.splice(-2).reverse())
  return graph.node('Transpose', [name], { attributes: { perm: { ints: order } } })
}

function lowerGemm(
  { graph, attributes: { transposeA, transposeB, alpha } }: LoweringContext<MatmulAttributes>,
  inputs: readonly string[],
  beta: number,
): string {
  return graph.node('Gemm', inputs, {
    attributes: {
      alpha: { float: alpha },
      ...(beta !== 0 && { beta: { float: beta } }),
      transA: { int: transposeA ? 1 : 0 },
      transB: { int: transposeB ? 1 : 0 },
    },
  })
}

function multiply(
  a: Value,
  b: Value,
  { transposeA, transposeB, alpha }: MatmulAttributes,
  shape: Shape,
): Float64Array {
  const { rows, columns: inner } = matrixOf(a, transposeA)
  const { columns } = matrixOf(b, transposeB)
  const batch = shape.slice(0, -2)
  const starts = [a, b].map((factor) => {
    const own = factor.shape.slice(0, -2)
    return offsetsOf(batch, broadcastStrides(own, batch))
  })
  const [rowStepA, innerStepA] = transposeA ? [1, rows] : [inner, 1]
  const [innerStepB, columnStepB] = transposeB ? [1, inner] : [columns, 1]
  const result = new Float64Array(sizeOf(shape))
  let at = 0
  for (let matrix = 0; matrix < starts[0]!.length; matrix++) {
    const startA = starts[0]![matrix]! * rows * inner
    const startB = starts[1]![matrix]! * inner * columns
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        let total = 0
        for (let k = 0; k < inner; k++) {
          total +=
            a.data[startA + i * rowStepA + k * innerStepA]! *
            b.data[startB + k * innerStepB + j * columnStepB]!
        }
        result[at++] = alpha * total
      }
    }
  }
  return result
}

/** alpha·A·B over the last two axes, with batch axes broadcast; either factor may be read transposed. */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false, alpha = 1 } = options
  return apply(matmulOperation, [a, b], { transposeA, transposeB, alpha: Math.fround(alpha) })
}

export interface GemmAttributes extends MatmulAttributes {
  readonly beta: number
}

export const gemmOperation: Operation<GemmAttributes> = {
  name: 'gemm',
  infer: (inputs, attributes) => {
    const [a, b, c] = inputs as [TensorSpec, TensorSpec, TensorSpec]
    if (a.shape.length !== 2 || b.shape.length !== 2)
      throw shapeError('gemm', 'needs factors of two axes', inputs)
    const shape = productShape('gemm', [a, b], attributes)
    requireDType('gemm', [c], 'float32')
    const together = broadcastShapes('gemm', [{ shape, dtype: 'float32' }, c])
    if (together.length !== 2 || sizeOf(together) !== sizeOf(shape)) {
      throw shapeError('gemm', `c does not broadcast to [${shape.join(',')}]`, inputs)
    }
    return { shape, dtype: 'float32' }
  },
  gradient: ({ node, inputs: [a, b, c], attributes, gradient }) => {
    const factors = matmulOperation.gradient!({ node, inputs: [a!, b!], attributes, gradient })
    return [...factors, mul(sumTo(gradient, c!.shape), attributes.beta)]
  },
  lower: (context) =>
    lowerGemm(
      context,
      context.inputs.map(({ name }) => name),
      context.attributes.beta,
    ),
  evaluate: ({ inputs: [a, b, c], attributes, output }) => {
    const offsets = offsetsOf(output.shape, broadcastStrides(c!.shape, output.shape))
    return multiply(a!, b!, attributes, output.shape).map(
      (value, i) => value + attributes.beta * c!.data[offsets[i]!]!,
    )
  },
}

/** alpha·A·B + beta·C on matrices, C broadcast: a bias or an accumulated sum joins the product's own pass. */
export function gemm(options: { a: Tensor; b: Tensor; c: Tensor; beta?: number } & MatmulOptions): Tensor {
  const { a, b, c, transposeA = false, transposeB = false, alpha = 1, beta = 1 } = options
  return apply(gemmOperation, [a, b, c], {
    transposeA,
    transposeB,
    alpha: Math.fround(alpha),
    beta: Math.fround(beta),
  })
}
