/**
 * The two results of root-mean-square normalisation, as operations of their own because ONNX Runtime's CPU
 * has both from one kernel (`SimplifiedLayerNormalization`). Use `rmsNorm`, which knows their gradient.
 */
import { requireDType, shapeError } from '../rules.ts'
import {
  apply,
  type LoweringContext,
  type Operation,
  type Tensor,
  type TensorSpec,
  type Value,
} from '../tensor.ts'

interface NormAttributes {
  readonly epsilon: number
}

function check(inputs: readonly TensorSpec[]): void {
  const [x, weight] = inputs
  requireDType('rmsNorm', inputs, 'float32')
  const width = x!.shape.at(-1)
  if (width === undefined || weight!.shape.length !== 1 || weight!.shape[0] !== width) {
    throw shapeError('rmsNorm', 'the weight must have one element per element of the last axis', inputs)
  }
}

function inverses(x: Value, epsilon: number): Float64Array {
  const width = x.shape.at(-1)!
  return Float64Array.from({ length: x.data.length / width }, (_, row) => {
    const values = x.data.subarray(row * width, (row + 1) * width)
    return 1 / Math.sqrt(values.reduce((total, value) => total + value * value, 0) / width + epsilon)
  })
}

function lower({ graph, dialect, inputs: [x, weight], attributes }: LoweringContext<NormAttributes>): {
  inverse: string
  normalised: () => string
} {
  if (dialect === 'cpu') {
    const outputs = graph.nodes('SimplifiedLayerNormalization', [x!.name, weight!.name], 2, {
      attributes: { axis: { int: -1 }, epsilon: { float: attributes.epsilon }, stash_type: { int: 1 } },
    })
    return { inverse: outputs[1]!, normalised: () => outputs[0]! }
  }
  const square = graph.node('Mul', [x!.name, x!.name])
  const mean = graph.node('ReduceMean', [square], {
    attributes: { axes: { ints: [-1] }, keepdims: { int: 1 } },
  })
  const shifted = graph.node('Add', [mean, graph.constant('float32', [], [attributes.epsilon])])
  const inverse = graph.node('Reciprocal', [graph.node('Sqrt', [shifted])])
  return {
    inverse,
    normalised: () => graph.node('Mul', [graph.node('Mul', [x!.name, inverse]), weight!.name]),
  }
}

const rmsNormaliseOperation: Operation<NormAttributes> = {
  name: 'rmsNormalise',
  infer: (inputs) => {
    check(inputs)
    return inputs[0]!
  },
  lower: (context) => lower(context).normalised(),
  evaluate: ({ inputs: [x, weight], attributes: { epsilon } }) => {
    const width = x!.shape.at(-1)!
    const factors = inverses(x!, epsilon)
    return x!.data.map((value, i) => value * factors[Math.floor(i / width)]! * weight!.data[i % width]!)
  },
}

const inverseRootMeanSquareOperation: Operation<NormAttributes> = {
  name: 'inverseRootMeanSquare',
  infer: (inputs) => {
    check(inputs)
    return { shape: [...inputs[0]!.shape.slice(0, -1), 1], dtype: 'float32' }
  },
  lower: (context) => lower(context).inverse,
  evaluate: ({ inputs: [x], attributes: { epsilon } }) => inverses(x!, epsilon),
}

/** x·w/√(mean(x²) + ε) */
export function rmsNormalise(x: Tensor, weight: Tensor, epsilon: number): Tensor {
  return apply(rmsNormaliseOperation, [x, weight], { epsilon: Math.fround(epsilon) })
}

/**
 * 1/√(mean(x²) + ε), with the last axis kept at length 1; the weight only says which normalisation it belongs
 * to.
 */
export function inverseRootMeanSquare(x: Tensor, weight: Tensor, epsilon: number): Tensor {
  return apply(inverseRootMeanSquareOperation, [x, weight], { epsilon: Math.fround(epsilon) })
}
