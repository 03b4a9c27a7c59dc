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

interface Normed {
  /** Σ value[i]², in float64. */
  squaredNorm(): number
}

/** One tensor of a decoded update, validated, and as compact as it travelled. */
export interface DecodedTensor extends Normed {
  /** target[i] += weight · value[from + i], in float64, for as many as the target has. `from` is a multiple of 128. */
  addScaled(target: Float64Array, weight: number, from?: number): void
}

/** Sums are formed block by block, so that they stay in the cache while one update after the other is added. */
const blockSize = 8192

/** One tensor of an update that has values in some places only. */
export interface DecodedSparseTensor extends Normed {
  /** Where it has values, each place once, and tile after tile. */
  readonly places: Uint32Array
  /** target[place] += weight · value for every value, or those of a range. */
  scatterScaled(target: Float64Array, weight: number, from?: number, to?: number): void
  /** target[i] += weight wherever there is a value, or one of a range. */
  addPresence(target: Float64Array, weight: number, from?: number, to?: number): void
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
  tensors: readonly Normed[],
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
  const weights = weightsOf(tensors, shares, context)
  for (let from = 0; from < sum.length; from += blockSize) {
    const block = sum.subarray(from, from + blockSize)
    for (const [i, tensor] of tensors.entries()) tensor.addScaled(block, weights[i]!, from)
  }
}

function weightsOf(
  tensors: readonly Normed[],
  shares: readonly number[],
  context: Pick<MergeContext, 'clipToMedianNorm'>,
): readonly number[] {
  return clippingFactors(tensors, context).map((factor, i) => shares[i]! * factor)
}

/**
 * Averages one tensor of `size` values over the contributions, and hands the average on in blocks from the first to the
 * last. A block is valid until `take` returns.
 */
export type TensorAverage = (
  size: number,
  tensors: readonly DecodedTensor[],
  shares: readonly number[],
  context: Pick<MergeContext, 'clipToMedianNorm'>,
  take: (block: Float64Array, from: number) => void,
) => void

/** Σ over contributions of share · factor · value. */
export const plainAverage: TensorAverage = (size, tensors, shares, context, take) => {
  const weights = weightsOf(tensors, shares, context)
  const sum = new Float64Array(Math.min(size, blockSize))
  for (let from = 0; from < size; from += blockSize) {
    const block = sum.subarray(0, Math.min(size - from, blockSize)).fill(0)
    for (const [i, tensor] of tensors.entries()) tensor.addScaled(block, weights[i]!, from)
    take(block, from)
  }
}

/** A mean direction shorter than this is what rounding left of directions that cancel. */
const leastDirection = 1e-6

/**
 * Radial-directional averaging, of Decoupled DiLoCo (https://arxiv.org/abs/2604.21428): as long as the mean of the
 * norms, along the mean of the directions. The plain mean of M updates of one length that are all but orthogonal is √M
 * times shorter; this is not, so that the outer rate need not follow M. Where directions cancel it is the plain mean.
 * Clipping bounds the norms that are averaged.
 */
export const radialDirectionalAverage: TensorAverage = (size, tensors, shares, context, take) => {
  const norms = tensors.map((tensor) => Math.sqrt(tensor.squaredNorm()))
  const factors = clippingFactors(tensors, context)
  const direction = new Float64Array(size)
  let radius = 0
  for (const [i, tensor] of tensors.entries()) {
    const norm = norms[i]!
    if (norm === 0) continue
    radius += shares[i]! * factors[i]! * norm
    tensor.addScaled(direction, shares[i]! / norm)
  }
  let squares = 0
  for (let i = 0; i < size; i++) squares += direction[i]! * direction[i]!
  if (squares < leastDirection ** 2) {
    plainAverage(size, tensors, shares, context, take)
    return
  }
  const scale = radius / Math.sqrt(squares)
  for (let i = 0; i < size; i++) direction[i] = scale * direction[i]!
  take(direction, 0)
}

/** Adds up the values `from` up to `to` of all contributions: a tile, which is in the same range of each, or all. */
type SparseAdder = (sum: Float64Array, from: number, to: number) => void

/**
 * The same of one sparse tensor, where the mean may be over the senders of each place. Tile by tile, so that a tile's
 * sums stay in the cache while one contribution after the other is added.
 */
export function sparseAdder(
  tensors: readonly DecodedSparseTensor[],
  shares: readonly number[],
  average: SparseAverage,
  context: Pick<MergeContext, 'clipToMedianNorm'>,
): SparseAdder {
  const weights = weightsOf(tensors, shares, context)
  const addUp: SparseAdder = (sum, from, to) => {
    for (let i = 0; i < tensors.length; i++) tensors[i]!.scatterScaled(sum, weights[i]!, from, to)
  }
  if (average === 'all-peers') return addUp
  let presence = new Float64Array(0)
  return (sum, from, to) => {
    addUp(sum, from, to)
    if (presence.length < sum.length) presence = new Float64Array(sum.length)
    for (let i = 0; i < tensors.length; i++) tensors[i]!.addPresence(presence, shares[i]!, from, to)
    for (const { places } of tensors) {
      for (let i = from; i < to; i++) {
        const place = places[i]!
        if (presence[place]! === 0) continue // its mean is there already
        sum[place] = sum[place]! / presence[place]!
        presence[place] = 0
      }
    }
  }
}

/** √Σ of the squares of all values. */
export function normOf(tensors: readonly Normed[]): number {
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
