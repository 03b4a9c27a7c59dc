/**
 * Arithmetic element by element, with NumPy broadcasting. An operation of one or two operands is a row of a
 * table: ONNX's name for it, what it computes, and its gradient.
 */
import { broadcastShapes, dtypeError, requireDType, requireSameDType } from '../rules.ts'
import { broadcastStrides, offsetsOf } from '../strides.ts'
import {
  apply,
  type DType,
  type EvaluationContext,
  type GradientContext,
  type LoweringContext,
  type Operand,
  type Operation,
  type Tensor,
} from '../tensor.ts'
import { sumTo } from './broadcast.ts'
import { tensorOf } from './leaves.ts'

type None = Record<string, never>
const none: None = {}

interface UnaryRule {
  readonly dtypes?: readonly DType[]
  /** ONNX operator, or how to write it where there is none. */
  readonly onnx: string | ((context: LoweringContext<None>) => string)
  readonly evaluate: (x: number) => number
  readonly gradient?: (context: { x: Tensor; y: Tensor; gradient: Tensor }) => Tensor
  readonly exact?: true
}

function unary(name: string, rule: UnaryRule): Operation<None> {
  const { onnx, gradient } = rule
  return {
    name,
    infer: ([x]) => {
      requireDType(name, [x!], ...(rule.dtypes ?? ['float32']))
      return x!
    },
    lower: (context) =>
      typeof onnx === 'string' ? context.graph.node(onnx, [context.inputs[0]!.name]) : onnx(context),
    evaluate: ({ inputs: [x] }) => x!.data.map((value) => rule.evaluate(value)),
    broadcasts: true,
    ...(gradient && {
      gradient: ({ node, inputs: [x], gradient: outer }: GradientContext<None>) => [
        gradient({ x: x!, y: node, gradient: outer }),
      ],
    }),
    ...(rule.exact && { exact: true as const }),
  }
}

export const negOperation: Operation<None> = unary('neg', {
  onnx: 'Neg',
  dtypes: ['float32', 'int32'],
  evaluate: (x) => -x,
  gradient: ({ gradient }) => neg(gradient),
  exact: true,
})
const absOperation: Operation<None> = unary('abs', {
  onnx: 'Abs',
  dtypes: ['float32', 'int32'],
  evaluate: Math.abs,
  gradient: ({ x, gradient }) => mul(gradient, sign(x)),
  exact: true,
})
const signOperation: Operation<None> = unary('sign', {
  onnx: 'Sign',
  dtypes: ['float32', 'int32'],
  evaluate: Math.sign,
  exact: true,
})
const floorOperation: Operation<None> = unary('floor', {
  onnx: 'Floor',
  evaluate: Math.floor,
  exact: true,
})
const expOperation: Operation<None> = unary('exp', {
  onnx: 'Exp',
  evaluate: Math.exp,
  gradient: ({ y, gradient }) => mul(gradient, y),
})
const logOperation: Operation<None> = unary('log', {
  onnx: 'Log',
  evaluate: Math.log,
  gradient: ({ x, gradient }) => div(gradient, x),
})
const sqrtOperation: Operation<None> = unary('sqrt', {
  onnx: 'Sqrt',
  evaluate: Math.sqrt,
  gradient: ({ y, gradient }) => div(mul(gradient, 0.5), y),
  exact: true,
})
const reciprocalOperation: Operation<None> = unary('reciprocal', {
  onnx: 'Reciprocal',
  evaluate: (x) => 1 / x,
  gradient: ({ y, gradient }) => neg(mul(gradient, mul(y, y))),
  exact: true,
})
const rsqrtOperation: Operation<None> = unary('rsqrt', {
  onnx: ({ graph, inputs: [x] }) => graph.node('Reciprocal', [graph.node('Sqrt', [x!.name])]),
  evaluate: (x) => 1 / Math.sqrt(x),
  gradient: ({ y, gradient }) => mul(mul(gradient, -0.5), mul(y, mul(y, y))),
})
const tanhOperation: Operation<None> = unary('tanh', {
  onnx: 'Tanh',
  evaluate: Math.tanh,
  gradient: ({ y, gradient }) => mul(gradient, sub(1, mul(y, y))),
})
const sigmoidOperation: Operation<None> = unary('sigmoid', {
  onnx: 'Sigmoid',
  evaluate: sigmoidOf,
  gradient: ({ y, gradient }) => mul(gradient, mul(y, sub(1, y))),
})
const siluOperation: Operation<None> = unary('silu', {
  onnx: ({ graph, dialect, inputs: [x] }) =>
    dialect === 'cpu'
      ? graph.node('QuickGelu', [x!.name], { domain: 'com.microsoft', attributes: { alpha: { float: 1 } } })
      : graph.node('Mul', [x!.name, graph.node('Sigmoid', [x!.name])]),
  evaluate: (x) => x * sigmoidOf(x),
  // σ + y·(1 − σ), with y = x·σ
  gradient: ({ x, y, gradient }) => {
    const s = sigmoid(x)
    return mul(gradient, add(s, mul(y, sub(1, s))))
  },
})
const sinOperation: Operation<None> = unary('sin', {
  onnx: 'Sin',
  evaluate: Math.sin,
  gradient: ({ x, gradient }) => mul(gradient, cos(x)),
})
const cosOperation: Operation<None> = unary('cos', {
  onnx: 'Cos',
  evaluate: Math.cos,
  gradient: ({ x, gradient }) => neg(mul(gradient, sin(x))),
})
const erfOperation: Operation<None> = unary('erf', {
  onnx: 'Erf',
  evaluate: erfOf,
  gradient: ({ x, gradient }) => mul(gradient, mul(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI))),
})
const logicalNotOperation: Operation<None> = unary('logicalNot', {
  onnx: 'Not',
  dtypes: ['bool'],
  evaluate: (x) => 1 - x,
  exact: true,
})

interface BinaryRule {
  readonly dtypes?: readonly DType[]
  readonly result?: 'bool'
  readonly onnx: string
  readonly evaluate: (a: number, b: number, dtype: DType) => number
  readonly gradient?: (context: {
    a: Tensor
    b: Tensor
    y: Tensor
    gradient: Tensor
  }) => readonly [Tensor, Tensor]
  readonly exact?: true
}

function binary(name: string, rule: BinaryRule): Operation<None> {
  const { gradient } = rule
  return {
    name,
    infer: (inputs) => {
      requireDType(name, inputs, ...(rule.dtypes ?? ['float32', 'int32']))
      const dtype = requireSameDType(name, inputs)
      return { shape: broadcastShapes(name, inputs), dtype: rule.result ?? dtype }
    },
    lower: ({ graph, inputs }) =>
      graph.node(
        rule.onnx,
        inputs.map((input) => input.name),
      ),
    evaluate: (context) => {
      const [a, b] = alignedInputs(context)
      const dtype = context.inputs[0]!.dtype
      return a!.map((value, i) => rule.evaluate(value, b![i]!, dtype))
    },
    broadcasts: true,
    ...(gradient && {
      gradient: ({ node, inputs: [a, b], gradient: outer }: GradientContext<None>) => {
        if (node.dtype !== 'float32') return [undefined, undefined]
        const [da, db] = gradient({ a: a!, b: b!, y: node, gradient: outer })
        return [sumTo(da, a!.shape), sumTo(db, b!.shape)]
      },
    }),
    ...(rule.exact && { exact: true as const }),
  }
}

/** The inputs' numbers, repeated to the output's shape. */
function alignedInputs({ inputs, output }: EvaluationContext<unknown>): Float64Array[] {
  return inputs.map(({ shape, data }) => {
    const offsets = offsetsOf(output.shape, broadcastStrides(shape, output.shape))
    return Float64Array.from(offsets, (offset) => data[offset]!)
  })
}

export const addOperation: Operation<None> = binary('add', {
  onnx: 'Add',
  evaluate: (a, b) => a + b,
  gradient: ({ gradient }) => [gradient, gradient],
  exact: true,
})
export const subOperation: Operation<None> = binary('sub', {
  onnx: 'Sub',
  evaluate: (a, b) => a - b,
  gradient: ({ gradient }) => [gradient, neg(gradient)],
  exact: true,
})
export const mulOperation: Operation<None> = binary('mul', {
  onnx: 'Mul',
  evaluate: (a, b) => a * b,
  gradient: ({ a, b, gradient }) => [mul(gradient, b), mul(gradient, a)],
  exact: true,
})
export const divOperation: Operation<None> = binary('div', {
  onnx: 'Div',
  evaluate: (a, b, dtype) => (dtype === 'int32' ? Math.trunc(a / b) : a / b),
  gradient: ({ b, y, gradient }) => {
    const da = div(gradient, b)
    return [da, neg(mul(da, y))]
  },
  exact: true,
})
export const powOperation: Operation<None> = binary('pow', {
  onnx: 'Pow',
  dtypes: ['float32'],
  evaluate: (a, b) => a ** b,
  gradient: ({ a, b, y, gradient }) => [
    mul(gradient, mul(b, pow(a, sub(b, 1)))),
    mul(gradient, mul(y, log(a))),
  ],
})
// where both are equal the first is taken to be the larger (smaller)
const maximumOperation: Operation<None> = binary('maximum', {
  onnx: 'Max',
  evaluate: (a, b) => Math.max(a, b),
  gradient: ({ a, b, gradient }) => {
    const second = less(a, b)
    return [where(second, 0, gradient), where(second, gradient, 0)]
  },
  exact: true,
})
const minimumOperation: Operation<None> = binary('minimum', {
  onnx: 'Min',
  evaluate: (a, b) => Math.min(a, b),
  gradient: ({ a, b, gradient }) => {
    const second = less(b, a)
    return [where(second, 0, gradient), where(second, gradient, 0)]
  },
  exact: true,
})
const equalOperation: Operation<None> = binary('equal', {
  onnx: 'Equal',
  dtypes: ['float32', 'int32', 'bool'],
  result: 'bool',
  evaluate: (a, b) => Number(a === b),
  exact: true,
})
const lessOperation: Operation<None> = binary('less', {
  onnx: 'Less',
  result: 'bool',
  evaluate: (a, b) => Number(a < b),
  exact: true,
})
const lessOrEqualOperation: Operation<None> = binary('lessOrEqual', {
  onnx: 'LessOrEqual',
  result: 'bool',
  evaluate: (a, b) => Number(a <= b),
  exact: true,
})
const logicalAndOperation: Operation<None> = binary('logicalAnd', {
  onnx: 'And',
  dtypes: ['bool'],
  evaluate: (a, b) => a * b,
  exact: true,
})
const logicalOrOperation: Operation<None> = binary('logicalOr', {
  onnx: 'Or',
  dtypes: ['bool'],
  evaluate: (a, b) => Math.max(a, b),
  exact: true,
})

const whereOperation: Operation<None> = {
  name: 'where',
  infer: (inputs) => {
    const [condition, a, b] = inputs
    if (condition!.dtype !== 'bool') throw dtypeError('where', 'the condition must be bool', inputs)
    return { shape: broadcastShapes('where', inputs), dtype: requireSameDType('where', [a!, b!]) }
  },
  gradient: ({ inputs: [condition, a, b], gradient }) => [
    undefined,
    sumTo(where(condition!, gradient, 0), a!.shape),
    sumTo(where(condition!, 0, gradient), b!.shape),
  ],
  lower: ({ graph, inputs }) =>
    graph.node(
      'Where',
      inputs.map(({ name }) => name),
    ),
  evaluate: (context) => {
    const [condition, a, b] = alignedInputs(context)
    return condition!.map((chosen, i) => (chosen === 0 ? b![i]! : a![i]!))
  },
  broadcasts: true,
  exact: true,
}

interface CastAttributes {
  readonly dtype: DType
}

const onnxTypeNumber: Record<DType, number> = { float32: 1, int32: 6, bool: 9 }

export const castOperation: Operation<CastAttributes> = {
  name: 'cast',
  infer: ([x], { dtype }) => ({ shape: x!.shape, dtype }),
  gradient: ({ inputs: [x], gradient }) => [x!.dtype === 'float32' ? gradient : undefined],
  lower: ({ graph, inputs: [x], attributes: { dtype } }) =>
    graph.node('Cast', [x!.name], { attributes: { to: { int: onnxTypeNumber[dtype] } } }),
  evaluate: ({ inputs: [x], attributes: { dtype } }) =>
    dtype === 'bool'
      ? x!.data.map((value) => Number(value !== 0))
      : dtype === 'int32'
        ? x!.data.map(Math.trunc)
        : x!.data,
  broadcasts: true,
  exact: true,
}

function applyBinary(op: Operation<None>, a: Operand, b: Operand): Tensor {
  const dtype = typeof a !== 'number' ? a.dtype : typeof b !== 'number' ? b.dtype : 'float32'
  return apply(op, [tensorOf(a, dtype), tensorOf(b, dtype)], none)
}

export const neg = (x: Tensor): Tensor => apply(negOperation, [x], none)
export const abs = (x: Tensor): Tensor => apply(absOperation, [x], none)
/** −1, 0 or 1. */
export const sign = (x: Tensor): Tensor => apply(signOperation, [x], none)
export const floor = (x: Tensor): Tensor => apply(floorOperation, [x], none)
export const exp = (x: Tensor): Tensor => apply(expOperation, [x], none)
export const log = (x: Tensor): Tensor => apply(logOperation, [x], none)
export const sqrt = (x: Tensor): Tensor => apply(sqrtOperation, [x], none)
export const reciprocal = (x: Tensor): Tensor => apply(reciprocalOperation, [x], none)
/** 1/√x */
export const rsqrt = (x: Tensor): Tensor => apply(rsqrtOperation, [x], none)
export const tanh = (x: Tensor): Tensor => apply(tanhOperation, [x], none)
/** 1/(1 + e⁻ˣ) */
export const sigmoid = (x: Tensor): Tensor => apply(sigmoidOperation, [x], none)
/** x·sigmoid(x) */
export const silu = (x: Tensor): Tensor => apply(siluOperation, [x], none)
export const sin = (x: Tensor): Tensor => apply(sinOperation, [x], none)
export const cos = (x: Tensor): Tensor => apply(cosOperation, [x], none)
export const erf = (x: Tensor): Tensor => apply(erfOperation, [x], none)
export const logicalNot = (x: Tensor): Tensor => apply(logicalNotOperation, [x], none)

export const add = (a: Operand, b: Operand): Tensor => applyBinary(addOperation, a, b)
export const sub = (a: Operand, b: Operand): Tensor => applyBinary(subOperation, a, b)
export const mul = (a: Operand, b: Operand): Tensor => applyBinary(mulOperation, a, b)
/** Whole-number division, towards zero, on int32. */
export const div = (a: Operand, b: Operand): Tensor => applyBinary(divOperation, a, b)
export const pow = (a: Operand, b: Operand): Tensor => applyBinary(powOperation, a, b)
export const maximum = (a: Operand, b: Operand): Tensor => applyBinary(maximumOperation, a, b)
export const minimum = (a: Operand, b: Operand): Tensor => applyBinary(minimumOperation, a, b)
export const equal = (a: Operand, b: Operand): Tensor => applyBinary(equalOperation, a, b)
export const less = (a: Operand, b: Operand): Tensor => applyBinary(lessOperation, a, b)
export const lessOrEqual = (a: Operand, b: Operand): Tensor => applyBinary(lessOrEqualOperation, a, b)
export const greater = (a: Operand, b: Operand): Tensor => less(b, a)
export const greaterOrEqual = (a: Operand, b: Operand): Tensor => lessOrEqual(b, a)
export const logicalAnd = (a: Operand, b: Operand): Tensor => applyBinary(logicalAndOperation, a, b)
export const logicalOr = (a: Operand, b: Operand): Tensor => applyBinary(logicalOrOperation, a, b)

/** Where the condition holds `a`, elsewhere `b`. */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  const dtype = typeof a !== 'number' ? a.dtype : typeof b !== 'number' ? b.dtype : 'float32'
  return apply(whereOperation, [condition, tensorOf(a, dtype), tensorOf(b, dtype)], none)
}

/** Another dtype; float to int32 cuts the fraction off, bool is "not zero". */
export function cast(x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : apply(castOperation, [x], { dtype })
}

/** Bounds from both sides. */
export function clamp(x: Tensor, bounds: { minimum?: Operand; maximum?: Operand }): Tensor {
  const above = bounds.minimum === undefined ? x : maximum(x, bounds.minimum)
  return bounds.maximum === undefined ? above : minimum(above, bounds.maximum)
}

/** The exact GELU, x·Φ(x) (Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415). */
export function gelu(x: Tensor): Tensor {
  return mul(mul(x, 0.5), add(erf(mul(x, Math.SQRT1_2)), 1))
}

function sigmoidOf(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))
}

/** erf by its Maclaurin series, and by the continued fraction of erfc where that converges quickly. */
function erfOf(x: number): number {
  const size = Math.abs(x)
  if (size < 3) {
    let term = x
    let total = x
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(total); n++) {
      term *= (-x * x) / n
      total += term / (2 * n + 1)
    }
    return (2 / Math.sqrt(Math.PI)) * total
  }
  let fraction = size
  for (let k = 60; k > 0; k--) fraction = size + k / 2 / fraction
  return Math.sign(x) * (1 - Math.exp(-size * size) / (Math.sqrt(Math.PI) * fraction))
}
