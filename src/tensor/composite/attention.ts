/**
 * Causal attention with grouped heads (Ainslie et al., https://arxiv.org/abs/2305.13245). The query heads
 * that share a key head are stacked along the rows of one matrix, so keys and values are never repeated in
 * memory. With `blockSize` the queries are taken in blocks, each against the keys up to its own end: the
 * masked half of the scores is not computed.
 */

import { sum } from '../operations/broadcast.ts'
import { customGradient } from '../operations/control.ts'
import { add, lessOrEqual, mul, sub, where } from '../operations/elementwise.ts'
import { iota } from '../operations/leaves.ts'
import { matmul } from '../operations/matmul.ts'
import { concat, reshape, slice } from '../operations/shape.ts'
import { softmax } from '../operations/softmax.ts'
import { requireDType, shapeError } from '../rules.ts'
import type { Tensor } from '../tensor.ts'

export interface CausalAttentionOptions {
  /** [batch, heads, queries, headDim] */
  readonly q: Tensor
  /** [batch, keyValueHeads, keys, headDim]; the queries are the last of the keys' positions. */
  readonly k: Tensor
  /** [batch, keyValueHeads, keys, valueDim] */
  readonly v: Tensor
  /** Factor of the scores; 1/√headDim if absent. */
  readonly scale?: number
  /** Queries per block; all at once if absent. */
  readonly blockSize?: number
}

/** Below every score that occurs, and finite: WGSL promises nothing about infinities. */
const masked = -1e30

export function causalAttention(options: CausalAttentionOptions): Tensor {
  const { q, k, v } = options
  check(q, k, v)
  const [batch, heads, queries, headDim] = q.shape as [number, number, number, number]
  const [keyHeads, keys] = [k.shape[1]!, k.shape[2]!]
  const valueDim = v.shape[3]!
  const scale = options.scale ?? 1 / Math.sqrt(headDim)
  const blockSize = Math.min(options.blockSize ?? queries, queries)
  if (!Number.isInteger(blockSize) || blockSize < 1)
    throw shapeError('causalAttention', `blockSize ${blockSize}`, [q])

  const groups = heads / keyHeads
  const past = keys - queries
  const blocks: Tensor[] = []
  for (let start = 0; start < queries; start += blockSize) {
    const end = Math.min(start + blockSize, queries)
    const rows = end - start
    const seen = past + end
    const own = reshape(slice(q, { axis: 2, start, end }), [batch, keyHeads, groups * rows, headDim])
    const block = attendBlock({
      q: own,
      k: slice(k, { axis: 2, end: seen }),
      v: slice(v, { axis: 2, end: seen }),
      scale,
      groups,
    })
    blocks.push(reshape(block, [batch, heads, rows, valueDim]))
  }
  return concat(blocks, { axis: 2 })
}

function check(q: Tensor, k: Tensor, v: Tensor): void {
  const all = [q, k, v]
  requireDType('causalAttention', all, 'float32')
  if (all.some(({ shape }) => shape.length !== 4)) {
    throw shapeError('causalAttention', 'needs [batch, heads, sequence, headDim]', all)
  }
  if (q.shape[0] !== k.shape[0] || q.shape[0] !== v.shape[0])
    throw shapeError('causalAttention', 'batches differ', all)
  if (k.shape[1] !== v.shape[1] || k.shape[2] !== v.shape[2]) {
    throw shapeError('causalAttention', 'keys and values differ in heads or length', all)
  }
  if (q.shape[3] !== k.shape[3])
    throw shapeError('causalAttention', 'queries and keys differ in headDim', all)
  if (q.shape[1]! % k.shape[1]! !== 0) {
    throw shapeError('causalAttention', 'key heads do not divide the query heads', all)
  }
  if (q.shape[2]! > k.shape[2]!) throw shapeError('causalAttention', 'more queries than keys', all)
}

interface BlockOptions {
  /** [batch, keyHeads, groups·rows, headDim] */
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly scale: number
  readonly groups: number
}

/**
 * Attention of the last `rows` positions. The backward pass uses the probabilities again: dS = P∘(dP −
 * rowsum(dO∘O)).
 */
function attendBlock({ q, k, v, scale, groups }: BlockOptions): Tensor {
  const [batch, keyHeads, stacked] = q.shape as [number, number, number]
  const seen = k.shape[2]!
  const rows = stacked / groups
  return customGradient(
    [q, k, v],
    (queries, keys, values) => {
      const scores = matmul(queries, keys, { transposeB: true, alpha: scale })
      const perHead = reshape(scores, [batch, keyHeads, groups, rows, seen])
      const probabilities = reshape(softmax(add(perHead, causalMask(rows, seen))), scores.shape)
      return { output: matmul(probabilities, values), saved: [probabilities] }
    },
    ({ inputs: [queries, keys, values], output, saved: [probabilities], gradient }) => {
      const inner = sum(mul(gradient, output), { axes: [-1], keepDims: true })
      const dProbabilities = matmul(gradient, values!, { transposeB: true })
      const dScores = mul(probabilities!, sub(dProbabilities, inner))
      return [
        matmul(dScores, keys!, { alpha: scale }),
        matmul(dScores, queries!, { transposeA: true, alpha: scale }),
        matmul(probabilities!, gradient, { transposeA: true }),
      ]
    },
  )
}

/** [rows, seen]: 0 where the last `rows` of `seen` positions may look, else far below zero. */
export function causalMask(rows: number, seen: number): Tensor {
  const row = reshape(add(iota(rows), seen - rows), [rows, 1])
  return where(lessOrEqual(reshape(iota(seen), [1, seen]), row), 0, masked)
}
