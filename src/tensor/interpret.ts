/**
 * The boring twin: runs a program on plain arrays in float64, one operation after the other, as it was
 * written and without any of the rewrites. Slow and simple, so that what is emitted can be checked against
 * it.
 */
import { GroundswellError } from '../core/index.ts'
import { topologicalOrder } from './graph.ts'
import { parameterOperation } from './operations/leaves.ts'
import { defineProgram, type Program } from './program.ts'
import { describe, isOf, type Shape, sameShape, sizeOf, type Tensor, type Value } from './tensor.ts'

/** Numbers for a placeholder, in row-major order; bool as 0 and 1. */
export interface Numbers {
  readonly shape: Shape
  readonly data: ArrayLike<number>
}

export interface InterpreterFeed {
  readonly inputs?: Readonly<Record<string, Numbers>>
  readonly state?: Readonly<Record<string, Numbers>>
}

export interface InterpreterResult {
  readonly outputs: Readonly<Record<string, Value>>
  readonly updates: Readonly<Record<string, Value>>
}

export function interpret(program: Program, feed: InterpreterFeed): InterpreterResult {
  const checked = defineProgram(program)
  const fed = new Map<string, Value>()
  for (const [name, tensor] of Object.entries({ ...checked.inputs, ...checked.state })) {
    const numbers = feed.inputs?.[name] ?? feed.state?.[name]
    if (numbers !== undefined) fed.set(name, accept(program.name, name, tensor, numbers))
  }
  const outputs = Object.entries(checked.outputs)
  const updates = Object.entries(checked.updates)
  const values = evaluateAll(
    [...outputs, ...updates].map(([, tensor]) => tensor),
    fed,
  )
  return {
    outputs: Object.fromEntries(outputs.map(([name, tensor]) => [name, values.get(tensor)!])),
    updates: Object.fromEntries(updates.map(([name, tensor]) => [name, values.get(tensor)!])),
  }
}

function accept(program: string, name: string, tensor: Tensor, numbers: Numbers): Value {
  if (!sameShape(numbers.shape, tensor.shape) || numbers.data.length !== sizeOf(tensor.shape)) {
    throw new GroundswellError(
      `program ${program}: ${name} is ${describe(tensor)}, fed with ${numbers.data.length} numbers as [${numbers.shape.join(',')}]`,
      { code: 'tensor/feed', remedy: 'Feed every placeholder numbers of its own shape.' },
    )
  }
  return { shape: tensor.shape, dtype: tensor.dtype, data: Float64Array.from(numbers.data) }
}

function evaluateAll(roots: readonly Tensor[], fed: ReadonlyMap<string, Value>): Map<Tensor, Value> {
  const values = new Map<Tensor, Value>()
  for (const node of topologicalOrder(roots)) {
    const { op, attributes, shape, dtype } = node
    const given = isOf(node, parameterOperation) ? fed.get(attributes.name as string) : undefined
    const inputs = node.inputs.map((input) => values.get(input)!)
    values.set(node, given ?? { shape, dtype, data: op.evaluate({ inputs, attributes, output: node }) })
  }
  return values
}
