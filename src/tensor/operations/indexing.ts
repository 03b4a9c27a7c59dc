/**
 * Reading and adding at positions that are known only when the program runs. A position counts from 0: ONNX reads one
 * below it from the end, but the additions that are its gradient do not, and to make them agree would cost every
 * embedding a pass over its tokens. So a negative position is a mistake, like one beyond the end. It is refused where
 * it is a constant, and by the interpreter; an emitted program does not look.
 */
import { normaliseAxis, requireDType, requireSameDType, shapeError } from '../rules.ts'
import { offsetsOf, stridesOf } from '../strides.ts'
import {
  apply,
  isOf,
  type LoweringContext,
  type Operation,
  sameShape,
  sizeOf,
  type Tensor,
  type Value,
} from '../tensor.ts'
import { cast, equal } from './elementwise.ts'
import { constantOperation, iota, zeros } from './leaves.ts'
import { lowerScatterAdd } from './scatter-add.ts'
import { reshape } from './shape.ts'

type None = Record<string, never>

function checkedIndex(operation: string, index: number, length: number): number {
  if (index < 0 || index >= length)
    throw shapeError(operation, `index ${index} is outside length ${length}`, [])
  return index
}

/** `op` on a tensor and indices into its `axis`, of which those that are known already are checked. */
function applyAt<A extends object>(
  op: Operation<A>,
  inputs: readonly [Tensor, Tensor, ...Tensor[]],
  attributes: A,
  axis = 0,
): Tensor {
  const node = apply(op, inputs, attributes)
  const [x, indices] = inputs
  if (isOf(indices, constantOperation)) {
    const known = indices.attributes.data as Int32Array
    for (const index of known) checkedIndex(op.name, index, x.shape[axis]!)
  }
  return node
}

const gatherOperation: Operation<None> = {
  name: 'gather',
  infer: ([table, indices]) => {
    requireDType('gather', [indices!], 'int32')
    if (table!.shape.length === 0)
      throw shapeError('gather', 'needs an axis to choose from', [table!, indices!])
    return { shape: [...indices!.shape, ...table!.shape.slice(1)], dtype: table!.dtype }
  },
  gradient: ({ inputs: [table, indices], gradient }) => [
    scatterAdd(zeros(table!.shape), indices!, gradient),
    undefined,
  ],
  lower: ({ graph, inputs: [table, indices] }) =>
    graph.node('Gather', [table!.name, indices!.name], { attributes: { axis: { int: 0 } } }),
  evaluate: ({ inputs: [table, indices], output }) => {
    const row = sizeOf(table!.shape.slice(1))
    const result = new Float64Array(sizeOf(output.shape))
    for (const [i, index] of indices!.data.entries()) {
      const from = checkedIndex('gather', index, table!.shape[0]!) * row
      result.set(table!.data.subarray(from, from + row), i * row)
    }
    return result
  },
}

/** Rows of a table, chosen by int32 indices of any shape, none of them negative: an embedding. */
export function gather(table: Tensor, indices: Tensor): Tensor {
  return applyAt(gatherOperation, [table, indices], {})
}

export const scatterAddOperation: Operation<None> = {
  name: 'scatterAdd',
  infer: (inputs) => {
    const [base, indices, updates] = inputs
    requireDType('scatterAdd', [indices!], 'int32')
    requireDType('scatterAdd', [base!, updates!], 'float32')
    if (!sameShape(updates!.shape, [...indices!.shape, ...base!.shape.slice(1)])) {
      throw shapeError('scatterAdd', 'updates must be one row of the base for each index', inputs)
    }
    return base!
  },
  gradient: ({ inputs: [, indices], gradient }) => [gradient, undefined, gather(gradient, indices!)],
  lower: lowerScatterAdd,
  evaluate: ({ inputs: [base, indices, updates] }) => {
    const row = sizeOf(base!.shape.slice(1))
    const result = base!.data.slice()
    for (const [i, index] of indices!.data.entries()) {
      const to = checkedIndex('scatterAdd', index, base!.shape[0]!) * row
      for (let j = 0; j < row; j++) result[to + j]! += updates!.data[i * row + j]!
    }
    return result
  },
}

/** Adds rows to the rows of `base` that the indices, none negative, name; a row named twice receives both. */
export function scatterAdd(base: Tensor, indices: Tensor, updates: Tensor): Tensor {
  return applyAt(scatterAddOperation, [base, indices, updates], {})
}

interface AxisAttributes {
  readonly axis: number
}

/** For each index, where its element lies in a tensor of `x`'s shape. */
function elementOffsets(
  operation: string,
  x: { shape: readonly number[] },
  indices: Value,
  axis: number,
): Int32Array {
  const strides = stridesOf(x.shape)
  const offsets = offsetsOf(
    indices.shape,
    strides.map((stride, i) => (i === axis ? 0 : stride)),
  )
  return offsets.map((offset, i) => {
    return offset + checkedIndex(operation, indices.data[i]!, x.shape[axis]!) * strides[axis]!
  })
}

/** ONNX lets the indices be shorter along the other axes; then the leading part of the tensor is used. */
function indicesFit(
  x: { shape: readonly number[] },
  indices: { shape: readonly number[] },
  axis: number,
): boolean {
  return (
    x.shape.length === indices.shape.length &&
    indices.shape.every((length, i) => i === axis || length <= x.shape[i]!)
  )
}

const gatherElementsOperation: Operation<AxisAttributes> = {
  name: 'gatherElements',
  infer: (inputs, { axis }) => {
    const [x, indices] = inputs
    requireDType('gatherElements', [indices!], 'int32')
    if (!indicesFit(x!, indices!, axis)) {
      throw shapeError('gatherElements', `indices must have the tensor's shape beside axis ${axis}`, inputs)
    }
    return { shape: indices!.shape, dtype: x!.dtype }
  },
  gradient: ({ inputs: [x, indices], attributes: { axis }, gradient }) => [
    scatterElementsAdd(zeros(x!.shape), indices!, gradient, { axis }),
    undefined,
  ],
  lower: ({ graph, inputs: [x, indices], attributes: { axis } }) =>
    graph.node('GatherElements', [x!.name, indices!.name], { attributes: { axis: { int: axis } } }),
  evaluate: ({ inputs: [x, indices], attributes: { axis } }) =>
    Float64Array.from(elementOffsets('gatherElements', x!, indices!, axis), (offset) => x!.data[offset]!),
}

/** One element per index along an axis, as NumPy's take_along_axis, but without negative indices. */
export function gatherElements(x: Tensor, indices: Tensor, options: { axis: number }): Tensor {
  const axis = normaliseAxis('gatherElements', options.axis, x)
  return applyAt(gatherElementsOperation, [x, indices], { axis }, axis)
}

export const scatterElementsAddOperation: Operation<AxisAttributes> = {
  name: 'scatterElementsAdd',
  infer: (inputs, { axis }) => {
    const [base, indices, updates] = inputs
    requireDType('scatterElementsAdd', [indices!], 'int32')
    requireSameDType('scatterElementsAdd', [base!, updates!])
    if (!indicesFit(base!, indices!, axis) || !sameShape(indices!.shape, updates!.shape)) {
      throw shapeError(
        'scatterElementsAdd',
        `indices and updates must fit the base beside axis ${axis}`,
        inputs,
      )
    }
    return base!
  },
  gradient: ({ inputs: [, indices], attributes: { axis }, gradient }) => [
    gradient,
    undefined,
    gatherElements(gradient, indices!, { axis }),
  ],
  lower: ({ graph, inputs, attributes: { axis } }: LoweringContext<AxisAttributes>) =>
    graph.node(
      'ScatterElements',
      inputs.map(({ name }) => name),
      { attributes: { axis: { int: axis }, reduction: { string: 'add' } } },
    ),
  evaluate: ({ inputs: [base, indices, updates], attributes: { axis } }) => {
    const result = base!.data.slice()
    const offsets = elementOffsets('scatterElementsAdd', base!, indices!, axis)
    for (const [i, offset] of offsets.entries()) result[offset]! += updates!.data[i]!
    return result
  },
}

/** Adds one element per index along an axis: the adjoint of `gatherElements`. */
export function scatterElementsAdd(
  base: Tensor,
  indices: Tensor,
  updates: Tensor,
  options: { axis: number },
): Tensor {
  const axis = normaliseAxis('scatterElementsAdd', options.axis, base)
  return applyAt(scatterElementsAddOperation, [base, indices, updates], { axis }, axis)
}

/** 1 at each index along a new last axis, 0 elsewhere. An index outside 0 … depth−1 gives a row of zeros. */
export function oneHot(indices: Tensor, depth: number): Tensor {
  requireDType('oneHot', [indices], 'int32')
  return cast(equal(reshape(indices, [...indices.shape, 1]), iota(depth)), 'float32')
}
