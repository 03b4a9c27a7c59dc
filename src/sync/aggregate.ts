/**
 * How many contributions become one: the weighted sum of one tensor over all peers. Every method adds up through this
 * file, so that whatever withstands bad updates has one place to stand.
 *
 * Median-norm clipping is that of SparseLoCo's outer step (https://arxiv.org/abs/2508.15706) and of templar: the norm
 * of each contribution, tensor by tensor, is scaled down to the median of the contributions' norms. So no peer moves a
 * tensor further than its fellows do, however large its update. With fewer than three there is no majority to ask.
 *
 * All sums are float64, over the contributions in the given order; that order is part of the format.
 */
import type { Contribution, MergeContext } from './method.ts'

/** One tensor of a decoded update, validated, and as compact as it travelled. */
export interface DecodedTensor {
  /** target[i] += weight · value[i], in float64. */
  addScaled(target: Float64Array, weight: number): void
  /** Σ value[i]², in float64. */
  squaredNorm(): number
}

/** One tensor of an update that has values in some places only. */
export interface DecodedSparseTensor extends DecodedTensor {
  /** target[i] += weight wherever there is a value. */
  addPresence(target: Float64Array, weight: number): void
}

/**
 * Over whom a sparse update's values are averaged: over all contributions, a value that was not sent counting as zero;
 * or, place by place, over those that sent one, as DeMo and templar do.
 */
export type SparseAverage = 'all-peers' | 'senders'

/** Each contribution's part of the whole weight. */
export function sharesOf(contributions: readonly Contribution<unknown>[]): readonly number[] {
  let total = 0
  for (const { weight } of contributions) total += weight
  if (!(total > 0)) throw new RangeError('A merge needs at least one contribution with a weight above 0.')
  return contributions.map(({ weight }) => weight / total)
}

/** The factors, at most 1, with which the same tensor of every contribution is multiplied. */
export function clippingFactors(
  tensors: readonly DecodedTensor[],
  { clipToMedianNorm }: Pick<MergeContext, 'clipToMedianNorm'>,
): readonly number[] {
  if (!clipToMedianNorm || tensors.length < 3) return tensors.map(() => 1)
  const norms = tensors.map((tensor) => Math.sqrt(tensor.squaredNorm()))
  const limit = median(norms)
  return norms.map((norm) => (norm > limit ? limit / norm : 1))
}

/** sum[i] += Σ over contributions of share · factor · value[i]. */
export function addShares(
  sum: Float64Array,
  tensors: readonly DecodedTensor[],
  shares: readonly number[],
  context: Pick<MergeContext, 'clipToMedianNorm'>,
): void {
  const factors = clippingFactors(tensors, context)
  for (const [i, tensor] of tensors.entries()) tensor.addScaled(sum, shares[i]! * factors[i]!)
}

/** A mean direction shorter than this is what rounding left of directions that cancel. */
const leastDirection = 1e-6

/**
 * Radial-directional averaging, of Decoupled DiLoCo (https://arxiv.org/abs/2604.21428): as long as the mean of the
 * norms, along the mean of the directions. The plain mean of M updates of one length that are all but orthogonal is √M
 * times shorter; this is not, so that the outer rate need not follow M. Where directions cancel it is the plain mean.
 * Clipping bounds the norms that are averaged.
 */
export function addRadialDirectional(
  sum: Float64Array,
  tensors: readonly DecodedTensor[],
  shares: readonly number[],
  context: Pick<MergeContext, 'clipToMedianNorm'>,
): void {
  const norms = tensors.map((tensor) => Math.sqrt(tensor.squaredNorm()))
  const factors = clippingFactors(tensors, context)
  const direction = new Float64Array(sum.length)
  let radius = 0
  for (const [i, tensor] of tensors.entries()) {
    const norm = norms[i]!
    if (norm === 0) continue
    radius += shares[i]! * factors[i]! * norm
    tensor.addScaled(direction, shares[i]! / norm)
  }
  let squares = 0
  for (let i = 0; i < direction.length; i++) squares += direction[i]! * direction[i]!
  if (squares < leastDirection ** 2) {
    addShares(sum, tensors, shares, context)
    return
  }
  const scale = radius / Math.sqrt(squares)
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + scale * direction[i]!
}

/** Like `addShares`, where the mean may be over the senders of each place. */
export function addSparseShares(
  sum: Float64Array,
  tensors: readonly DecodedSparseTensor[],
  shares: readonly number[],
  average: SparseAverage,
  context: Pick<MergeContext, 'clipToMedianNorm'>,
): void {
  addShares(sum, tensors, shares, context)
  if (average === 'all-peers') return
  const presence = new Float64Array(sum.length)
  for (const [i, tensor] of tensors.entries()) tensor.addPresence(presence, shares[i]!)
  for (let i = 0; i < sum.length; i++) if (presence[i]! > 0) sum[i] = sum[i]! / presence[i]!
}

/** √Σ of the squares of all values. */
export function normOf(tensors: readonly DecodedTensor[]): number {
  let squares = 0
  for (const tensor of tensors) squares += tensor.squaredNorm()
  return Math.sqrt(squares)
}

/** Of an even number of values the mean of the middle two. */
function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort()
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
