/** What each operation computes, by small examples, in the interpreter and in both ONNX dialects. */
import { describe, expect, test } from 'vitest'
import {
  abs,
  add,
  argmax,
  broadcastTo,
  cast,
  causalAttention,
  clamp,
  clipByGlobalNorm,
  concat,
  constant,
  crossEntropy,
  type DType,
  div,
  equal,
  erf,
  floor,
  full,
  gather,
  gatherElements,
  gelu,
  gemm,
  globalNorm,
  greater,
  greaterOrEqual,
  iota,
  less,
  lessOrEqual,
  logicalAnd,
  logicalNot,
  logicalOr,
  logSoftmax,
  matmul,
  max,
  maximum,
  mean,
  min,
  minimum,
  mul,
  neg,
  oneHot,
  ones,
  pad,
  pow,
  reshape,
  rmsNorm,
  rope,
  ropeFrequencies,
  rsqrt,
  scatterAdd,
  scatterElementsAdd,
  sigmoid,
  sign,
  silu,
  slice,
  softmax,
  split,
  sqrt,
  sub,
  sum,
  sumOfSquares,
  swiglu,
  type Tensor,
  tanh,
  tokenLogProbabilities,
  topK,
  transpose,
  where,
  zeros,
} from './index.ts'
import { asParameters, distance, programOf, runOnnx, runReference } from './testing.ts'

/** Nested arrays as a tensor, like `np.array`. */
type Nested = number | boolean | Nested[]

function tensor(values: Nested, dtype: DType = 'float32'): Tensor {
  const shape: number[] = []
  for (let inner = values; Array.isArray(inner); inner = inner[0]!) shape.push(inner.length)
  return constant(flatten(values), shape, dtype)
}

function flatten(values: Nested): number[] {
  return Array.isArray(values) ? values.flatMap(flatten) : [Number(values)]
}

const int = (values: Nested): Tensor => tensor(values, 'int32')
const bool = (values: Nested): Tensor => tensor(values, 'bool')

const matrix = tensor([
  [1, 2, 3],
  [4, 5, 6],
])
const third = 1 / 3

/** The tensor and its numbers; shapes follow from the nesting. */
const examples: Record<string, [actual: Tensor, expected: Nested]> = {
  neg: [neg(tensor([1, -2])), [-1, 2]],
  abs: [abs(int([1, -2])), [1, 2]],
  sign: [sign(tensor([3, 0, -0.5])), [1, 0, -1]],
  floor: [floor(tensor([1.5, -1.5])), [1, -2]],
  sqrt: [sqrt(tensor([4, 9])), [2, 3]],
  rsqrt: [rsqrt(tensor([4, 0.25])), [0.5, 2]],
  tanh: [tanh(tensor([0, 1])), [0, 0.7615941559557649]],
  sigmoid: [sigmoid(tensor([0, 2, -100])), [0.5, 0.8807970779778823, 3.720075976020836e-44]],
  silu: [silu(tensor([0, 2])), [0, 1.7615941559557646]],
  swiglu: [swiglu(tensor([0, 2]), tensor([5, 3])), [0, 5.284782467867294]],
  erf: [erf(tensor([0.5, -1, 4])), [0.5204998778130465, -0.8427007929497149, 0.9999999845827421]],
  gelu: [gelu(tensor([1, -2])), [0.8413447460685429, -0.04550026389635842]],
  'add with broadcasting': [
    add(tensor([[1], [2]]), tensor([10, 20])),
    [
      [11, 21],
      [12, 22],
    ],
  ],
  'sub of a number': [sub(1, tensor([3, 4])), [-2, -3]],
  'mul of whole numbers': [mul(int([3, 4]), 2), [6, 8]],
  'div of whole numbers goes towards zero': [div(int([7, -7]), 2), [3, -3]],
  pow: [pow(tensor([2, 3]), 2), [4, 9]],
  maximum: [maximum(tensor([1, 5]), 3), [3, 5]],
  minimum: [minimum(int([1, 5]), 3), [1, 3]],
  clamp: [clamp(tensor([-3, 0, 3]), { minimum: -1, maximum: 2 }), [-1, 0, 2]],
  equal: [equal(int([1, 2]), 2), [false, true]],
  less: [less(tensor([1, 2]), 2), [true, false]],
  lessOrEqual: [lessOrEqual(tensor([1, 2]), 2), [true, true]],
  greater: [greater(tensor([1, 3]), 2), [false, true]],
  greaterOrEqual: [greaterOrEqual(int([1, 2]), 2), [false, true]],
  logicalAnd: [logicalAnd(bool([true, true]), bool([true, false])), [true, false]],
  logicalOr: [logicalOr(bool([false, true]), bool([false, false])), [false, true]],
  logicalNot: [logicalNot(bool([false, true])), [true, false]],
  where: [where(bool([true, false]), tensor([1, 2]), 9), [1, 9]],
  'cast to int32 cuts off': [cast(tensor([1.9, -1.9]), 'int32'), [1, -1]],
  'cast to bool asks for not zero': [cast(tensor([0, 0.5]), 'bool'), [false, true]],
  'cast from bool': [cast(bool([true, false]), 'float32'), [1, 0]],
  sum: [sum(matrix), 21],
  'a reduction of no axis changes nothing': [
    mean(matrix, { axes: [] }),
    [
      [1, 2, 3],
      [4, 5, 6],
    ],
  ],
  'the sum of squares of a scalar': [sumOfSquares(tensor(3)), 9],
  'sum of an axis': [sum(matrix, { axes: [-1] }), [6, 15]],
  mean: [mean(matrix, { axes: [0], keepDims: true }), [[2.5, 3.5, 4.5]]],
  max: [max(matrix, { axes: [1] }), [3, 6]],
  min: [min(matrix, { axes: [0, 1] }), 1],
  sumOfSquares: [sumOfSquares(matrix), 91],
  argmax: [
    argmax(
      tensor([
        [1, 3, 3],
        [9, 8, 7],
      ]),
    ),
    [1, 0],
  ],
  'argmax of an axis, kept': [argmax(matrix, { axis: 0, keepDims: true }), [[1, 1, 1]]],
  'values of topK': [topK(tensor([[1, 3, 2]]), 2).values, [[3, 2]]],
  'indices of topK': [topK(tensor([[1, 3, 2]]), 2).indices, [[1, 2]]],
  reshape: [
    reshape(matrix, [3, -1]),
    [
      [1, 2],
      [3, 4],
      [5, 6],
    ],
  ],
  transpose: [
    transpose(matrix),
    [
      [1, 4],
      [2, 5],
      [3, 6],
    ],
  ],
  'transpose by a permutation': [
    transpose(reshape(matrix, [1, 2, 3]), [2, 0, 1]),
    [[[1, 4]], [[2, 5]], [[3, 6]]],
  ],
  slice: [
    slice(matrix, { axis: 1, start: 1 }),
    [
      [2, 3],
      [5, 6],
    ],
  ],
  'slice from the end': [slice(matrix, { axis: -1, start: -2, end: -1 }), [[2], [5]]],
  'split in equal parts': [split(matrix, { axis: 1, parts: 3 })[1]!, [[2], [5]]],
  'split in given parts': [split(matrix, { axis: 1, parts: [2, 1] })[1]!, [[3], [6]]],
  pad: [pad(tensor([1, 2]), { axis: 0, before: 1, after: 2 }), [0, 1, 2, 0, 0]],
  concat: [
    concat([matrix, tensor([[7, 8, 9]])], { axis: 0 }),
    [
      [1, 2, 3],
      [4, 5, 6],
      [7, 8, 9],
    ],
  ],
  broadcastTo: [
    broadcastTo(tensor([[1], [2]]), [2, 3]),
    [
      [1, 1, 1],
      [2, 2, 2],
    ],
  ],
  zeros: [zeros([2]), [0, 0]],
  ones: [ones([2], 'int32'), [1, 1]],
  full: [full(-2.5, [1, 2]), [[-2.5, -2.5]]],
  iota: [iota(3), [0, 1, 2]],
  matmul: [
    matmul(
      matrix,
      tensor([
        [1, 0],
        [0, 1],
        [1, 1],
      ]),
    ),
    [
      [4, 5],
      [10, 11],
    ],
  ],
  'matmul, right transposed and scaled': [
    matmul(matrix, matrix, { transposeB: true, alpha: 0.5 }),
    [
      [7, 16],
      [16, 38.5],
    ],
  ],
  'matmul, left transposed': [
    matmul(matrix, matrix, { transposeA: true }),
    [
      [17, 22, 27],
      [22, 29, 36],
      [27, 36, 45],
    ],
  ],
  gemm: [
    gemm({ a: matrix, b: matrix, c: tensor([1, 2]), transposeB: true, alpha: 2, beta: 10 }),
    [
      [38, 84],
      [74, 174],
    ],
  ],
  gather: [gather(matrix, int([[1], [0]])), [[[4, 5, 6]], [[1, 2, 3]]]],
  gatherElements: [gatherElements(matrix, int([[2], [0]]), { axis: 1 }), [[3], [4]]],
  'scatterAdd adds twice to a row named twice': [
    scatterAdd(
      ones([3, 2]),
      int([2, 0, 2]),
      tensor([
        [1, 2],
        [3, 4],
        [5, 6],
      ]),
    ),
    [
      [4, 5],
      [1, 1],
      [7, 9],
    ],
  ],
  scatterElementsAdd: [
    scatterElementsAdd(zeros([2, 2]), int([[1], [1]]), tensor([[3], [4]]), { axis: 1 }),
    [
      [0, 3],
      [0, 4],
    ],
  ],
  oneHot: [
    oneHot(int([1, 0, 5]), 3),
    [
      [0, 1, 0],
      [1, 0, 0],
      [0, 0, 0],
    ],
  ],
  softmax: [
    softmax(
      tensor([
        [1, 1, 1],
        [1000, 0, 0],
      ]),
    ),
    [
      [third, third, third],
      [1, 0, 0],
    ],
  ],
  logSoftmax: [
    logSoftmax(
      tensor([
        [0, 0],
        [1000, 0],
      ]),
    ),
    [
      [-Math.LN2, -Math.LN2],
      [0, -1000],
    ],
  ],
  rmsNorm: [rmsNorm(tensor([[3, 4]]), tensor([1, 2]), 0), [[3 / Math.sqrt(12.5), 8 / Math.sqrt(12.5)]]],
  'rope leaves position 0 alone and turns position 1': [
    rope(
      tensor([
        [1, 0, 0, 0],
        [1, 0, 0, 0],
      ]),
      { theta: 10_000 },
    ),
    [
      [1, 0, 0, 0],
      [Math.cos(1), 0, Math.sin(1), 0],
    ],
  ],
  tokenLogProbabilities: [tokenLogProbabilities(tensor([[0, 0, 0]]), int([2])), [Math.log(third)]],
  'crossEntropy does not count what is ignored': [
    crossEntropy(
      tensor([
        [0, 0, 0, 0],
        [9, 0, 0, 0],
      ]),
      int([1, -100]),
    ),
    Math.log(4),
  ],
  'crossEntropy of each position': [
    crossEntropy(
      tensor([
        [0, 0],
        [0, 0],
      ]),
      int([1, 7]),
      { ignoreIndex: 7, reduction: 'none' },
    ),
    [Math.LN2, 0],
  ],
  'crossEntropy, summed': [
    crossEntropy(
      tensor([
        [0, 0],
        [0, 0],
      ]),
      int([1, 0]),
      { reduction: 'sum' },
    ),
    2 * Math.LN2,
  ],
  globalNorm: [globalNorm([tensor([3]), tensor([[4]])]), 5],
  'clipByGlobalNorm leaves small gradients alone': [
    clipByGlobalNorm([tensor([3, 4])], 6).gradients[0]!,
    [3, 4],
  ],
  'clipByGlobalNorm shortens long ones': [clipByGlobalNorm([tensor([3, 4])], 1).gradients[0]!, [0.6, 0.8]],
  'causalAttention: a query sees itself and what is before it': [
    causalAttention({ q: zeros([1, 1, 3, 2]), k: ones([1, 1, 3, 2]), v: tensor([[[[3], [5], [10]]]]) }),
    [[[[3], [4], [6]]]],
  ],
  'causalAttention: two query heads share a key head': [
    causalAttention({ q: zeros([1, 2, 1, 2]), k: ones([1, 1, 2, 2]), v: tensor([[[[3], [5]]]]) }),
    [[[[4]], [[4]]]],
  ],
}

describe('operations', () => {
  test.each(Object.keys(examples))('%s', async (name) => {
    const [actual, expected] = examples[name]!
    const numbers = tensor(expected, actual.dtype)
    const values = flatten(expected)
    expect(actual.shape).toEqual(numbers.shape)
    const known = programOf({ result: actual }, [])
    const reference = runReference(known, {}).result!
    expect(reference.shape).toEqual(numbers.shape)
    expect(distance(reference.data, values)).toBeLessThan(2e-6) // constants are float32
    // with its constants, and with placeholders in their place so that nothing is known in advance
    const { program: unknown, feed } = asParameters(actual)
    for (const dialect of ['portable', 'cpu'] as const) {
      expect(distance((await runOnnx(known, {}, dialect)).result!.data, values), dialect).toBeLessThan(2e-6)
      expect(distance((await runOnnx(unknown, feed, dialect)).result!.data, values), dialect).toBeLessThan(
        2e-6,
      )
    }
  })

  test('blocks of queries give what all queries at once give', async () => {
    const random = (seed: number, ...shape: number[]): Tensor => {
      const size = shape.reduce((a, b) => a * b, 1)
      return constant(
        Float32Array.from({ length: size }, (_, i) => Math.sin(seed + i * i)),
        shape,
      )
    }
    const [q, k, v] = [random(1, 2, 4, 7, 4), random(2, 2, 2, 9, 4), random(3, 2, 2, 9, 4)]
    const whole = causalAttention({ q, k, v })
    const blocks = causalAttention({ q, k, v, blockSize: 3 })
    const results = await runOnnx(programOf({ whole, blocks }, []), {})
    expect(distance(results.blocks!.data, results.whole!.data)).toBeLessThan(1e-6)
  })

  test('frequencies of rotary embedding are θ^(−2i/d) in float32, whatever the engine makes of **', () => {
    for (const theta of [10_000, 500_000, 1_000_000]) {
      const expected = Array.from({ length: 32 }, (_, i) => Math.fround(theta ** (-i / 32)))
      for (const [i, frequency] of ropeFrequencies(64, theta).entries()) {
        expect(Math.abs(frequency / expected[i]! - 1)).toBeLessThan(2 ** -23)
      }
    }
  })
})
