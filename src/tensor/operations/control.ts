/**
 * Operations that change what differentiation does and leave values alone: a stop for gradients, gradients
 * written by hand, and a block that is computed again in the backward pass instead of kept in memory (Chen et
 * al., https://arxiv.org/abs/1604.06174).
 */
import { GroundswellError } from '../../core/index.ts'
import { propagate } from '../gradient.ts'
import { topologicalOrder } from '../graph.ts'
import { requireDType } from '../rules.ts'
import { apply, type Operation, type Tensor } from '../tensor.ts'

/** Emission puts the first input in the place of a transparent node. */
function transparent(name: string): Operation<never> {
  return {
    name,
    infer: ([x]) => x!,
    lower: ({ inputs: [x] }) => x!.name,
    evaluate: ({ inputs: [x] }) => x!.data,
    transparent: true,
  }
}

const stopGradientOperation: Operation<Record<string, never>> = transparent('stopGradient')

/** The same value; to differentiation a constant. */
export function stopGradient(x: Tensor): Tensor {
  return apply(stopGradientOperation, [x], {})
}

export interface BackwardContext {
  readonly inputs: readonly Tensor[]
  readonly output: Tensor
  /** What `forward` has put aside. */
  readonly saved: readonly Tensor[]
  /** dLoss/dOutput */
  readonly gradient: Tensor
}

interface CustomGradientAttributes {
  readonly inputCount: number
  readonly backward: (context: BackwardContext) => readonly (Tensor | undefined)[]
}

/**
 * Inputs: the output itself, the inputs proper, the saved tensors. Only the inputs proper receive a gradient.
 */
const customGradientOperation: Operation<CustomGradientAttributes> = {
  ...transparent('customGradient'),
  gradient: ({ inputs: [output, ...rest], attributes: { inputCount, backward }, gradient }) => {
    const inputs = rest.slice(0, inputCount)
    const flows = backward({ inputs, output: output!, saved: rest.slice(inputCount), gradient })
    if (flows.length !== inputCount) {
      throw new GroundswellError(
        `customGradient: backward gave ${flows.length} gradients for ${inputCount} inputs`,
        { code: 'tensor/shape', remedy: 'Return one gradient, or undefined, for each input.' },
      )
    }
    return [undefined, ...flows]
  },
}

/**
 * `forward(...inputs)` with a gradient written by hand. Tensors that `forward` takes from outside of `inputs`
 * count as constants. What the backward pass shall use again goes into `saved`, so that rematerialisation
 * knows of it.
 */
export function customGradient(
  inputs: readonly Tensor[],
  forward: (...inputs: Tensor[]) => Tensor | { readonly output: Tensor; readonly saved: readonly Tensor[] },
  backward: (context: BackwardContext) => readonly (Tensor | undefined)[],
): Tensor {
  const result = forward(...inputs)
  const { output, saved } = 'output' in result ? result : { output: result, saved: [] }
  return apply(customGradientOperation, [output, ...inputs, ...saved], {
    inputCount: inputs.length,
    backward,
  })
}

/**
 * The value of `x`, available only once `after` is. ONNX has no such operator, so the shape given to a
 * Reshape is made to depend on `after`: nothing is copied, no optimiser can see through it, and the execution
 * order follows.
 */
const barrierOperation: Operation<Record<string, never>> = {
  name: 'barrier',
  infer: (inputs) => {
    requireDType('barrier', [inputs[1]!], 'float32')
    return inputs[0]!
  },
  gradient: ({ gradient }) => [gradient, undefined],
  lower: ({ graph, inputs: [x, after], output }) => {
    const flat = graph.node('Reshape', [after!.name, graph.int64([-1])])
    const first = graph.node('Slice', [flat, graph.int64([0]), graph.int64([1])])
    const never = graph.node('Less', [first, first]) // false even for NaN
    const zero = graph.node('Cast', [never], { attributes: { to: { int: 7 } } })
    const name = graph.node('Reshape', [x!.name, graph.node('Add', [graph.int64(output.shape), zero])])
    graph.declare(name, output)
    return name
  },
  evaluate: ({ inputs: [x] }) => x!.data,
}

/** The same tensor as a node of its own, so that it can be asked about apart from its other uses. */
const apartOperation: Operation<Record<string, never>> = {
  ...transparent('apart'),
  gradient: ({ gradient }) => [gradient],
}

interface RematerialiseAttributes {
  readonly inputCount: number
}

/**
 * Inputs: the output, the block's inputs, and the tensors from outside that the block uses. The copy of the block
 * begins at nodes made for it alone and only their gradients are asked for: what lies before them, and how one
 * depends on another, is for the pass that called to walk, once.
 */
const rematerialiseOperation: Operation<RematerialiseAttributes> = {
  ...transparent('rematerialise'),
  gradient: ({ inputs: [output, ...rest], attributes: { inputCount }, gradient }) => {
    const fresh = rest.map((tensor, i) =>
      i < inputCount ? apply(barrierOperation, [tensor, gradient], {}) : apply(apartOperation, [tensor], {}),
    )
    const copies = new Map(rest.map((tensor, i) => [tensor, fresh[i]!]))
    for (const node of topologicalOrder([output!])) {
      if (copies.has(node) || !node.inputs.some((input) => copies.has(input))) continue
      copies.set(node, { ...node, inputs: node.inputs.map((input) => copies.get(input) ?? input) })
    }
    return [undefined, ...propagate(copies.get(output!)!, gradient, fresh)]
  },
}

/**
 * `block(...inputs)`, whose inner results are not kept for the backward pass but computed again there from
 * the inputs. Weights and masks that the block takes from outside receive their gradients as usual.
 */
export function rematerialise(inputs: readonly Tensor[], block: (...inputs: Tensor[]) => Tensor): Tensor {
  const output = block(...inputs)
  const inside = new Set(inputs)
  const outside = new Set<Tensor>()
  for (const node of topologicalOrder([output])) {
    if (inside.has(node) || !node.inputs.some((input) => inside.has(input))) continue
    inside.add(node)
    for (const input of node.inputs) if (!inside.has(input)) outside.add(input)
  }
  if (!inside.has(output)) outside.add(output)
  return apply(rematerialiseOperation, [output, ...inputs, ...outside], { inputCount: inputs.length })
}
