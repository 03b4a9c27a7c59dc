/** Operations that move elements and compute nothing: reshape, transpose, slice, pad, concat. */
import { normaliseAxis, requireSameDType, requireShape, shapeError } from '../rules.ts'
import { offsetsOf, stridesOf } from '../strides.ts'
import { apply, type Operation, type Shape, sameShape, sizeOf, type Tensor } from '../tensor.ts'

interface ReshapeAttributes {
  readonly shape: Shape
}

export const reshapeOperation: Operation<ReshapeAttributes> = {
  name: 'reshape',
  infer: ([x], { shape }) => {
    if (sizeOf(x!.shape) !== sizeOf(shape)) {
      throw shapeError('reshape', `cannot give ${sizeOf(x!.shape)} elements the shape [${shape.join(',')}]`, [
        x!,
      ])
    }
    return { shape, dtype: x!.dtype }
  },
  gradient: ({ inputs: [x], gradient }) => [reshape(gradient, x!.shape)],
  lower: ({ graph, inputs: [x], attributes: { shape } }) =>
    graph.node('Reshape', [x!.name, graph.int64(shape)]),
  evaluate: ({ inputs: [x] }) => x!.data,
  exact: true,
}

/**
 * The same elements in the same order under another shape; one length may be −1 and follows from the rest.
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const unknown = shape.indexOf(-1)
  if (unknown < 0) {
    requireShape('reshape', shape)
    return sameShape(x.shape, shape) ? x : apply(reshapeOperation, [x], { shape: [...shape] })
  }
  const known = sizeOf(shape.filter((_, axis) => axis !== unknown))
  const inferred = sizeOf(x.shape) / known
  if (!Number.isInteger(inferred)) {
    throw shapeError('reshape', `no length for −1 in [${shape.join(',')}] fits`, [x])
  }
  return reshape(
    x,
    shape.map((length, axis) => (axis === unknown ? inferred : length)),
  )
}

interface TransposeAttributes {
  readonly permutation: readonly number[]
}

export const transposeOperation: Operation<TransposeAttributes> = {
  name: 'transpose',
  infer: ([x], { permutation }) => {
    const sorted = [...permutation].sort((a, b) => a - b)
    if (permutation.length !== x!.shape.length || sorted.some((axis, i) => axis !== i)) {
      throw shapeError('transpose', `[${permutation.join(',')}] is no permutation of the axes`, [x!])
    }
    return { shape: permutation.map((axis) => x!.shape[axis]!), dtype: x!.dtype }
  },
  gradient: ({ attributes: { permutation }, gradient }) => [transpose(gradient, inverse(permutation))],
  lower: ({ graph, inputs: [x], attributes: { permutation } }) =>
    graph.node('Transpose', [x!.name], { attributes: { perm: { ints: permutation } } }),
  evaluate: ({ inputs: [x], attributes: { permutation }, output }) => {
    const strides = stridesOf(x!.shape)
    const offsets = offsetsOf(
      output.shape,
      permutation.map((axis) => strides[axis]!),
    )
    return Float64Array.from(offsets, (offset) => x!.data[offset]!)
  },
  exact: true,
}

function inverse(permutation: readonly number[]): number[] {
  const result = new Array<number>(permutation.length)
  for (const [to, from] of permutation.entries()) result[from] = to
  return result
}

/** Output axis i is input axis `permutation[i]`; without a permutation the last two axes change places. */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  if (permutation === undefined && x.shape.length < 2) {
    throw shapeError('transpose', 'needs two axes or a permutation', [x])
  }
  const rank = x.shape.length
  const order =
    permutation ??
    Array.from({ length: rank }, (_, axis) =>
      axis < rank - 2 ? axis : axis === rank - 2 ? rank - 1 : rank - 2,
    )
  return apply(transposeOperation, [x], { permutation: [...order] })
}

interface SliceAttributes {
  readonly axis: number
  readonly start: number
  readonly end: number
}

export const sliceOperation: Operation<SliceAttributes> = {
  name: 'slice',
  infer: ([x], { axis, start, end }) => {
    const length = x!.shape[axis]!
    if (!Number.isInteger(start) || !Number.isInteger(end) || start < 0 || end > length || start >= end) {
      const problem = start === end ? 'holds nothing of' : 'is outside'
      throw shapeError('slice', `[${start}, ${end}) ${problem} axis ${axis} of length ${length}`, [x!])
    }
    return { shape: x!.shape.map((own, i) => (i === axis ? end - start : own)), dtype: x!.dtype }
  },
  gradient: ({ inputs: [x], attributes: { axis, start, end }, gradient }) => [
    pad(gradient, { axis, before: start, after: x!.shape[axis]! - end }),
  ],
  lower: ({ graph, inputs: [x], attributes: { axis, start, end } }) =>
    graph.node('Slice', [x!.name, graph.int64([start]), graph.int64([end]), graph.int64([axis])]),
  evaluate: ({ inputs: [x], attributes: { axis, start }, output }) => {
    const strides = stridesOf(x!.shape)
    const offsets = offsetsOf(output.shape, strides, start * strides[axis]!)
    return Float64Array.from(offsets, (offset) => x!.data[offset]!)
  },
  exact: true,
}

/** Elements `start` to `end`−1 along an axis; negative positions count from the end. */
export function slice(x: Tensor, options: { axis: number; start?: number; end?: number }): Tensor {
  const axis = normaliseAxis('slice', options.axis, x)
  const length = x.shape[axis]!
  const fromEnd = (position: number): number => (position < 0 ? position + length : position)
  const start = fromEnd(options.start ?? 0)
  const end = fromEnd(options.end ?? length)
  return start === 0 && end === length ? x : apply(sliceOperation, [x], { axis, start, end })
}

/** Cuts along an axis into parts of the given lengths, or into so many equal parts. */
export function split(x: Tensor, options: { axis: number; parts: number | readonly number[] }): Tensor[] {
  const axis = normaliseAxis('split', options.axis, x)
  const length = x.shape[axis]!
  const { parts } = options
  const sizes = typeof parts === 'number' ? new Array<number>(parts).fill(length / parts) : parts
  if (sizes.reduce((sum, size) => sum + size, 0) !== length || !sizes.every(Number.isInteger)) {
    throw shapeError('split', `axis ${axis} of length ${length} is not the sum of ${JSON.stringify(parts)}`, [
      x,
    ])
  }
  let start = 0
  return sizes.map((size) => {
    const part = slice(x, { axis, start, end: start + size })
    start += size
    return part
  })
}

interface PadAttributes {
  readonly axis: number
  readonly before: number
  readonly after: number
}

export const padOperation: Operation<PadAttributes> = {
  name: 'pad',
  infer: ([x], { axis, before, after }) => {
    if (!Number.isInteger(before) || !Number.isInteger(after) || before < 0 || after < 0) {
      throw shapeError('pad', `cannot pad axis ${axis} by ${before} and ${after}`, [x!])
    }
    return {
      shape: x!.shape.map((length, i) => (i === axis ? length + before + after : length)),
      dtype: x!.dtype,
    }
  },
  gradient: ({ inputs: [x], attributes: { axis, before }, gradient }) => [
    slice(gradient, { axis, start: before, end: before + x!.shape[axis]! }),
  ],
  lower: ({ graph, inputs: [x], attributes: { axis, before, after } }) => {
    const rank = x!.shape.length
    const amounts = new Array<number>(2 * rank).fill(0)
    amounts[axis] = before
    amounts[rank + axis] = after
    return graph.node('Pad', [x!.name, graph.int64(amounts)])
  },
  evaluate: ({ inputs: [x], attributes: { axis, before }, output }) => {
    const strides = stridesOf(output.shape)
    const result = new Float64Array(sizeOf(output.shape))
    const offsets = offsetsOf(x!.shape, strides, before * strides[axis]!)
    for (let i = 0; i < offsets.length; i++) result[offsets[i]!] = x!.data[i]!
    return result
  },
}

/** Zeros before and after along an axis: the adjoint of `slice`. */
export function pad(x: Tensor, options: { axis: number; before?: number; after?: number }): Tensor {
  const axis = normaliseAxis('pad', options.axis, x)
  const { before = 0, after = 0 } = options
  return before === 0 && after === 0 ? x : apply(padOperation, [x], { axis, before, after })
}

interface ConcatAttributes {
  readonly axis: number
}

export const concatOperation: Operation<ConcatAttributes> = {
  name: 'concat',
  infer: (inputs, { axis }) => {
    const dtype = requireSameDType('concat', inputs)
    const first = inputs[0]!.shape
    for (const { shape } of inputs) {
      if (shape.length !== first.length || shape.some((length, i) => i !== axis && length !== first[i])) {
        throw shapeError('concat', `shapes differ beside axis ${axis}`, inputs)
      }
    }
    const total = inputs.reduce((sum, { shape }) => sum + shape[axis]!, 0)
    return { shape: first.map((length, i) => (i === axis ? total : length)), dtype }
  },
  gradient: ({ inputs, attributes: { axis }, gradient }) =>
    split(gradient, { axis, parts: inputs.map(({ shape }) => shape[axis]!) }),
  lower: ({ graph, inputs, attributes: { axis } }) =>
    graph.node(
      'Concat',
      inputs.map(({ name }) => name),
      { attributes: { axis: { int: axis } } },
    ),
  evaluate: ({ inputs, attributes: { axis }, output }) => {
    const strides = stridesOf(output.shape)
    const result = new Float64Array(sizeOf(output.shape))
    let start = 0
    for (const { shape, data } of inputs) {
      const offsets = offsetsOf(shape, strides, start * strides[axis]!)
      for (let i = 0; i < offsets.length; i++) result[offsets[i]!] = data[i]!
      start += shape[axis]!
    }
    return result
  },
}

/** Joins tensors along an axis. */
export function concat(tensors: readonly Tensor[], options: { axis: number }): Tensor {
  if (tensors.length === 0) throw shapeError('concat', 'needs at least one tensor', [])
  if (tensors.length === 1) return tensors[0]!
  return apply(concatOperation, [...tensors], { axis: normaliseAxis('concat', options.axis, tensors[0]!) })
}
