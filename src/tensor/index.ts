/**
 * Floor 1: symbolic tensors, their gradients, and the ONNX programs that backends run. Nothing here runs
 * anything.
 */
export { type CausalAttentionOptions, causalAttention, causalMask } from './composite/attention.ts'
export { clipByGlobalNorm, globalNorm } from './composite/clip.ts'
export { type CrossEntropyOptions, crossEntropy, tokenLogProbabilities } from './composite/loss.ts'
export { rmsNorm } from './composite/norm.ts'
export { type RopeOptions, rope, ropeFrequencies } from './composite/rope.ts'
export { swiglu } from './composite/swiglu.ts'
export { grad } from './gradient.ts'
export { type InterpreterFeed, type InterpreterResult, interpret, type Numbers } from './interpret.ts'
export { type EmitOptions, emitOnnx } from './onnx/emit.ts'
export type { GraphBuilder, NodeOptions } from './onnx/graph-builder.ts'
export { broadcastTo, type ReduceOptions, sum, sumTo } from './operations/broadcast.ts'
export { type BackwardContext, customGradient, rematerialise, stopGradient } from './operations/control.ts'
export {
  abs,
  add,
  cast,
  clamp,
  cos,
  div,
  equal,
  erf,
  exp,
  floor,
  gelu,
  greater,
  greaterOrEqual,
  less,
  lessOrEqual,
  log,
  logicalAnd,
  logicalNot,
  logicalOr,
  maximum,
  minimum,
  mul,
  neg,
  pow,
  reciprocal,
  rsqrt,
  sigmoid,
  sign,
  silu,
  sin,
  sqrt,
  sub,
  tanh,
  where,
} from './operations/elementwise.ts'
export { gather, gatherElements, oneHot, scatterAdd, scatterElementsAdd } from './operations/indexing.ts'
export { constant, full, iota, ones, parameter, scalar, zeros } from './operations/leaves.ts'
export { gemm, type MatmulOptions, matmul } from './operations/matmul.ts'
export { argmax, max, mean, min, sumOfSquares, topK } from './operations/reduce.ts'
export { rotate } from './operations/rotate.ts'
export { concat, pad, reshape, slice, split, transpose } from './operations/shape.ts'
export { logSoftmax, softmax } from './operations/softmax.ts'
export { defineProgram, type EmittedProgram, type Program, updateName } from './program.ts'
export {
  type Attributes,
  apply,
  type Dialect,
  type DType,
  describe,
  type EvaluationContext,
  type GradientContext,
  type LoweredValue,
  type LoweringContext,
  type Operand,
  type Operation,
  type Shape,
  sameShape,
  sizeOf,
  type Tensor,
  type TensorSpec,
  type Value,
} from './tensor.ts'
