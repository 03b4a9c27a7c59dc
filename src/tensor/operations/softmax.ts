/**
 * Softmax and its logarithm over the last axis; ONNX Runtime computes both without overflow in one kernel.
 */
import { requireDType, shapeError } from '../rules.ts'
import { apply, type Operation, type Tensor } from '../tensor.ts'
import { sum } from './broadcast.ts'
import { exp, mul, sub } from './elementwise.ts'

type None = Record<string, never>

function overRows(
  name: string,
  onnx: string,
  row: (values: Float64Array) => Float64Array,
  gradient: NonNullable<Operation<None>['gradient']>,
): Operation<None> {
  return {
    name,
    infer: ([x]) => {
      requireDType(name, [x!], 'float32')
      if (x!.shape.length === 0) throw shapeError(name, 'needs a last axis', [x!])
      return x!
    },
    gradient,
    lower: ({ graph, inputs: [x] }) => graph.node(onnx, [x!.name], { attributes: { axis: { int: -1 } } }),
    evaluate: ({ inputs: [x] }) => {
      const width = x!.shape.at(-1)!
      const result = new Float64Array(x!.data.length)
      for (let start = 0; start < result.length; start += width) {
        result.set(row(x!.data.subarray(start, start + width)), start)
      }
      return result
    },
  }
}

const largest = (values: Float64Array): number => values.reduce((a, b) => Math.max(a, b), -Infinity)

const softmaxOperation: Operation<None> = overRows(
  'softmax',
  'Softmax',
  (values) => {
    const top = largest(values)
    const exponentials = values.map((value) => Math.exp(value - top))
    const total = exponentials.reduce((a, b) => a + b, 0)
    return exponentials.map((value) => value / total)
  },
  ({ node, gradient }) => {
    const inner = sum(mul(gradient, node), { axes: [-1], keepDims: true })
    return [mul(node, sub(gradient, inner))]
  },
)

const logSoftmaxOperation: Operation<None> = overRows(
  'logSoftmax',
  'LogSoftmax',
  (values) => {
    const top = largest(values)
    const logTotal = Math.log(values.reduce((total, value) => total + Math.exp(value - top), 0))
    return values.map((value) => value - top - logTotal)
  },
  ({ node, gradient }) => [sub(gradient, mul(exp(node), sum(gradient, { axes: [-1], keepDims: true })))],
)

export const softmax = (x: Tensor): Tensor => apply(softmaxOperation, [x], {})
export const logSoftmax = (x: Tensor): Tensor => apply(logSoftmaxOperation, [x], {})
