/**
 * Table 4, `npm run bench -- table-outer`: DiLoCo's outer learning rate, outer momentum and H with 1, 2, 4 and 8 replicas,
 * on small models of several sizes, and whether what comes out has the published shape (outer-gaps.ts).
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openBackend } from '../../src/runtime/index.ts'
import { type SyncSettings, syncSettingsSchema } from '../../src/sync/index.ts'
import { defaultShape, quickShape } from './loss.ts'
import { ascending, baseline, finalLoss, newestCode, type TrainingCell } from './loss-cells.ts'
import { measuredHow } from './loss-markdown.ts'
import { markdownTable, medianAndSpread } from './markdown.ts'
import { bestGaps, outerCases, publishedShape, type Sign } from './outer-gaps.ts'
import { workThrough } from './plan.ts'
import { identityOf, ResultsFile, writeWhole } from './results.ts'
import { methodCase } from './settings.ts'
import { type TrainingKey, type TrainingValue, textSource, trainingKey } from './training-cell.ts'

/** Half as many as in table 1: the sweep has many more runs. */
const tokens = 163_840

export async function runOuterTable(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      models: { type: 'string' },
      replicas: { type: 'string', default: '1,2,4,8' },
      seeds: { type: 'string', default: '1,2,3' },
      rates: { type: 'string', default: '0.4,1' },
      momenta: { type: 'string', default: '0,0.6' },
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
    ...{ ...defaultShape, tokens },
    ...(quick ? quickShape : {}),
    ...(values.tokens === undefined ? {} : { tokens: Number(values.tokens) }),
  }
  const keys = numbers(values.seeds).flatMap((seed) =>
    (values.models ?? (quick ? 'toy' : '0.4M,1.2M,3.3M')).split(',').flatMap((model) => {
      const given = { model, text: text.name, seed, shape }
      const grid = outerGrid(numbers(values['inner-steps']), numbers(values.rates), numbers(values.momenta))
      const diloco = methodCase('diloco', model)
      return [
        trainingKey(methodCase(baseline, model), { ...given, replicas: 1 }),
        ...grid.flatMap((sync) => {
          const key = trainingKey({ ...diloco, sync }, { ...given, replicas: 1 })
          return numbers(values.replicas).map((replicas) => ({ ...key, replicas }))
        }),
      ]
    }),
  )
  const results = new ResultsFile<TrainingKey, TrainingValue>(join(folder, 'table-outer.json'))
  const scope = identityOf({ text: text.name, shape })
  const write = (): string => {
    const cells = results
      .all()
      .filter(({ key }) => identityOf({ text: key.text, shape: key.shape }) === scope)
    const markdown = outerMarkdown(newestCode(cells), {
      there: keys.filter((key) => results.find(key) !== undefined).length,
      of: keys.length,
    })
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

/** Of cells with one text and shape, each once. `asked`: how many of those that were asked for are there. */
export function outerMarkdown(
  cells: readonly TrainingCell[],
  asked: { readonly there: number; readonly of: number },
): string {
  const gaps = bestGaps(cells)
  if (gaps.length === 0) return '# Outer learning rate, momentum and H\n\nNothing can be compared yet.\n'
  const best = gaps.map((gap) => [
    ...[gap.model, String(gap.replicas), String(gap.innerSteps)],
    medianAndSpread([...gap.losses.values()]),
    percents([...gap.gaps.values()], gap.gap),
    `${gap.outerLearningRate} / ${gap.outerMomentum}`,
    String(gap.gaps.size),
  ])
  const all = outerCases(cells).map((each) => [
    ...[each.model, String(each.replicas), String(each.innerSteps)],
    ...[String(each.outerLearningRate), String(each.outerMomentum)],
    medianAndSpread([...each.losses.values()]),
    String(each.losses.size),
  ])
  const references = Map.groupBy(
    cells
      .filter(({ key }) => key.method === baseline)
      .toSorted((a, b) => a.value.parameters - b.value.parameters),
    ({ key }) => key.model,
  )
  const seeds = ascending(cells.map(({ key }) => key.seed))
  return [
    '# Outer learning rate, momentum and H',
    '',
    `DiLoCo (int8) on ${cells[0]!.key.text}, ${cells[0]!.key.shape.tokens} tokens per run, ` +
      `seed${seeds.length > 1 ? 's' : ''} ${seeds.join(', ')}. Losses and gaps are medians over the seeds, with the least and the ` +
      `greatest in brackets. Data parallelism: ${[...references].map(([model, group]) => `${model} ${medianAndSpread(group.map(finalLoss))}`).join(', ')}.`,
    '',
    `${asked.there} of the ${asked.of} runs that were asked for are there; the settings that were measured stand below, each with its number of seeds.`,
    '',
    '## The best outer settings for each',
    '',
    'Of those that were measured with the most seeds. A gap is to data parallelism with the same seed.',
    '',
    markdownTable(['model', 'replicas', 'H', 'loss', 'against data-parallel', 'η / μ', 'seeds'], best),
    '',
    '## The published shape',
    '',
    ...publishedShape(gaps)
      .filter(({ of }) => of > 0)
      .map(signText),
    '',
    'Published runs have 20 tokens and more per parameter, these a fraction of one.',
    '',
    '## All',
    '',
    markdownTable(['model', 'replicas', 'H', 'η', 'μ', 'loss', 'seeds'], all),
    '',
    ...measuredHow(cells),
    '',
  ].join('\n')
}

function signText({ claim, holds, of, seedsHold, seedsOf }: Sign): string {
  const shows = holds === of ? 'shows' : '**does not show throughout**'
  const single = seedsOf > of ? ` Seed by seed: in ${seedsHold} of ${seedsOf}.` : ''
  return `- ${claim}: in ${holds} of ${of} comparisons: ${shows}.${single}`
}

function percents(shares: readonly number[], middle: number): string {
  const text = (share: number): string => `${share < 0 ? '−' : '+'}${Math.abs(100 * share).toFixed(2)}`
  if (shares.length === 1) return `${text(middle)} %`
  return `${text(middle)} % (${text(Math.min(...shares))} to ${text(Math.max(...shares))})`
}
