/**
 * Where an inner step stands in the run's schedule. It depends on the round and on how far through its lease a peer
 * is, and so neither on the peer's speed nor on how long it has taken part.
 */
import type { MergeContext, SyncMethod } from '../sync/index.ts'
import { learningRateAt, scheduleOf } from '../train/index.ts'
import type { Manifest } from './manifest.ts'

/** Schedule step of local step `index` (from 0) of a lease of `steps` in a round. */
export function schedulePosition(at: {
  readonly round: number
  readonly index: number
  readonly steps: number
  /** H of the method. */
  readonly innerSteps: number
}): number {
  const { round, index, steps, innerSteps } = at
  return (round - 1) * innerSteps + Math.floor((index * innerSteps) / steps)
}

/** What the learning rate is multiplied with at a schedule step, while a run gets going again after all had gone. */
export function rewarmFactor(
  rewarm: { readonly round: number; readonly steps: number } | null,
  scheduleStep: number,
  innerSteps: number,
): number {
  if (rewarm === null) return 1
  const since = scheduleStep - (rewarm.round - 1) * innerSteps
  return since < 0 ? 1 : Math.min(1, (since + 1) / Math.max(1, rewarm.steps))
}

/** The learning rate with which a round begins: the one that methods see which step in the merge. */
export function roundLearningRate(
  inner: Manifest['inner'],
  { round, innerSteps }: { readonly round: number; readonly innerSteps: number },
): number {
  return learningRateAt(scheduleOf(inner), (round - 1) * innerSteps)
}

/** What every merge of a round is given, whoever makes it; whose merge it is comes on top. */
export function mergeContextOf(
  { inner }: Pick<Manifest, 'inner'>,
  { innerSteps }: Pick<SyncMethod, 'innerSteps'>,
  { round, seed }: { readonly round: number; readonly seed: string },
): Omit<MergeContext, 'self'> {
  const learningRate = roundLearningRate(inner, { round, innerSteps })
  return { round, seed, learningRate, clipToMedianNorm: true }
}
