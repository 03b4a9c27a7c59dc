/**
 * Rules that shapes and dtypes of many operations share, and the errors that name the operation and the
 * shapes.
 */
import { GroundswellError } from '../core/index.ts'
import { type DType, describe, type Shape, sameShape, type TensorSpec } from './tensor.ts'

export function shapeError(
  operation: string,
  problem: string,
  inputs: readonly TensorSpec[],
): GroundswellError {
  return new GroundswellError(`${operation}: ${problem}${listOf(inputs)}`, {
    code: 'tensor/shape',
    remedy: 'Give the operation tensors whose shapes fit; shapes are fixed when the graph is built.',
  })
}

export function dtypeError(
  operation: string,
  problem: string,
  inputs: readonly TensorSpec[],
): GroundswellError {
  return new GroundswellError(`${operation}: ${problem}${listOf(inputs)}`, {
    code: 'tensor/dtype',
    remedy: 'Convert the tensor with cast(x, dtype) first.',
  })
}

function listOf(inputs: readonly TensorSpec[]): string {
  return inputs.length === 0 ? '' : ` (${inputs.map(describe).join(', ')})`
}

export function requireDType(operation: string, inputs: readonly TensorSpec[], ...allowed: DType[]): void {
  if (inputs.some(({ dtype }) => !allowed.includes(dtype))) {
    throw dtypeError(operation, `needs ${allowed.join(' or ')}`, inputs)
  }
}

export function requireSameDType(operation: string, inputs: readonly TensorSpec[]): DType {
  const dtype = inputs[0]!.dtype
  if (inputs.some((input) => input.dtype !== dtype)) throw dtypeError(operation, 'needs equal dtypes', inputs)
  return dtype
}

/**
 * Every length a positive whole number. Tensors without elements are refused where they would be made: ONNX reads a 0
 * in a Reshape as “as it is”, and ONNX Runtime gets products and reductions over nothing wrong, or ends the process.
 */
export function requireShape(operation: string, shape: Shape): void {
  if (!shape.every((length) => Number.isSafeInteger(length) && length > 0)) {
    throw shapeError(operation, `[${shape.join(',')}] is no shape; lengths are whole and positive`, [])
  }
}

/** NumPy's rule: align at the right; lengths agree or one of them is 1. */
export function broadcastShapes(operation: string, inputs: readonly TensorSpec[]): Shape {
  const first = inputs[0]!.shape
  if (inputs.every(({ shape }) => sameShape(shape, first))) return first
  const rank = Math.max(...inputs.map(({ shape }) => shape.length))
  return Array.from({ length: rank }, (_, axis) => {
    let length = 1
    for (const { shape } of inputs) {
      const own = shape[axis - rank + shape.length] ?? 1
      if (own === 1) continue
      if (length !== 1 && length !== own) {
        throw shapeError(
          operation,
          `shapes do not broadcast, axis ${axis} has lengths ${length} and ${own}`,
          inputs,
        )
      }
      length = own
    }
    return length
  })
}

/** Turns −1 into the last axis and so on. */
export function normaliseAxis(operation: string, axis: number, input: TensorSpec): number {
  const rank = input.shape.length
  const normal = axis < 0 ? axis + rank : axis
  if (!Number.isInteger(axis) || normal < 0 || normal >= rank) {
    throw shapeError(operation, `axis ${axis} is outside the tensor`, [input])
  }
  return normal
}

/** Ascending, without repeats; absent means all axes. */
export function normaliseAxes(
  operation: string,
  axes: readonly number[] | undefined,
  input: TensorSpec,
): readonly number[] {
  if (axes === undefined) return input.shape.map((_, axis) => axis)
  const normal = axes.map((axis) => normaliseAxis(operation, axis, input)).sort((a, b) => a - b)
  if (new Set(normal).size !== normal.length) {
    throw shapeError(operation, `axes [${axes.join(',')}] name an axis twice`, [input])
  }
  return normal
}

/** The shape after reducing `axes`, which stay with length 1 if `keepDims`. */
export function reducedShape(shape: Shape, axes: readonly number[], keepDims: boolean): Shape {
  return keepDims
    ? shape.map((length, axis) => (axes.includes(axis) ? 1 : length))
    : shape.filter((_, axis) => !axes.includes(axis))
}
