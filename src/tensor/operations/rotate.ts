/**
 * The rotation inside rotary position embedding: (a, b) ↦ (a·cos − b·sin, b·cos + a·sin) on the two halves of
 * the last axis. A primitive because ONNX Runtime's CPU does it in one pass (`RotaryEmbedding`) where the
 * standard operators need nine, and because its gradient is the rotation back.
 */
import { broadcastShapes, requireDType, shapeError } from '../rules.ts'
import { broadcastStrides, offsetsOf } from '../strides.ts'
import {
  apply,
  type LoweredValue,
  type LoweringContext,
  type Operation,
  sameShape,
  type Tensor,
} from '../tensor.ts'
import { neg } from './elementwise.ts'

type None = Record<string, never>

const rotateOperation: Operation<None> = {
  name: 'rotate',
  infer: (inputs) => {
    requireDType('rotate', inputs, 'float32')
    const [x, cosine, sine] = inputs
    const width = x!.shape.at(-1) ?? 1
    const half = { shape: [...x!.shape.slice(0, -1), width / 2], dtype: x!.dtype }
    if (width % 2 !== 0 || !sameShape(broadcastShapes('rotate', [half, cosine!, sine!]), half.shape)) {
      throw shapeError('rotate', 'cosine and sine must broadcast to one half of the last axis', inputs)
    }
    return x!
  },
  // angles follow from positions, which nobody learns: no gradient flows to them
  gradient: ({ inputs: [, cosine, sine], gradient }) => [
    rotate(gradient, cosine!, neg(sine!)),
    undefined,
    undefined,
  ],
  lower: (context) => (context.dialect === 'cpu' ? lowerFused(context) : undefined) ?? lowerPlain(context),
  evaluate: ({ inputs: [x, cosine, sine], output }) => {
    const half = x!.shape.at(-1)! / 2
    const halfShape = [...output.shape.slice(0, -1), half]
    const [cosines, sines] = [cosine!, sine!].map(({ shape, data }) =>
      Float64Array.from(offsetsOf(halfShape, broadcastStrides(shape, halfShape)), (offset) => data[offset]!),
    )
    return x!.data.map((value, i) => {
      const row = Math.floor(i / (2 * half))
      const column = i % (2 * half)
      const angle = row * half + (column % half)
      const partner = column < half ? -x!.data[i + half]! : x!.data[i - half]!
      return value * cosines![angle]! + partner * sines![angle]!
    })
  },
}

function lowerPlain({ graph, inputs: [x, cosine, sine] }: LoweringContext<None>): string {
  const rank = x!.shape.length
  const width = x!.shape.at(-1)!
  const part = (start: number, end: number): string =>
    graph.node('Slice', [x!.name, graph.int64([start]), graph.int64([end]), graph.int64([rank - 1])])
  const [a, b] = [part(0, width / 2), part(width / 2, width)]
  const product = (left: string, right: LoweredValue): string => graph.node('Mul', [left, right.name])
  const first = graph.node('Sub', [product(a, cosine!), product(b, sine!)])
  const second = graph.node('Add', [product(b, cosine!), product(a, sine!)])
  return graph.node('Concat', [first, second], { attributes: { axis: { int: rank - 1 } } })
}

/** For the two layouts that the kernel knows, with one table of angles for all batches and heads. */
function lowerFused({ graph, inputs: [x, cosine, sine], output }: LoweringContext<None>): string | undefined {
  if (x!.shape.length !== 3 && x!.shape.length !== 4) return undefined
  const [batch, second, third, width] = [1, ...x!.shape].slice(-4) as [number, number, number, number]
  const perPosition = (length: number, ...shape: number[]): boolean =>
    [cosine!, sine!].every((table) => sameShape(table.shape, [length, ...shape, width / 2]))
  const sequenceFirst = perPosition(second, 1)
  if (!sequenceFirst && !perPosition(third)) return undefined
  const length = sequenceFirst ? second : third
  const table = ({ name }: LoweredValue): string =>
    graph.node('Reshape', [name, graph.int64([length, width / 2])])
  const start = graph.int64([0])
  const rotated = (input: string, heads?: number): string =>
    graph.node('RotaryEmbedding', [input, start, table(cosine!), table(sine!)], {
      domain: 'com.microsoft',
      attributes: heads === undefined ? {} : { num_heads: { int: heads }, rotary_embedding_dim: { int: 0 } },
    })
  const reshaped = (value: string, shape: readonly number[]): string =>
    graph.node('Reshape', [value, graph.int64(shape)])
  if (sequenceFirst) {
    const flat = reshaped(x!.name, [batch, length, third * width])
    return reshaped(rotated(flat, third), output.shape)
  }
  if (x!.shape.length === 4) return rotated(x!.name)
  return reshaped(rotated(reshaped(x!.name, [1, second, third, width])), output.shape)
}

/** Turns pairs (xᵢ, xᵢ₊ₕ), h half the last axis, by angles given as cosine and sine. */
export function rotate(x: Tensor, cosine: Tensor, sine: Tensor): Tensor {
  return apply(rotateOperation, [x, cosine, sine], {})
}
