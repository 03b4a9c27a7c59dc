/**
 * What is read off a sweep of outer settings: how far the best of them are behind data parallelism, and whether the gaps
 * have the shape of the published ones (https://arxiv.org/abs/2503.09799): one replica beats data parallelism, the gap
 * grows with replicas and shrinks with the size of the model.
 */
import { baseline, compare, finalLoss, type TrainingCell } from './loss-cells.ts'
import { median } from './markdown.ts'

/** Cells of one model, number of replicas, H, rate and momentum: one for each seed. */
export interface OuterCase {
  readonly model: string
  readonly parameters: number
  readonly replicas: number
  readonly innerSteps: number
  readonly outerLearningRate: number
  readonly outerMomentum: number
  readonly losses: ReadonlyMap<number, number> // by seed
}

export function outerCases(cells: readonly TrainingCell[]): readonly OuterCase[] {
  const cases = new Map<string, OuterCase & { readonly losses: Map<number, number> }>()
  for (const cell of cells) {
    const { model, replicas, seed, sync } = cell.key
    if (cell.key.method !== 'diloco' || sync.method !== 'diloco') continue
    const { innerSteps, outerLearningRate, outerMomentum } = sync
    const settings = { model, replicas, innerSteps, outerLearningRate, outerMomentum }
    const known = JSON.stringify(settings)
    const { parameters } = cell.value
    if (!cases.has(known)) cases.set(known, { ...settings, parameters, losses: new Map() })
    cases.get(known)!.losses.set(seed, finalLoss(cell))
  }
  const rank = (each: OuterCase): readonly number[] => [
    ...[each.parameters, each.replicas, each.innerSteps, each.outerLearningRate, each.outerMomentum],
  ]
  return [...cases.values()].toSorted((a, b) => compare(rank(a), rank(b)))
}

/** How much worse than data parallelism with the same seed, as a share, of the best settings for one H. */
export interface Gap extends OuterCase {
  readonly gaps: ReadonlyMap<number, number> // by seed
  /** Their median. */
  readonly gap: number
}

/**
 * For each model, number of replicas and H, the settings with the least median gap among those that were measured with
 * the most seeds: the best of many single runs would be the luckiest.
 */
export function bestGaps(cells: readonly TrainingCell[]): readonly Gap[] {
  const references = cells.filter(({ key }) => key.method === baseline)
  const all = outerCases(cells).flatMap((each) => {
    const gaps = new Map<number, number>()
    for (const [seed, loss] of each.losses) {
      const same = references.find(({ key }) => key.seed === seed && key.model === each.model)
      if (same !== undefined) gaps.set(seed, loss / finalLoss(same) - 1)
    }
    return gaps.size === 0 ? [] : [{ ...each, gaps, gap: median([...gaps.values()]) }]
  })
  const perCase = Map.groupBy(all, (gap) => JSON.stringify([gap.model, gap.replicas, gap.innerSteps]))
  return [...perCase.values()].map((group) => {
    const seeds = Math.max(...group.map(({ gaps }) => gaps.size))
    return group.filter(({ gaps }) => gaps.size === seeds).reduce((a, b) => (b.gap < a.gap ? b : a))
  })
}

/** How often something shows, of medians, and of single seeds that both sides have. */
export interface Sign {
  readonly claim: string
  readonly holds: number
  readonly of: number
  readonly seedsHold: number
  readonly seedsOf: number
}

/** The three signs of the published tables. */
export function publishedShape(gaps: readonly Gap[]): readonly Sign[] {
  const nextBy = (
    same: (a: Gap, b: Gap) => boolean,
    by: (gap: Gap) => number,
  ): readonly (readonly [Gap, Gap])[] =>
    gaps.flatMap((a) => {
      const next = gaps.filter((b) => same(a, b) && by(b) > by(a)).toSorted((b, c) => by(b) - by(c))[0]
      return next === undefined ? [] : [[a, next] as const]
    })
  const sign = (claim: string, pairs: readonly (readonly [Gap, Gap])[]): Sign => {
    const single = pairs.flatMap(([less, more]) =>
      [...less.gaps].flatMap(([seed, gap]) => {
        const other = more.gaps.get(seed)
        return other === undefined ? [] : [gap < other]
      }),
    )
    return {
      ...{ claim, holds: pairs.filter(([less, more]) => less.gap < more.gap).length, of: pairs.length },
      ...{ seedsHold: single.filter(Boolean).length, seedsOf: single.length },
    }
  }
  const single = gaps.filter(({ replicas }) => replicas === 1)
  /** As good as data parallelism. */
  const level = (gap: Gap): Gap => ({
    ...gap,
    gap: 0,
    gaps: new Map([...gap.gaps.keys()].map((seed) => [seed, 0])),
  })
  return [
    sign(
      'One replica beats data parallelism',
      single.map((gap) => [gap, level(gap)] as const),
    ),
    sign(
      'The gap grows with the number of replicas',
      nextBy(
        (a, b) => a.model === b.model && a.innerSteps === b.innerSteps,
        ({ replicas }) => replicas,
      ),
    ),
    sign(
      'The gap shrinks with the size of the model',
      nextBy(
        (a, b) => a.replicas === b.replicas && a.innerSteps === b.innerSteps && a.replicas > 1,
        ({ parameters }) => -parameters,
      ),
    ),
  ]
}
