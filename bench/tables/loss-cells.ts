/**
 * Which cells stand in Table 1: all that the results hold for one text, model and shape, whatever was asked for last. A
 * cell whose method gives other numbers since stands until it is measured again, and is named.
 */
import { syncSettingsSchema } from '../../src/sync/index.ts'
import { optimiserSchema } from '../../src/train/index.ts'
import { methodBits } from './method-bits.ts'
import { type Cell, identityOf } from './results.ts'
import { methodCase, methodNames, soloMethods } from './settings.ts'
import type { TrainingKey, TrainingValue } from './training-cell.ts'

export type TrainingCell = Cell<TrainingKey, TrainingValue>

/** What cells must have in common to be compared. */
export type Scope = Pick<TrainingKey, 'model' | 'text' | 'shape'>

/** What was asked for. */
export interface Grid {
  readonly methods: readonly string[]
  readonly replicas: readonly number[]
  readonly seeds: readonly number[]
}

export const baseline = 'data-parallel'

/** Of the held-out text when the run ended. */
export const finalLoss = ({ value }: TrainingCell): number => value.losses.at(-1)!.loss

/** In the order of bench/tables/settings.ts, then by inner rate, replicas and seed. */
export function comparableCells(cells: readonly TrainingCell[], scope: Scope): readonly TrainingCell[] {
  const same = identityOf(scope)
  const rank = ({ key }: TrainingCell): readonly number[] => [
    ...[placeOf(key.method), key.optimiser.learningRate, key.replicas, key.seed],
  ]
  return newestCode(
    cells.filter(({ key: { model, text, shape } }) => identityOf({ model, text, shape }) === same),
  ).toSorted((a, b) => compare(rank(a), rank(b)))
}

/** Of cells that differ in their numbers alone, the one of today's code, or else the one that was measured last. */
export function newestCode(cells: readonly TrainingCell[]): readonly TrainingCell[] {
  const isToday = todaysCode()
  const groups = Map.groupBy(cells, ({ key }) => identityOf({ ...key, ...filledIn(key), bits: undefined }))
  return [...groups.values()].map((group) =>
    group.reduce((kept, each) => {
      const [was, is] = [isToday(kept), isToday(each)]
      const isNewer = is === was ? each.provenance.date >= kept.provenance.date : is
      return isNewer ? each : kept
    }),
  )
}

/** Methods with a cell that was measured when they gave other numbers. */
export function changedSince(cells: readonly TrainingCell[]): readonly string[] {
  const isToday = todaysCode()
  return [...new Set(cells.filter((cell) => !isToday(cell)).map(({ key }) => key.method))]
}

function todaysCode(): (cell: TrainingCell) => boolean {
  const known = new Map<string, string>()
  return ({ key }) => {
    if (!methodNames.includes(key.method)) return false
    const { sync } = filledIn(key)
    const settings = identityOf(sync)
    if (!known.has(settings)) known.set(settings, methodBits(sync))
    return known.get(settings) === key.bits
  }
}

/** With the defaults of settings that came after a cell was measured, which are to change nothing. */
export function filledIn({ sync, optimiser }: TrainingKey): Pick<TrainingKey, 'sync' | 'optimiser'> {
  return {
    sync: syncSettingsSchema.safeParse(sync).data ?? sync,
    optimiser: optimiserSchema.safeParse(optimiser).data ?? optimiser,
  }
}

/** What a cell has otherwise than the settings with which the tables compare its method today. */
export function deviations({ key }: TrainingCell): readonly (readonly [name: string, value: unknown])[] {
  if (!methodNames.includes(key.method)) return []
  const today = methodCase(key.method, key.model)
  const between = (then: object, now: object): [string, unknown][] => {
    const values = new Map<string, unknown>(Object.entries(now))
    return Object.entries(then).filter(
      ([name, value]) => identityOf([value]) !== identityOf([values.get(name)]),
    )
  }
  const { sync, optimiser } = filledIn(key)
  // The optimiser in data parallelism's settings is the one beside them.
  return [...between(sync, today.sync), ...between(optimiser, today.optimiser)].filter(
    ([name]) => name !== 'optimiser',
  )
}

/** Those with today's settings, which the tables compare. */
export function withTodaysSettings(cells: readonly TrainingCell[]): readonly TrainingCell[] {
  return cells.filter((cell) => deviations(cell).length === 0)
}

/** What gaps are to: one cell of data parallelism for each seed. */
export function referencesOf(cells: readonly TrainingCell[]): readonly TrainingCell[] {
  return withTodaysSettings(cells.filter(({ key }) => key.method === baseline))
}

/** How many cells there would be with every method, number of replicas and seed, and in words which are not there. */
export function absentCells(
  cells: readonly TrainingCell[],
  asked: Grid,
): { readonly of: number; readonly absent: number; readonly words: readonly string[] } {
  const there = withTodaysSettings(cells)
  const methods = [...new Set([...asked.methods, ...cells.map(({ key }) => key.method)])]
  const shared = there.filter(({ key }) => !soloMethods.has(key.method))
  const replicas = ascending([...asked.replicas, ...shared.map(({ key }) => key.replicas)])
  const seeds = ascending([...asked.seeds, ...there.map(({ key }) => key.seed)])
  let of = 0
  let absent = 0
  const words = methods
    .toSorted((a, b) => placeOf(a) - placeOf(b))
    .flatMap((method) => {
      const missing = (soloMethods.has(method) ? [1] : replicas).flatMap((count) => {
        const own = there.filter(({ key }) => key.method === method && key.replicas === count)
        const without = seeds.filter((seed) => !own.some(({ key }) => key.seed === seed))
        of += seeds.length
        absent += without.length
        return without.length === 0 ? [] : [{ count, without }]
      })
      const groups = Map.groupBy(missing, ({ without }) => without.join(', '))
      const parts = [...groups.values()].map((group) => {
        const counts = group.map(({ count }) => count)
        const { without } = group[0]!
        const replicaWord = counts.join() === '1' ? 'replica' : 'replicas'
        return `with ${counts.join(', ')} ${replicaWord} (seed${without.length > 1 ? 's' : ''} ${without.join(', ')})`
      })
      return parts.length === 0 ? [] : [`${method} ${parts.join(', ')}`]
    })
  return { of, absent, words }
}

/** Each once. */
export function ascending(numbers: readonly number[]): readonly number[] {
  return [...new Set(numbers)].toSorted((a, b) => a - b)
}

/** Methods that the tables no longer have come last. */
function placeOf(method: string): number {
  const place = methodNames.indexOf(method)
  return place < 0 ? methodNames.length : place
}

/** By the first figure in which two differ. */
export function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, i) => value !== b[i])
  return at < 0 ? 0 : a[at]! - b[at]!
}
