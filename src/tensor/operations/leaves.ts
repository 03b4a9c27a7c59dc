/** Where graphs begin: placeholders that are fed or resident, and numbers known when the graph is built. */
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import { GroundswellError } from '../../core/index.ts'
import { requireShape, shapeError } from '../rules.ts'
import {
  apply,
  type DType,
  isOf,
  type Operand,
  type Operation,
  type Shape,
  sizeOf,
  type Tensor,
} from '../tensor.ts'

interface ParameterAttributes {
  readonly name: string
  readonly shape: Shape
  readonly dtype: DType
}

export const parameterOperation: Operation<ParameterAttributes> = {
  name: 'parameter',
  infer: (_, { shape, dtype }) => ({ shape, dtype }),
  lower: ({ attributes }) => attributes.name,
  evaluate: ({ attributes }) => {
    throw new GroundswellError(`the placeholder ${attributes.name} has no value`, { code: 'tensor/program' })
  },
}

/** A tensor whose numbers come from outside: an input of each run, or state that stays on the device. */
export function parameter(name: string, shape: Shape, dtype: DType = 'float32'): Tensor {
  requireShape(`parameter ${name}`, shape)
  return apply(parameterOperation, [], { name, shape: [...shape], dtype })
}

interface ConstantAttributes {
  readonly shape: Shape
  readonly dtype: DType
  readonly data: ArrayLike<number>
}

export const constantOperation: Operation<ConstantAttributes> = {
  name: 'constant',
  infer: (_, { shape, dtype }) => ({ shape, dtype }),
  lower: ({ graph, attributes: { dtype, shape, data } }) => graph.constant(dtype, shape, data),
  evaluate: ({ attributes }) => Float64Array.from(attributes.data),
  key: ({ dtype, shape, data }) => {
    const bytes = new Uint8Array(Float64Array.from(data).buffer)
    return `${dtype}[${shape.join(',')}]${bytesToHex(bytes.length > 64 ? sha256(bytes) : bytes)}`
  },
}

/** Numbers known when the graph is built; they are rounded to the dtype here and stored in the program. */
export function constant(values: ArrayLike<number>, shape: Shape, dtype: DType = 'float32'): Tensor {
  requireShape('constant', shape)
  if (values.length !== sizeOf(shape)) {
    throw shapeError('constant', `${values.length} values do not fill [${shape.join(',')}]`, [])
  }
  const data =
    dtype === 'float32'
      ? Float32Array.from(values)
      : dtype === 'int32'
        ? Int32Array.from(values)
        : Uint8Array.from(values, (value) => (value === 0 ? 0 : 1))
  return apply(constantOperation, [], { shape: [...shape], dtype, data })
}

export function scalar(value: number, dtype: DType = 'float32'): Tensor {
  return constant([value], [], dtype)
}

/** 0, 1, … length−1. */
export function iota(length: number, dtype: DType = 'int32'): Tensor {
  return constant(
    Array.from({ length }, (_, i) => i),
    [length],
    dtype,
  )
}

interface FillAttributes extends ParameterAttributes {
  readonly value: number
}

/** A constant of any size in a few bytes. */
export const fillOperation: Operation<Omit<FillAttributes, 'name'>> = {
  name: 'fill',
  infer: (_, { shape, dtype }) => ({ shape, dtype }),
  lower: ({ graph, attributes: { value, shape, dtype } }) => {
    const one = graph.constant(dtype, [], [value])
    return shape.length === 0 ? one : graph.node('Expand', [one, graph.int64([...shape])])
  },
  evaluate: ({ attributes: { value, shape } }) => new Float64Array(sizeOf(shape)).fill(value),
  // JSON knows no infinities and no −0
  key: ({ value, shape, dtype }) => `${Object.is(value, -0) ? '-0' : value} ${dtype}[${shape.join(',')}]`,
}

export function full(value: number, shape: Shape, dtype: DType = 'float32'): Tensor {
  requireShape('full', shape)
  const rounded = dtype === 'float32' ? Math.fround(value) : Math.trunc(value)
  return apply(fillOperation, [], { value: rounded, shape: [...shape], dtype })
}

export function zeros(shape: Shape, dtype: DType = 'float32'): Tensor {
  return full(0, shape, dtype)
}

export function ones(shape: Shape, dtype: DType = 'float32'): Tensor {
  return full(1, shape, dtype)
}

/** A number as a scalar of `dtype`; a tensor as it is. */
export function tensorOf(operand: Operand, dtype: DType): Tensor {
  return typeof operand === 'number' ? scalar(operand, dtype) : operand
}

/** The one number that fills a constant tensor of any shape, if it is one. */
export function uniformValue(tensor: Tensor): number | undefined {
  if (isOf(tensor, fillOperation)) return tensor.attributes.value as number
  if (!isOf(tensor, constantOperation) || sizeOf(tensor.shape) !== 1) return undefined
  return (tensor.attributes.data as ArrayLike<number>)[0]
}
