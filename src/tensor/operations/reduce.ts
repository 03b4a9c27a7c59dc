/**
 * Reductions along axes beyond the plain sum: mean, largest, smallest, sum of squares, and where the largest
 * is.
 */
import { normaliseAxis, reducedShape, requireDType, shapeError } from '../rules.ts'
import { stridesOf } from '../strides.ts'
import { apply, type Operation, sizeOf, type Tensor, type Value } from '../tensor.ts'
import {
  broadcastTo,
  type ReduceAttributes,
  type ReduceOptions,
  reduceAttributes,
  reductionTargets,
  sum,
} from './broadcast.ts'
import { cast, div, equal, mul } from './elementwise.ts'
import { gatherElements } from './indexing.ts'
import { reshape } from './shape.ts'

/** How many elements fall together into one. */
function countOf(x: { shape: readonly number[] }, axes: readonly number[]): number {
  return axes.reduce((count, axis) => count * x.shape[axis]!, 1)
}

function fold(
  x: Value,
  axes: readonly number[],
  start: number,
  combine: (a: number, b: number) => number,
): Float64Array {
  const result = new Float64Array(sizeOf(reducedShape(x.shape, axes, false))).fill(start)
  const targets = reductionTargets(x.shape, axes)
  for (let i = 0; i < targets.length; i++) result[targets[i]!] = combine(result[targets[i]!]!, x.data[i]!)
  return result
}

/** What all reductions share; ONNX takes the axes of these as an attribute up to opset 17. */
function reduction(
  name: string,
  onnx: string,
  rest: Pick<Operation<ReduceAttributes>, 'gradient' | 'evaluate'>,
): Operation<ReduceAttributes> {
  return {
    name,
    infer: ([x], { axes, keepDims }) => {
      requireDType(name, [x!], 'float32')
      return { shape: reducedShape(x!.shape, axes, keepDims), dtype: x!.dtype }
    },
    lower: ({ graph, inputs: [x], attributes: { axes, keepDims } }) =>
      graph.node(onnx, [x!.name], {
        attributes: { axes: { ints: axes }, keepdims: { int: keepDims ? 1 : 0 } },
      }),
    ...rest,
  }
}

const keepingDims = (gradient: Tensor, x: Tensor, axes: readonly number[]): Tensor =>
  reshape(gradient, reducedShape(x.shape, axes, true))

/** The gradient goes to the extreme elements, in equal parts where several are. */
const extremeGradient: Operation<ReduceAttributes>['gradient'] = ({
  node,
  inputs: [x],
  attributes: { axes },
  gradient,
}) => {
  const chosen = cast(equal(x!, keepingDims(node, x!, axes)), 'float32')
  const share = div(keepingDims(gradient, x!, axes), sum(chosen, { axes, keepDims: true }))
  return [mul(chosen, share)]
}

const meanOperation: Operation<ReduceAttributes> = reduction('mean', 'ReduceMean', {
  gradient: ({ inputs: [x], attributes: { axes }, gradient }) => [
    broadcastTo(mul(keepingDims(gradient, x!, axes), 1 / countOf(x!, axes)), x!.shape),
  ],
  evaluate: ({ inputs: [x], attributes: { axes } }) =>
    fold(x!, axes, 0, (a, b) => a + b).map((total) => total / countOf(x!, axes)),
})

const maxOperation: Operation<ReduceAttributes> = reduction('max', 'ReduceMax', {
  gradient: extremeGradient,
  evaluate: ({ inputs: [x], attributes: { axes } }) => fold(x!, axes, -Infinity, Math.max),
})

const minOperation: Operation<ReduceAttributes> = reduction('min', 'ReduceMin', {
  gradient: extremeGradient,
  evaluate: ({ inputs: [x], attributes: { axes } }) => fold(x!, axes, Infinity, Math.min),
})

const sumOfSquaresOperation: Operation<ReduceAttributes> = reduction('sumOfSquares', 'ReduceSumSquare', {
  gradient: ({ inputs: [x], attributes: { axes }, gradient }) => [
    mul(x!, mul(keepingDims(gradient, x!, axes), 2)),
  ],
  evaluate: ({ inputs: [x], attributes: { axes } }) => fold(x!, axes, 0, (a, b) => a + b * b),
})

function reduce(op: Operation<ReduceAttributes>, x: Tensor, options: ReduceOptions): Tensor {
  const attributes = reduceAttributes(op.name, x, options)
  // ONNX would take no axes for all axes
  if (attributes.axes.length > 0) return apply(op, [x], attributes)
  return op === sumOfSquaresOperation ? mul(x, x) : x
}

export const mean = (x: Tensor, options: ReduceOptions = {}): Tensor => reduce(meanOperation, x, options)
export const max = (x: Tensor, options: ReduceOptions = {}): Tensor => reduce(maxOperation, x, options)
export const min = (x: Tensor, options: ReduceOptions = {}): Tensor => reduce(minOperation, x, options)
/** Σx², in one pass over the elements. */
export const sumOfSquares = (x: Tensor, options: ReduceOptions = {}): Tensor =>
  reduce(sumOfSquaresOperation, x, options)

interface ArgmaxAttributes {
  readonly axis: number
  readonly keepDims: boolean
}

/** The positions along `axis`, sorted from the largest element down; the first of equals comes first. */
function rankedAlong(x: Value, axis: number): { lane: number; order: number[] }[] {
  const stride = stridesOf(x.shape)[axis]!
  const length = x.shape[axis]!
  return Array.from({ length: sizeOf(x.shape) / Math.max(length, 1) }, (_, lane) => {
    const start = Math.floor(lane / stride) * stride * length + (lane % stride)
    const at = (i: number): number => x.data[start + i * stride]!
    const order = Array.from({ length }, (_, i) => i).sort((a, b) => at(b) - at(a) || a - b)
    return { lane, order }
  })
}

const argmaxOperation: Operation<ArgmaxAttributes> = {
  name: 'argmax',
  infer: ([x], { axis, keepDims }) => {
    requireDType('argmax', [x!], 'float32', 'int32')
    return { shape: reducedShape(x!.shape, [axis], keepDims), dtype: 'int32' }
  },
  lower: ({ graph, inputs: [x], attributes: { axis, keepDims } }) => {
    const attributes = { axis: { int: axis }, keepdims: { int: keepDims ? 1 : 0 } }
    const index = graph.node('ArgMax', [x!.name], { attributes })
    return graph.node('Cast', [index], { attributes: { to: { int: 6 } } })
  },
  evaluate: ({ inputs: [x], attributes: { axis } }) =>
    Float64Array.from(rankedAlong(x!, axis), ({ order }) => order[0]!),
}

/** Position of the largest element along an axis; of equals, the first. */
export function argmax(x: Tensor, options: { axis?: number; keepDims?: boolean } = {}): Tensor {
  const axis = normaliseAxis('argmax', options.axis ?? -1, x)
  return apply(argmaxOperation, [x], { axis, keepDims: options.keepDims ?? false })
}

interface TopKAttributes {
  readonly k: number
}

const topKOperation: Operation<TopKAttributes> = {
  name: 'topK',
  infer: ([x], { k }) => {
    requireDType('topK', [x!], 'float32')
    const length = x!.shape.at(-1)
    if (length === undefined || !Number.isInteger(k) || k < 1 || k > length) {
      throw shapeError('topK', `cannot take the largest ${k} of the last axis`, [x!])
    }
    return { shape: [...x!.shape.slice(0, -1), k], dtype: 'int32' }
  },
  lower: ({ graph, inputs: [x], attributes: { k } }) => {
    const [, index] = graph.nodes('TopK', [x!.name, graph.int64([k])], 2)
    return graph.node('Cast', [index!], { attributes: { to: { int: 6 } } })
  },
  evaluate: ({ inputs: [x], attributes: { k } }) =>
    Float64Array.from(rankedAlong(x!, x!.shape.length - 1).flatMap(({ order }) => order.slice(0, k))),
}

/** The k largest along the last axis, from the largest down, and where they are. */
export function topK(x: Tensor, k: number): { values: Tensor; indices: Tensor } {
  const indices = apply(topKOperation, [x], { k })
  return { values: gatherElements(x, indices, { axis: -1 }), indices }
}
