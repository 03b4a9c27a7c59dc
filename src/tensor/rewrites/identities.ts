/**
 * Rewrites that hold whatever else the graph holds: neutral elements, known numbers, needless moves of
 * elements.
 */

import { broadcastOperation, sumOperation } from '../operations/broadcast.ts'
import {
  add,
  addOperation,
  castOperation,
  divOperation,
  mulOperation,
  negOperation,
  powOperation,
  sub,
  subOperation,
} from '../operations/elementwise.ts'
import {
  constant,
  constantOperation,
  fillOperation,
  full,
  scalar,
  uniformValue,
} from '../operations/leaves.ts'
import { matmulOperation } from '../operations/matmul.ts'
import {
  concatOperation,
  reshape,
  reshapeOperation,
  slice,
  sliceOperation,
  transpose,
  transposeOperation,
} from '../operations/shape.ts'
import { broadcastShapes } from '../rules.ts'
import { apply, isOf, sameShape, sizeOf, type Tensor } from '../tensor.ts'
import { type Rule, ruleFor } from './rule.ts'

/** Numbers up to this many are worked out when the program is emitted. */
const foldLimit = 64

const skipTransparent: Rule = ({ op, inputs }) => (op.transparent ? inputs[0] : undefined)

const foldConstants: Rule = (node) => {
  const { op, inputs, attributes, dtype, shape } = node
  if (!op.exact || inputs.length === 0 || sizeOf(shape) > foldLimit) return undefined
  if (!inputs.every((input) => isOf(input, constantOperation) && sizeOf(input.shape) <= foldLimit))
    return undefined
  const values = inputs.map((input) => ({
    ...input,
    data: Float64Array.from(input.attributes.data as ArrayLike<number>),
  }))
  return constant(op.evaluate({ inputs: values, attributes, output: node }), shape, dtype)
}

/** Uniform tensors of any size stay one number. */
const foldUniform: Rule = ({ op, inputs, attributes, dtype, shape }) => {
  if (!op.exact || !op.broadcasts || !inputs.some((input) => isOf(input, fillOperation))) return undefined
  const values = inputs.map(uniformValue)
  if (!values.every((value) => value !== undefined)) return undefined
  const scalars = inputs.map((input, i) => ({
    shape: [],
    dtype: input.dtype,
    data: Float64Array.of(values[i]!),
  }))
  const [result] = op.evaluate({ inputs: scalars, attributes, output: { shape: [], dtype } })
  return full(result!, shape, dtype)
}

/** A large uniform or explicitly broadcast operand is replaced by the small one that broadcasts to it. */
const leaveBroadcastsImplicit: Rule = (node) => {
  if (!node.op.broadcasts || node.inputs.length < 2) return undefined
  const fits = (inputs: readonly Tensor[]): boolean =>
    sameShape(broadcastShapes(node.op.name, inputs), node.shape)
  for (const [i, input] of node.inputs.entries()) {
    const smaller = isOf(input, fillOperation)
      ? scalar(input.attributes.value as number, input.dtype)
      : isOf(input, broadcastOperation)
        ? input.inputs[0]!
        : undefined
    if (smaller === undefined) continue
    const inputs = node.inputs.with(i, smaller)
    if (fits(inputs)) return { ...node, inputs }
  }
  return undefined
}

/** `x` if an operation with a neutral operand leaves it as it is, shape included. */
function unlessReshaped(node: Tensor, x: Tensor): Tensor | undefined {
  return sameShape(node.shape, x.shape) ? x : undefined
}

const neutralElements: Rule[] = [
  ruleFor(addOperation, (node) => {
    const [a, b] = node.inputs as [Tensor, Tensor]
    if (uniformValue(b) === 0) return unlessReshaped(node, a)
    if (uniformValue(a) === 0) return unlessReshaped(node, b)
    if (isOf(b, negOperation)) return sub(a, b.inputs[0]!)
    if (isOf(a, negOperation)) return sub(b, a.inputs[0]!)
    return undefined
  }),
  ruleFor(subOperation, (node) => {
    const [a, b] = node.inputs as [Tensor, Tensor]
    if (uniformValue(b) === 0) return unlessReshaped(node, a)
    if (isOf(b, negOperation)) return add(a, b.inputs[0]!)
    return undefined
  }),
  ruleFor(mulOperation, (node) => {
    const [a, b] = node.inputs as [Tensor, Tensor]
    if (uniformValue(b) === 1) return unlessReshaped(node, a)
    if (uniformValue(a) === 1) return unlessReshaped(node, b)
    return undefined
  }),
  ruleFor(divOperation, (node) => {
    const [a, b] = node.inputs as [Tensor, Tensor]
    return uniformValue(b) === 1 ? unlessReshaped(node, a) : undefined
  }),
  ruleFor(powOperation, (node) => {
    const [a, b] = node.inputs as [Tensor, Tensor]
    return uniformValue(b) === 1 ? unlessReshaped(node, a) : undefined
  }),
  ruleFor(negOperation, ({ inputs: [x] }) => {
    if (isOf(x!, negOperation)) return x!.inputs[0]
    return isOf(x!, subOperation) ? sub(x!.inputs[1]!, x!.inputs[0]!) : undefined
  }),
  ruleFor(castOperation, ({ inputs: [x] }, { dtype }) => (x!.dtype === dtype ? x : undefined)),
]

/** (x·c)·d = x·(c·d), and −(x·c) = x·(−c), for single numbers c and d. */
const mergeFactors: Rule = (node) => {
  const scaled = factorOf(node)
  if (scaled === undefined) return undefined
  const inner = factorOf(scaled.x)
  return inner === undefined || !sameShape(inner.x.shape, node.shape)
    ? undefined
    : apply(mulOperation, [inner.x, scalar(scaled.factor * inner.factor)], {})
}

/** Reads a node as x times a number. */
export function factorOf(node: Tensor): { x: Tensor; factor: number } | undefined {
  if (node.dtype !== 'float32') return undefined
  if (isOf(node, negOperation)) return { x: node.inputs[0]!, factor: -1 }
  if (!isOf(node, mulOperation)) return undefined
  const [a, b] = node.inputs as [Tensor, Tensor]
  const [valueA, valueB] = [uniformValue(a), uniformValue(b)]
  if (valueB !== undefined && sameShape(a.shape, node.shape)) return { x: a, factor: valueB }
  if (valueA !== undefined && sameShape(b.shape, node.shape)) return { x: b, factor: valueA }
  return undefined
}

const moves: Rule[] = [
  ruleFor(reshapeOperation, ({ inputs: [x], shape }) => {
    if (sameShape(x!.shape, shape)) return x
    return isOf(x!, reshapeOperation) ? reshape(x!.inputs[0]!, shape) : undefined
  }),
  ruleFor(transposeOperation, ({ inputs: [x], shape }, { permutation }) => {
    // axes of length 1 may move freely: then nothing moves in memory
    const moved = permutation.filter((axis) => x!.shape[axis] !== 1)
    if (moved.every((axis, i) => i === 0 || moved[i - 1]! < axis)) return reshape(x!, shape)
    if (!isOf(x!, transposeOperation)) return undefined
    const first = x!.attributes.permutation as readonly number[]
    return transpose(
      x!.inputs[0]!,
      permutation.map((axis) => first[axis]!),
    )
  }),
  ruleFor(sumOperation, ({ inputs: [x], shape }, { axes }) =>
    axes.every((axis) => x!.shape[axis] === 1) ? reshape(x!, shape) : undefined,
  ),
  ruleFor(broadcastOperation, ({ inputs: [x], shape }) => {
    if (sameShape(x!.shape, shape)) return x
    return sizeOf(x!.shape) === sizeOf(shape) ? reshape(x!, shape) : undefined
  }),
  ruleFor(sliceOperation, ({ inputs: [x] }, { axis, start, end }) => {
    if (isOf(x!, sliceOperation) && x!.attributes.axis === axis) {
      const offset = x!.attributes.start as number
      return slice(x!.inputs[0]!, { axis, start: start + offset, end: end + offset })
    }
    if (!isOf(x!, concatOperation) || x!.attributes.axis !== axis) return undefined
    let before = 0
    for (const part of x!.inputs) {
      const after = before + part.shape[axis]!
      if (start >= before && end <= after)
        return slice(part, { axis, start: start - before, end: end - before })
      before = after
    }
    return undefined
  }),
  ruleFor(concatOperation, ({ inputs }, { axis }) => {
    const whole = inputs[0]!.inputs[0]
    if (whole === undefined) return undefined
    let end = 0
    for (const part of inputs) {
      const continues =
        isOf(part, sliceOperation) && part.inputs[0] === whole && part.attributes.axis === axis
      if (!continues || part.attributes.start !== end) return undefined
      end = part.attributes.end as number
    }
    return end === whole.shape[axis] ? whole : undefined
  }),
]

/** A transpose of the last two axes becomes a flag of the product that reads it. */
const transposesIntoProducts: Rule = (node) => {
  if (!isOf(node, matmulOperation)) return undefined
  const [a, b] = node.inputs as [Tensor, Tensor]
  const { transposeA, transposeB } = node.attributes as unknown as {
    transposeA: boolean
    transposeB: boolean
  }
  if (swapsLastTwo(a)) {
    return { ...node, inputs: [a.inputs[0]!, b], attributes: { ...node.attributes, transposeA: !transposeA } }
  }
  if (swapsLastTwo(b)) {
    return { ...node, inputs: [a, b.inputs[0]!], attributes: { ...node.attributes, transposeB: !transposeB } }
  }
  return undefined
}

function swapsLastTwo(node: Tensor): boolean {
  if (!isOf(node, transposeOperation)) return false
  const permutation = node.attributes.permutation as readonly number[]
  const rank = permutation.length
  return permutation.every((axis, i) => axis === (i < rank - 2 ? i : i === rank - 2 ? rank - 1 : rank - 2))
}

export const identityRules: readonly Rule[] = [
  skipTransparent,
  foldConstants,
  foldUniform,
  leaveBroadcastsImplicit,
  ...neutralElements,
  mergeFactors,
  ...moves,
  transposesIntoProducts,
]
