/**
 * A tensor here is a promise of numbers, not the numbers: an immutable node of a directed acyclic graph that
 * says which operation makes it from which other tensors. Shapes and element types are known when the node is
 * built, so a mistake throws where it was made. Nothing is executed in this room except by the slow reference
 * interpreter.
 *
 * Each operation is one record (`Operation`) that holds all that is known about it: the rule for its output's
 * shape and dtype, its gradient, how it is written in ONNX, and what it computes. A node points to its
 * record, so there is no registry to keep in step and a new operation may be defined next to the only code
 * that uses it.
 */
import type { GraphBuilder } from './onnx/graph-builder.ts'

export type DType = 'float32' | 'int32' | 'bool'
export type Shape = readonly number[]

export interface TensorSpec {
  readonly shape: Shape
  readonly dtype: DType
}

/**
 * Which ONNX operators may be used. `portable` is the standard set that every ONNX Runtime backend has; `cpu`
 * adds the `com.microsoft` operators of ONNX Runtime's CPU kernels where they are faster.
 */
export type Dialect = 'portable' | 'cpu'

/**
 * What an operation needs to know beyond its inputs: axes, sizes, flags. Plain data, so that equal means
 * equal.
 */
export type Attributes = Readonly<Record<string, unknown>>

export interface Tensor extends TensorSpec {
  readonly op: Operation
  readonly inputs: readonly Tensor[]
  readonly attributes: Attributes
}

/** A tensor, or a number that stands for a scalar of the other operand's dtype. */
export type Operand = Tensor | number

export interface GradientContext<A> {
  /** The node itself: its value may be reused, as in d exp(x) = exp(x)·dx. */
  readonly node: Tensor
  readonly inputs: readonly Tensor[]
  readonly attributes: A
  /** dLoss/dNode, of the node's shape. */
  readonly gradient: Tensor
}

export interface LoweringContext<A> {
  readonly dialect: Dialect
  readonly graph: GraphBuilder
  /** Names of the input values in the ONNX graph, and what is known of them. */
  readonly inputs: readonly LoweredValue[]
  readonly attributes: A
  readonly output: TensorSpec
}

export interface LoweredValue extends TensorSpec {
  readonly name: string
  /** The number that fills the tensor, where that is known. */
  readonly uniform: number | undefined
}

/** Numbers in row-major order; int32 as whole numbers, bool as 0 and 1. */
export interface Value extends TensorSpec {
  readonly data: Float64Array
}

export interface EvaluationContext<A> {
  readonly inputs: readonly Value[]
  readonly attributes: A
  readonly output: TensorSpec
}

export interface Operation<A = Attributes> {
  readonly name: string
  /** The output's shape and dtype; throws `tensor/shape` or `tensor/dtype`. */
  infer(inputs: readonly TensorSpec[], attributes: A): TensorSpec
  /** dLoss/dInput for each input; `undefined` where none flows. Absent: nothing flows at all. */
  gradient?(context: GradientContext<A>): readonly (Tensor | undefined)[]
  /** Adds ONNX nodes and returns the name of the result. */
  lower(context: LoweringContext<A>): string
  /** What the operation computes, in float64. */
  evaluate(context: EvaluationContext<A>): Float64Array
  /**
   * The value is the first input's, and only differentiation sees the difference; emission skips the node.
   */
  readonly transparent?: true
  /**
   * Result depends on rounding only, not on a machine's math library: may be computed when the graph is
   * emitted.
   */
  readonly exact?: true
  /** Applied element by element with NumPy broadcasting, so a broadcast input need not be made explicit. */
  readonly broadcasts?: true
  /** What tells two nodes of this operation apart, where the attributes as JSON would not do. */
  key?(attributes: A): string
}

/** Builds the node of `op`, after checking shapes and dtypes. */
export function apply<A extends object>(op: Operation<A>, inputs: readonly Tensor[], attributes: A): Tensor {
  const { shape, dtype } = op.infer(inputs, attributes)
  return { op: op as Operation, inputs, attributes: attributes as Attributes, shape, dtype }
}

/** Whether a node is of that operation, whatever its attributes' type. */
export function isOf<A>({ op }: Tensor, operation: Operation<A>): boolean {
  return (op as unknown) === operation
}

export function sizeOf(shape: Shape): number {
  let size = 1
  for (const length of shape) size *= length
  return size
}

/** `float32[2,3]`: how error messages and listings show a tensor. */
export function describe(spec: TensorSpec): string {
  return `${spec.dtype}[${spec.shape.join(',')}]`
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((length, axis) => length === b[axis])
}
