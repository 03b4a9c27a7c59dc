/**
 * Which batches a peer is to train: ranges of batch numbers, from the pool of those that came back first, and as many
 * as its speed asks for, so that peers of any speed end a round at about the same time (Diskin et al. 2021,
 * "Distributed Deep Learning in Open Collaborations", https://arxiv.org/abs/2106.10207, weighs peers by what they
 * did; here they are also given work by what they can do). Plain arithmetic, without members or rounds.
 */
import { List } from 'immutable'
import { type Batches, type BatchRange, reducerLimits } from './state.ts'

/** Speeds outside are taken for these, so that no arithmetic with them ends at 0 or infinity. In inner steps per second. */
const slowest = 1e-6
const fastest = 1e6

export const noBatches: Batches = { next: 0, pool: [], returned: List(), skipped: 0 }

/** How many batches are in the ranges. */
export function countBatches(ranges: Iterable<BatchRange>): number {
  let count = 0
  for (const { start, end } of ranges) count += end - start
  return count
}

/** The first `count` batches of the ranges, and the others. */
export function splitRanges(
  ranges: readonly BatchRange[],
  count: number,
): [readonly BatchRange[], readonly BatchRange[]] {
  let left = count
  for (const [i, { start, end }] of ranges.entries()) {
    if (left >= end - start) {
      left -= end - start
      continue
    }
    if (left === 0) return [ranges.slice(0, i), ranges.slice(i)]
    const middle = start + left
    return [
      [...ranges.slice(0, i), { start, end: middle }],
      [{ start: middle, end }, ...ranges.slice(i + 1)],
    ]
  }
  return [ranges, []]
}

/** Takes back what a lease held and nobody has trained. */
export function returnBatches(batches: Batches, ranges: readonly BatchRange[]): Batches {
  return ranges.length === 0 ? batches : { ...batches, returned: batches.returned.push(...ranges) }
}

/** Sorts what came back into the pool, lowest first, neighbours joined. */
export function refillPool(batches: Batches): Batches {
  if (batches.returned.isEmpty()) return batches
  const pool: BatchRange[] = []
  for (const range of [...batches.pool, ...batches.returned].sort((a, b) => a.start - b.start)) {
    const last = pool.at(-1)
    if (last?.end === range.start) pool[pool.length - 1] = { start: last.start, end: range.end }
    else pool.push(range)
  }
  const { maxPoolRanges } = reducerLimits
  if (pool.length <= maxPoolRanges) return { ...batches, pool, returned: List() }
  const bySize = pool.toSorted((a, b) => b.end - b.start - (a.end - a.start) || a.start - b.start)
  const kept = bySize.slice(0, maxPoolRanges).sort((a, b) => a.start - b.start)
  const skipped = batches.skipped + countBatches(bySize.slice(maxPoolRanges))
  return { ...batches, pool: kept, returned: List(), skipped }
}

/** Gives batches out, one lease after the other. */
export interface Dispenser {
  /** `steps` batches in at most `maxLeaseRanges` ranges. */
  take(steps: number): BatchRange[]
  /** What is left. */
  rest(): Batches
}

/** From a pool that is sorted (`refillPool`). */
export function dispense(batches: Batches): Dispenser {
  let { next } = batches
  let index = 0
  let start = batches.pool[0]?.start ?? 0
  return {
    take: (steps) => {
      const ranges: BatchRange[] = []
      let left = steps
      // The last range is for new batches, so that a lease is whole however small the ranges of the pool are.
      while (left > 0 && index < batches.pool.length && ranges.length < reducerLimits.maxLeaseRanges - 1) {
        const end = Math.min(batches.pool[index]!.end, start + left)
        ranges.push({ start, end })
        left -= end - start
        start = end
        if (end < batches.pool[index]!.end) continue
        index += 1
        start = batches.pool[index]?.start ?? 0
      }
      if (left === 0) return ranges
      ranges.push({ start: next, end: next + left })
      next += left
      return ranges
    },
    rest: () => {
      const pool = batches.pool.slice(index)
      if (pool[0] !== undefined) pool[0] = { start, end: pool[0].end }
      return { ...batches, next, pool }
    },
  }
}

/** What a peer says about its speed, in inner steps per second, within bounds. */
export function boundedSpeed(stepsPerSecond: number): number {
  return Math.min(fastest, Math.max(slowest, stepsPerSecond))
}

/** The rate of so many steps, from lease to report. */
export function measuredSpeed(steps: number, elapsedMs: number): number {
  return boundedSpeed((1000 * steps) / Math.max(1, elapsedMs))
}

/**
 * The median of the speeds that are known; null when none is. Of an even number the lower of the two in the middle: one
 * of two peers that exaggerates then gets more work itself, instead of leaving the other with none.
 */
export function medianSpeed(speeds: readonly (number | null)[]): number | null {
  const known = Float64Array.from(speeds.filter((speed) => speed !== null)).sort()
  return known.length === 0 ? null : known[(known.length - 1) >> 1]!
}

/** How many inner steps a peer of this speed gets in a round whose median peer does `innerSteps`. */
export function stepsFor(
  speed: number | null,
  median: number | null,
  { innerSteps, maximumSpeedup }: { readonly innerSteps: number; readonly maximumSpeedup: number },
): number {
  if (speed === null || median === null) return innerSteps
  const steps = Math.round((speed / median) * innerSteps)
  return Math.max(1, Math.min(steps, Math.floor(maximumSpeedup * innerSteps)))
}
