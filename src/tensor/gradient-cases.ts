/**
 * One case for each operation and composite with a gradient: tests differentiate them and run them on every
 * backend.
 */
import {
  abs,
  add,
  broadcastTo,
  cast,
  causalAttention,
  clamp,
  clipByGlobalNorm,
  concat,
  cos,
  crossEntropy,
  type DType,
  div,
  erf,
  exp,
  gather,
  gatherElements,
  gelu,
  gemm,
  globalNorm,
  log,
  logSoftmax,
  matmul,
  max,
  maximum,
  mean,
  min,
  minimum,
  mul,
  neg,
  pad,
  pow,
  reciprocal,
  rematerialise,
  reshape,
  rmsNorm,
  rope,
  rsqrt,
  scatterAdd,
  scatterElementsAdd,
  sigmoid,
  silu,
  sin,
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
} from './index.ts'
import type { GradientCase } from './testing.ts'

export const float = (...shape: number[]): GradientCase['inputs'][number] => ({ shape, dtype: 'float32' })
const filled = (
  shape: number[],
  values: number[],
  dtype: DType = 'float32',
): GradientCase['inputs'][number] => ({
  shape,
  dtype,
  values,
})
const positive = filled([2, 3], [0.5, 1.5, 2.5, 0.7, 0.3, 1.1])
const apart = filled([2, 3], [-1.3, 0.4, 2.1, -0.6, 0.9, -2.2]) // nothing near a kink

export const gradientCases: Readonly<Record<string, GradientCase>> = {
  neg: { inputs: [float(2, 3)], build: neg },
  abs: { inputs: [apart], build: abs },
  exp: { inputs: [float(2, 3)], build: exp },
  log: { inputs: [positive], build: log },
  sqrt: { inputs: [positive], build: sqrt },
  rsqrt: { inputs: [positive], build: rsqrt },
  reciprocal: { inputs: [positive], build: reciprocal },
  tanh: { inputs: [float(2, 3)], build: tanh },
  sigmoid: { inputs: [float(2, 3)], build: sigmoid },
  silu: { inputs: [float(2, 3)], build: silu },
  swiglu: { inputs: [float(2, 3), float(2, 3)], build: swiglu },
  gelu: { inputs: [float(2, 3)], build: gelu },
  erf: { inputs: [float(2, 3)], build: erf },
  sin: { inputs: [float(2, 3)], build: sin },
  cos: { inputs: [float(2, 3)], build: cos },
  'cast to float32': { inputs: [float(2, 3)], build: (x) => mul(cast(x, 'float32'), x) },
  add: { inputs: [float(2, 3), float(2, 3)], build: add },
  'add, broadcast on both sides': { inputs: [float(2, 1), float(3)], build: add },
  'a tensor added to itself': { inputs: [float(2, 3)], build: (x) => add(x, mul(x, 3)) },
  sub: { inputs: [float(4, 1, 3), float(2, 1)], build: sub },
  mul: { inputs: [float(2, 3), float(3)], build: mul },
  div: { inputs: [float(2, 3), positive], build: div },
  'a number divided': { inputs: [positive], build: (x) => div(2, x) },
  pow: { inputs: [positive, float(3)], build: pow },
  'pow by a number': { inputs: [apart], build: (x) => pow(x, 3) },
  maximum: { inputs: [apart, float(3)], build: maximum },
  minimum: { inputs: [apart, float(3)], build: minimum },
  clamp: { inputs: [apart], build: (x) => clamp(x, { minimum: -1, maximum: 1 }) },
  where: {
    inputs: [filled([2, 1], [1, 0], 'bool'), float(2, 3), float(3)],
    build: where,
  },
  'sum of all': { inputs: [float(2, 3)], build: (x) => sum(x) },
  'sum of axes': { inputs: [float(2, 3, 4)], build: (x) => sum(x, { axes: [0, -1] }) },
  'sum with kept axes': { inputs: [float(2, 3, 4)], build: (x) => sum(x, { axes: [1], keepDims: true }) },
  mean: { inputs: [float(2, 3, 4)], build: (x) => mean(x, { axes: [1] }) },
  max: { inputs: [float(2, 3, 4)], build: (x) => max(x, { axes: [1] }) },
  min: { inputs: [float(2, 3, 4)], build: (x) => min(x, { axes: [-1], keepDims: true }) },
  sumOfSquares: { inputs: [float(2, 3, 4)], build: (x) => sumOfSquares(x, { axes: [2] }) },
  reshape: { inputs: [float(2, 6)], build: (x) => reshape(x, [3, -1]) },
  transpose: { inputs: [float(2, 3, 4)], build: (x) => transpose(x, [2, 0, 1]) },
  slice: { inputs: [float(2, 5)], build: (x) => slice(x, { axis: 1, start: 1, end: -1 }) },
  pad: { inputs: [float(2, 3)], build: (x) => pad(x, { axis: 0, before: 1, after: 2 }) },
  concat: { inputs: [float(2, 3), float(2, 1)], build: (a, b) => concat([a!, b!], { axis: -1 }) },
  'slices that cover a tensor': {
    inputs: [float(3, 6)],
    build: (x) => {
      const [a, b, c] = split(x, { axis: 1, parts: [1, 2, 3] }) as [Tensor, Tensor, Tensor]
      return add(mul(a, sum(c, { axes: [1], keepDims: true })), b)
    },
  },
  'slices with gaps and overlap': {
    inputs: [float(8)],
    build: (x) => {
      const part = (start: number, end: number): Tensor => slice(x, { axis: 0, start, end })
      return add(add(mul(part(1, 3), part(5, 7)), part(2, 4)), slice(x, { axis: 0, end: 2 }))
    },
  },
  broadcastTo: { inputs: [float(2, 1)], build: (x) => broadcastTo(x, [3, 2, 4]) },
  'matmul of matrices': { inputs: [float(2, 3), float(3, 4)], build: (a, b) => matmul(a, b, { alpha: 0.5 }) },
  'matmul, left transposed': {
    inputs: [float(3, 2), float(3, 4)],
    build: (a, b) => matmul(a, b, { transposeA: true }),
  },
  'matmul, right transposed': {
    inputs: [float(2, 3), float(4, 3)],
    build: (a, b) => matmul(a, b, { transposeB: true, alpha: 2 }),
  },
  'matmul, both transposed': {
    inputs: [float(3, 2), float(4, 3)],
    build: (a, b) => matmul(a, b, { transposeA: true, transposeB: true }),
  },
  'matmul of batches': { inputs: [float(2, 2, 3), float(2, 3, 2)], build: (a, b) => matmul(a, b) },
  'matmul of transposed batches': {
    inputs: [float(2, 3, 2), float(2, 2, 3)],
    build: (a, b) => matmul(a, b, { transposeA: true, transposeB: true, alpha: 0.25 }),
  },
  'matmul of batches with one weight': {
    inputs: [float(2, 2, 3), float(3, 4)],
    build: (a, b) => matmul(a, b),
  },
  'matmul of batches with one transposed weight': {
    inputs: [float(2, 2, 3), float(4, 3)],
    build: (a, b) => matmul(a, b, { transposeB: true, alpha: 0.5 }),
  },
  'matmul of transposed batches with one weight': {
    inputs: [float(2, 3, 2), float(3, 4)],
    build: (a, b) => matmul(a, b, { transposeA: true }),
  },
  'matmul with broadcast batches': {
    inputs: [float(2, 1, 2, 3), float(3, 3, 2)],
    build: (a, b) => matmul(a, b),
  },
  gemm: {
    inputs: [float(3, 2), float(4, 3), float(4)],
    build: (a, b, c) => gemm({ a, b, c, transposeA: true, transposeB: true, alpha: 0.5, beta: 2 }),
  },
  gather: {
    inputs: [float(4, 3), filled([2, 2], [1, 3, 1, 0], 'int32')],
    build: gather,
  },
  'a table used twice': {
    inputs: [float(4, 3), filled([2], [1, 1], 'int32')],
    build: (table, indices) => matmul(gather(table, indices), table, { transposeB: true }),
  },
  gatherElements: {
    inputs: [float(2, 4), filled([2, 3], [1, 3, 1, 0, 0, 2], 'int32')],
    build: (x, indices) => gatherElements(x, indices, { axis: 1 }),
  },
  scatterAdd: {
    inputs: [float(4, 2), filled([3], [1, 3, 1], 'int32'), float(3, 2)],
    build: scatterAdd,
  },
  scatterElementsAdd: {
    inputs: [float(2, 4), filled([2, 3], [1, 3, 1, 0, 0, 2], 'int32'), float(2, 3)],
    build: (base, indices, updates) => scatterElementsAdd(base, indices, updates, { axis: 1 }),
  },
  'values of topK': { inputs: [float(2, 5)], build: (x) => topK(x, 2).values },
  softmax: { inputs: [float(2, 3)], build: softmax },
  logSoftmax: { inputs: [float(2, 3)], build: logSoftmax },
  'rope, heads first': { inputs: [float(2, 2, 3, 4)], build: (x) => rope(x) },
  'rope, sequence first, at positions': {
    inputs: [float(2, 3, 2, 4), filled([3], [5, 0, 9], 'int32')],
    build: (x, positions) => rope(x, { sequenceAxis: -3, positions, theta: 100 }),
  },
  'rope, one sequence, from a table': {
    inputs: [float(3, 2, 4), filled([3], [5, 0, 9], 'int32')],
    build: (x, positions) => rope(x, { sequenceAxis: -3, positions, maxPositions: 10 }),
  },
  'rope, heads first, one sequence': { inputs: [float(2, 3, 4)], build: (x) => rope(x, { theta: 50 }) },
  rmsNorm: { inputs: [float(2, 3, 4), float(4)], build: (x, weight) => rmsNorm(x, weight, 1e-5) },
  causalAttention: {
    inputs: [float(2, 2, 3, 2), float(2, 2, 3, 2), float(2, 2, 3, 2)],
    build: (q, k, v) => causalAttention({ q, k, v }),
  },
  'causalAttention, grouped heads, blocks, past keys': {
    inputs: [float(1, 4, 3, 2), float(1, 2, 5, 2), float(1, 2, 5, 3)],
    build: (q, k, v) => causalAttention({ q, k, v, blockSize: 2, scale: 0.9 }),
  },
  crossEntropy: {
    inputs: [float(2, 3, 5), filled([2, 3], [1, -100, 4, 0, 0, -100], 'int32')],
    build: (logits, targets) => crossEntropy(logits, targets),
  },
  'crossEntropy of nothing': {
    inputs: [float(2, 5), filled([2], [9, 9], 'int32')],
    build: (logits, targets) => crossEntropy(logits, targets, { ignoreIndex: 9 }),
  },
  tokenLogProbabilities: {
    inputs: [float(2, 3, 5), filled([2, 3], [1, 2, 4, 0, 0, 3], 'int32')],
    build: tokenLogProbabilities,
  },
  clipByGlobalNorm: {
    inputs: [float(2, 3), float(2, 3)],
    build: (a, b) => {
      const { gradients } = clipByGlobalNorm([a, b], 1)
      return add(gradients[0]!, mul(gradients[1]!, 3))
    },
  },
  globalNorm: { inputs: [float(2, 3), float(2)], build: (a, b) => globalNorm([a, b]) },
  'a rematerialised block': {
    inputs: [float(2, 3), float(3, 3)],
    build: (x, weight) => {
      const hidden = mul(x, x)
      return rematerialise([hidden], (h) => add(tanh(matmul(h, weight)), h))
    },
  },
  'a block inside a rematerialised block': {
    inputs: [float(2, 3), float(3)],
    build: (x, weight) =>
      rematerialise([x], (h) => rematerialise([exp(h)], (inner) => rmsNorm(mul(inner, inner), weight, 1e-5))),
  },
  'one weight in two rematerialised blocks': {
    inputs: [float(2, 3), float(3, 3)],
    build: (x, weight) => {
      const layer = (h: Tensor): Tensor => tanh(matmul(h, weight))
      return rematerialise([rematerialise([x], layer)], layer)
    },
  },
  'a rematerialised block that takes a weight and what was made of it': {
    inputs: [float(2, 3), float(3)],
    build: (x, weight) => {
      const squared = mul(weight, weight)
      return rematerialise([x], (h) => add(mul(h, weight), mul(tanh(h), squared)))
    },
  },
  'a rematerialised block of inputs that depend on each other': {
    inputs: [float(2, 3)],
    build: (x) => {
      const hidden = exp(x)
      return rematerialise([x, hidden, x], (a, b, c) => mul(add(mul(a, b), c), hidden))
    },
  },
  'a rematerialised block that does not use its input': {
    inputs: [float(2, 3), float(3)],
    build: (x, weight) =>
      add(
        x,
        rematerialise([x], () => exp(weight)),
      ),
  },
}
