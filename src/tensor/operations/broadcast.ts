/**
 * Sum and broadcast: each is the other's adjoint, and all other gradients of broadcasting go through this
 * pair.
 */
import {
  broadcastShapes,
  normaliseAxes,
  reducedShape,
  requireDType,
  requireShape,
  shapeError,
} from '../rules.ts'
import { broadcastStrides, offsetsOf } from '../strides.ts'
import {
  apply,
  type Operation,
  type Shape,
  sameShape,
  sizeOf,
  type Tensor,
  type TensorSpec,
} from '../tensor.ts'
import { reshape } from './shape.ts'

export interface ReduceOptions {
  /** Absent: all axes. */
  readonly axes?: readonly number[]
  /** Keep reduced axes with length 1. */
  readonly keepDims?: boolean
}

export interface ReduceAttributes {
  readonly axes: readonly number[]
  readonly keepDims: boolean
}

export function reduceAttributes(operation: string, x: TensorSpec, options: ReduceOptions): ReduceAttributes {
  return { axes: normaliseAxes(operation, options.axes, x), keepDims: options.keepDims ?? false }
}

/** For each element of `shape`, the index of the reduced element it belongs to. */
export function reductionTargets(shape: Shape, axes: readonly number[]): Int32Array {
  const kept = reducedShape(shape, axes, true)
  return offsetsOf(shape, broadcastStrides(kept, shape))
}

export const sumOperation: Operation<ReduceAttributes> = {
  name: 'sum',
  infer: ([x], { axes, keepDims }) => {
    requireDType('sum', [x!], 'float32', 'int32')
    return { shape: reducedShape(x!.shape, axes, keepDims), dtype: x!.dtype }
  },
  gradient: ({ inputs: [x], attributes: { axes }, gradient }) => [
    broadcastTo(reshape(gradient, reducedShape(x!.shape, axes, true)), x!.shape),
  ],
  lower: ({ graph, inputs: [x], attributes: { axes, keepDims } }) =>
    graph.node('ReduceSum', [x!.name, graph.int64(axes)], {
      attributes: { keepdims: { int: keepDims ? 1 : 0 } },
    }),
  evaluate: ({ inputs: [x], attributes: { axes }, output }) => {
    const result = new Float64Array(sizeOf(output.shape))
    const targets = reductionTargets(x!.shape, axes)
    for (let i = 0; i < targets.length; i++) result[targets[i]!]! += x!.data[i]!
    return result
  },
}

export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  const attributes = reduceAttributes('sum', x, options)
  return attributes.axes.length === 0 ? x : apply(sumOperation, [x], attributes)
}

interface BroadcastAttributes {
  readonly shape: Shape
}

export const broadcastOperation: Operation<BroadcastAttributes> = {
  name: 'broadcastTo',
  infer: ([x], { shape }) => {
    const target = { shape, dtype: x!.dtype }
    if (!sameShape(broadcastShapes('broadcastTo', [x!, target]), shape)) {
      throw shapeError('broadcastTo', `does not broadcast to [${shape.join(',')}]`, [x!])
    }
    return target
  },
  gradient: ({ inputs: [x], gradient }) => [sumTo(gradient, x!.shape)],
  lower: ({ graph, inputs: [x], attributes: { shape } }) =>
    graph.node('Expand', [x!.name, graph.int64(shape)]),
  evaluate: ({ inputs: [x], output: { shape } }) =>
    Float64Array.from(offsetsOf(shape, broadcastStrides(x!.shape, shape)), (offset) => x!.data[offset]!),
}

/** Repeats along axes of length 1 and new leading axes. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  requireShape('broadcastTo', shape)
  return sameShape(x.shape, shape) ? x : apply(broadcastOperation, [x], { shape: [...shape] })
}

/** Sums over everything that broadcasting `shape` to the tensor's shape has repeated. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x
  const missing = x.shape.length - shape.length
  const axes = x.shape.flatMap((length, axis) =>
    axis < missing || (shape[axis - missing] === 1 && length !== 1) ? [axis] : [],
  )
  return reshape(sum(x, { axes, keepDims: false }), shape)
}
