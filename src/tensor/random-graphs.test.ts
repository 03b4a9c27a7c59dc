/**
 * Random graphs: ONNX Runtime, which sees the rewritten graph, agrees with the interpreter, which sees the
 * original.
 */
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  abs,
  add,
  broadcastTo,
  concat,
  div,
  emitOnnx,
  exp,
  grad,
  less,
  logSoftmax,
  matmul,
  max,
  maximum,
  mean,
  mul,
  neg,
  pad,
  parameter,
  reshape,
  sigmoid,
  silu,
  sizeOf,
  slice,
  softmax,
  sub,
  sum,
  sumOfSquares,
  type Tensor,
  tanh,
  transpose,
  where,
} from './index.ts'
import { normalNumbers, programOf, resultDistance, runOnnx, runReference } from './testing.ts'

/** One step of growth: chooses operands among the tensors so far and makes one more. */
type Growth = (pick: () => Tensor, number: () => number) => Tensor

/**
 * Operands of one shape: the second is brought to the shape of the first, in ways that the rewrites like to
 * undo.
 */
function alike(a: Tensor, b: Tensor): Tensor {
  if (sizeOf(a.shape) === sizeOf(b.shape)) return reshape(b, a.shape)
  return broadcastTo(
    reshape(
      sum(b),
      a.shape.map(() => 1),
    ),
    a.shape,
  )
}

const growths: Growth[] = [
  (pick) => tanh(pick()),
  (pick) => sigmoid(pick()),
  (pick) => silu(pick()),
  (pick) => neg(pick()),
  (pick) => exp(neg(abs(pick()))),
  (pick) => softmax(pick()),
  (pick) => logSoftmax(pick()),
  (pick, number) => mul(pick(), [0, 1, -1, 0.5, 3][number() % 5]!),
  (pick, number) => add(pick(), [0, 1, -2][number() % 3]!),
  (pick) => {
    const a = pick()
    return add(a, alike(a, pick()))
  },
  (pick) => {
    const a = pick()
    return sub(a, alike(a, pick()))
  },
  (pick) => {
    const a = pick()
    return mul(a, alike(a, pick()))
  },
  (pick) => {
    const a = pick()
    return div(a, add(abs(alike(a, pick())), 1))
  },
  (pick) => {
    const a = pick()
    return maximum(a, alike(a, pick()))
  },
  (pick) => {
    const a = pick()
    const b = alike(a, pick())
    return where(less(a, b), a, mul(b, 2))
  },
  (pick) => {
    const a = pick()
    return matmul(a, alike(a, pick()), { transposeB: true, alpha: 0.25 })
  },
  (pick) => {
    const a = pick()
    return matmul(alike(a, pick()), a, { transposeA: true })
  },
  (pick) => {
    const a = pick()
    return matmul(a, transpose(a))
  },
  (pick) => transpose(pick()),
  (pick) => reshape(pick(), [1, -1]),
  (pick, number) => sum(pick(), { axes: [number() % 2], keepDims: true }),
  (pick, number) => mean(pick(), { axes: [number() % 2], keepDims: true }),
  (pick, number) => max(pick(), { axes: [number() % 2], keepDims: true }),
  (pick) => sumOfSquares(pick(), { axes: [1], keepDims: true }),
  (pick, number) => pad(pick(), { axis: number() % 2, before: number() % 2, after: number() % 3 }),
  (pick) => {
    const a = pick()
    return concat([a, alike(a, pick()), a], { axis: 0 })
  },
  (pick, number) => {
    const a = pick()
    const axis = number() % 2
    const start = number() % a.shape[axis]!
    return slice(a, { axis, start })
  },
]

const recipes = fc.array(
  fc.record({
    growth: fc.nat(growths.length - 1),
    choices: fc.array(fc.nat(60), { minLength: 4, maxLength: 4 }),
  }),
  {
    minLength: 1,
    maxLength: 14,
  },
)

function grow(steps: readonly { growth: number; choices: readonly number[] }[]): {
  leaves: Tensor[]
  last: Tensor
} {
  const leaves = [parameter('a', [2, 3]), parameter('b', [3, 2]), parameter('c', [1, 3])]
  const tensors = [...leaves]
  for (const { growth, choices } of steps) {
    let used = 0
    const number = (): number => choices[used++ % choices.length]!
    const made = growths[growth]!(() => tensors[tensors.length - 1 - (number() % tensors.length)]!, number)
    if (sizeOf(made.shape) <= 400) tensors.push(made)
  }
  return { leaves, last: tensors.at(-1)! }
}

const feed = { a: normalNumbers([2, 3], 'a'), b: normalNumbers([3, 2], 'b'), c: normalNumbers([1, 3], 'c') }

describe('random graphs', () => {
  test('run as the interpreter says, forward and backward, in both dialects', async () => {
    await fc.assert(
      fc.asyncProperty(recipes, async (steps) => {
        const { leaves, last } = grow(steps)
        // bounded, so that a deep graph does not overflow float32
        const loss = mean(tanh(last))
        const gradients = grad(loss, leaves)
        const outputs = {
          loss,
          ...Object.fromEntries(gradients.map((gradient, i) => [`gradient${i}`, gradient])),
        }
        const program = programOf(outputs, leaves)
        const expected = runReference(program, feed)
        for (const dialect of ['portable', 'cpu'] as const) {
          expect(resultDistance(await runOnnx(program, feed, dialect), expected)).toBeLessThan(1e-3)
        }
      }),
      { numRuns: 60, seed: 1 },
    )
  })

  test('are written the same way when built again', () => {
    fc.assert(
      fc.property(recipes, (steps) => {
        const bytes = (): Uint8Array => {
          const { leaves, last } = grow(steps)
          return emitOnnx(programOf({ last }, leaves), { dialect: 'cpu' }).bytes
        }
        expect(bytes()).toEqual(bytes())
      }),
      { numRuns: 60, seed: 2 },
    )
  })
})
