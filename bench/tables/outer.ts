/**
 * Table 4, `npm run bench -- table-outer`: DiLoCo's outer learning rate, outer momentum and H with 1, 2, 4 and 8 replicas,
 * on small models of several sizes. The published tables (https://arxiv.org/abs/2503.09799) have a shape: one replica
 * beats data parallelism, the gap grows with replicas and shrinks with the size of the model.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openBackend } from '../../src/runtime/index.ts'
import { type SyncSettings, syncSettingsSchema } from '../../src/sync/index.ts'
import { defaultShape, quickShape } from './loss.ts'
import { measuredHow } from './loss-markdown.ts'
import { markdownTable, median, medianAndSpread } from './markdown.ts'
import { workThrough } from './plan.ts'
import { type Cell, ResultsFile, writeWhole } from './results.ts'
import { methodCase } from './settings.ts'
import { type TrainingKey, type TrainingValue, textSource, trainingKey } from './training-cell.ts'

type TrainingCell = Cell<TrainingKey, TrainingValue>

export async function runOuterTable(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      models: { type: 'string' },
      replicas: { type: 'string', default: '1,2,4,8' },
      seeds: { type: 'string', default: '1' },
      rates: { type: 'string', default: '0.4,0.7,1' },
      momenta: { type: 'string', default: '0,0.6,0.9' },
      'inner-steps': { type: 'string', default: '10,30' },
      tokens: { type: 'string' },
      data: { type: 'string' },
      threads: { type: 'string', default: '2' },
      minutes: { type: 'string', default: 'Infinity' },
      quick: { type: 'boolean', default: false },
      out: { type: 'string' },
    },
  })
  const { quick } = values
  const folder = values.out ?? (quick ? 'bench/results/local' : 'bench/results')
  const numbers = (text: string): number[] => text.split(',').map(Number)
  const speeches = '../shared/data/speeches'
  const text = await textSource(values.data ?? (existsSync(speeches) ? speeches : undefined))
  const shape = {
    ...defaultShape,
    ...(quick ? quickShape : {}),
    ...(values.tokens === undefined ? {} : { tokens: Number(values.tokens) }),
  }
  const keys = numbers(values.seeds).flatMap((seed) =>
    (values.models ?? (quick ? 'toy' : '0.4M,1.2M,3.3M')).split(',').flatMap((model) => {
      const given = { model, text: text.name, seed, shape }
      const grid = outerGrid(numbers(values['inner-steps']), numbers(values.rates), numbers(values.momenta))
      const diloco = methodCase('diloco', model)
      return [
        trainingKey(methodCase('data-parallel', model), { ...given, replicas: 1 }),
        ...grid.flatMap((sync) => {
          const key = trainingKey({ ...diloco, sync }, { ...given, replicas: 1 })
          return numbers(values.replicas).map((replicas) => ({ ...key, replicas }))
        }),
      ]
    }),
  )
  const results = new ResultsFile<TrainingKey, TrainingValue>(join(folder, 'table-outer.json'))
  const write = (): string => {
    const markdown = outerMarkdown(keys.flatMap((key) => results.find(key) ?? []))
    writeWhole(join(folder, 'table-outer.md'), markdown)
    return markdown
  }
  await using backend = await openBackend({ name: 'cpu', threads: Number(values.threads) })
  const say = (line: string): void => void process.stderr.write(`${line}\n`)
  await workThrough({ keys, results, backend, text, minutes: Number(values.minutes), say, onCell: write })
  process.stdout.write(`${write()}\nWritten to ${folder}.\n`)
}

/** Every combination of H, η and μ. */
export function outerGrid(
  innerSteps: readonly number[],
  rates: readonly number[],
  momenta: readonly number[],
): readonly SyncSettings[] {
  return innerSteps.flatMap((each) =>
    rates.flatMap((outerLearningRate) =>
      momenta.map((outerMomentum) =>
        syncSettingsSchema.parse({ method: 'diloco', innerSteps: each, outerLearningRate, outerMomentum }),
      ),
    ),
  )
}

const finalLoss = ({ value }: TrainingCell): number => value.losses.at(-1)!.loss

/** How much worse than data parallelism, as a share: the median over seeds, of the best settings for each H. */
export interface Gap {
  readonly model: string
  readonly parameters: number
  readonly replicas: number
  readonly innerSteps: number
  readonly outerLearningRate: number
  readonly outerMomentum: number
  readonly loss: number
  readonly gap: number
}

export function bestGaps(cells: readonly TrainingCell[]): readonly Gap[] {
  const references = cells.filter(({ key }) => key.method === 'data-parallel')
  const gaps = [...Map.groupBy(dilocoOf(cells), settingsOf).values()].flatMap((group) => {
    const { key, value } = group[0]!
    const { sync } = key
    const relative = group.flatMap((cell) => {
      const same = references.find((each) => each.key.seed === cell.key.seed && each.key.model === key.model)
      return same === undefined ? [] : [finalLoss(cell) / finalLoss(same) - 1]
    })
    if (relative.length === 0 || sync.method !== 'diloco') return []
    const { innerSteps, outerLearningRate, outerMomentum } = sync
    return {
      ...{ model: key.model, parameters: value.parameters, replicas: key.replicas },
      ...{ innerSteps, outerLearningRate, outerMomentum },
      ...{ loss: median(group.map(finalLoss)), gap: median(relative) },
    }
  })
  const perCase = Map.groupBy(gaps, (gap) => JSON.stringify([gap.model, gap.replicas, gap.innerSteps]))
  return [...perCase.values()].map((group) => group.reduce((a, b) => (b.gap < a.gap ? b : a)))
}

/** The three signs of the published tables, each with how often it shows. */
export function publishedShape(
  gaps: readonly Gap[],
): readonly { readonly claim: string; readonly holds: number; readonly of: number }[] {
  const count = (pairs: readonly (readonly [Gap, Gap])[]): { holds: number; of: number } => ({
    holds: pairs.filter(([less, more]) => less.gap < more.gap).length,
    of: pairs.length,
  })
  const pairs = (
    same: (a: Gap, b: Gap) => boolean,
    by: (gap: Gap) => number,
  ): readonly (readonly [Gap, Gap])[] =>
    gaps.flatMap((a) => {
      const next = gaps.filter((b) => same(a, b) && by(b) > by(a)).toSorted((b, c) => by(b) - by(c))[0]
      return next === undefined ? [] : [[a, next] as const]
    })
  const single = gaps.filter(({ replicas }) => replicas === 1)
  const more = pairs(
    (a, b) => a.model === b.model && a.innerSteps === b.innerSteps,
    (gap) => gap.replicas,
  )
  const larger = pairs(
    (a, b) => a.replicas === b.replicas && a.innerSteps === b.innerSteps && a.replicas > 1,
    (gap) => -gap.parameters,
  )
  return [
    {
      claim: 'One replica beats data parallelism',
      ...{ holds: single.filter(({ gap }) => gap < 0).length, of: single.length },
    },
    { claim: 'The gap grows with the number of replicas', ...count(more) },
    { claim: 'The gap shrinks with the size of the model', ...count(larger) },
  ]
}

export function outerMarkdown(cells: readonly TrainingCell[]): string {
  const gaps = bestGaps(cells)
  if (gaps.length === 0) return '# Outer learning rate, momentum and H\n\nNothing can be compared yet.\n'
  const percents = (share: number): string => `${share < 0 ? '−' : '+'}${Math.abs(100 * share).toFixed(2)} %`
  const best = gaps.map((gap) => [
    gap.model,
    String(gap.replicas),
    String(gap.innerSteps),
    gap.loss.toFixed(3),
    percents(gap.gap),
    `${gap.outerLearningRate} / ${gap.outerMomentum}`,
  ])
  const all = [...Map.groupBy(dilocoOf(cells), settingsOf).values()].map((group) => {
    const { key } = group[0]!
    const { sync } = key
    if (sync.method !== 'diloco') return []
    const { innerSteps, outerLearningRate, outerMomentum } = sync
    return [
      ...[key.model, String(key.replicas), String(innerSteps)],
      ...[String(outerLearningRate), String(outerMomentum), medianAndSpread(group.map(finalLoss))],
    ]
  })
  const references = cells.filter(({ key }) => key.method === 'data-parallel')
  const shape = publishedShape(gaps).filter(({ of }) => of > 0)
  const seeds = new Set(cells.map(({ key }) => key.seed)).size
  return [
    '# Outer learning rate, momentum and H',
    '',
    `DiLoCo (int8) on ${cells[0]!.key.text}, ${cells[0]!.key.shape.tokens} tokens per run, ${seeds} seed${seeds > 1 ? 's' : ''}; ` +
      `data parallelism: ${[...Map.groupBy(references, ({ key }) => key.model)].map(([model, group]) => `${model} ${medianAndSpread(group.map(finalLoss))}`).join(', ')}.`,
    '',
    '## The best outer settings for each',
    '',
    markdownTable(['model', 'replicas', 'H', 'loss', 'against data-parallel', 'η / μ'], best),
    '',
    '## The published shape',
    '',
    ...shape.map(
      ({ claim, holds, of }) =>
        `- ${claim}: in ${holds} of ${of} comparisons: ${holds === of ? 'shows' : '**does not show throughout**'}.`,
    ),
    '',
    'Published runs have 20 tokens and more per parameter, these a fraction of one; with one seed, gaps below a percent are chance.',
    '',
    '## All',
    '',
    markdownTable(['model', 'replicas', 'H', 'η', 'μ', 'loss'], all),
    '',
    ...measuredHow(cells),
    '',
  ].join('\n')
}

function dilocoOf(cells: readonly TrainingCell[]): readonly TrainingCell[] {
  return cells.filter(({ key }) => key.method === 'diloco')
}

function settingsOf({ key }: TrainingCell): string {
  return JSON.stringify([key.model, key.replicas, key.sync])
}
