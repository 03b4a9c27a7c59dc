/**
 * Table 1, `npm run bench -- table-loss`: the loss of every method at equal tokens, with 1, 2, 4 and 8 replicas, against
 * data parallelism, with what each of them sends. Can be interrupted at any time: it goes on where it was.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openBackend } from '../../src/runtime/index.ts'
import {
  baseline,
  comparableCells,
  type Grid,
  referencesOf,
  type Scope,
  type TrainingCell,
} from './loss-cells.ts'
import { lossCharts, lossMarkdown } from './loss-markdown.ts'
import { type TrainingResults, workThrough } from './plan.ts'
import { identityOf, ResultsFile, writeWhole } from './results.ts'
import { methodCase, methodNames, soloMethods } from './settings.ts'
import {
  type RunShape,
  type TextSource,
  type TrainingKey,
  type TrainingValue,
  textSource,
  trainingKey,
} from './training-cell.ts'

const usualFolder = 'bench/results'
const localFolder = 'bench/results/local'
const defaultText = '../shared/data/speeches'
export const defaultShape: RunShape = {
  ...{ tokens: 327_680, batchSize: 8, sequenceLength: 64 },
  ...{ warmupSteps: 40, validationSequences: 120, measurements: 8 },
}

export interface LossOptions extends Grid {
  readonly model: string
  readonly shape: RunShape
  /** Multiples of the methods' inner learning rates. */
  readonly rateFactors: readonly number[]
  readonly text: TextSource
  readonly results: TrainingResults
  readonly threads: number
  readonly minutes: number
  readonly say: (text: string) => void
  readonly onCell?: () => void
}

export async function runLossTable(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      methods: { type: 'string', default: methodNames.join(',') },
      replicas: { type: 'string', default: '1,2,4,8' },
      seeds: { type: 'string', default: '1,2,3' },
      model: { type: 'string' },
      tokens: { type: 'string' },
      'rate-factors': { type: 'string', default: '1' },
      data: { type: 'string' },
      threads: { type: 'string', default: '2' },
      minutes: { type: 'string', default: 'Infinity' },
      quick: { type: 'boolean', default: false },
      out: { type: 'string' },
      charts: { type: 'string' },
    },
  })
  const { quick } = values
  const model = values.model ?? (quick ? 'toy' : '3.3M')
  const shape: RunShape = {
    ...defaultShape,
    ...(quick ? quickShape : {}),
    ...(values.tokens === undefined ? {} : { tokens: Number(values.tokens) }),
  }
  const text = await textSource(values.data ?? (existsSync(defaultText) ? defaultText : undefined))
  const say = (line: string): void => void process.stderr.write(`${line}\n`)
  const folder = values.out ?? (quick ? localFolder : folderFor({ model, shape, text: text.name }, say))
  const charts = values.charts ?? (folder === usualFolder ? 'docs/methods' : join(folder, 'charts'))
  const options: LossOptions = {
    ...{ model, shape, text, say },
    methods: list(values.methods),
    replicas: list(values.replicas).map(Number),
    seeds: list(values.seeds).map(Number),
    rateFactors: list(values['rate-factors']).map(Number),
    results: new ResultsFile(join(folder, 'table-loss.json')),
    threads: Number(values.threads),
    minutes: Number(values.minutes),
    onCell: () => write(),
  }
  const write = (): string => {
    const cells = cellsOf(options)
    const markdown = lossMarkdown(cells, options)
    writeWhole(join(folder, 'table-loss.md'), markdown)
    for (const [method, svg] of lossCharts(cells)) writeWhole(join(charts, `${method}.svg`), svg)
    return markdown
  }
  await measureLosses(options)
  process.stdout.write(`${write()}\nWritten to ${folder} and ${charts}.\n`)
}

/** The table that is kept is of one text, model and shape: what cannot be compared with it must not take its place. */
function folderFor(scope: Scope, say: (text: string) => void): string {
  const cells = new ResultsFile<TrainingKey, TrainingValue>(join(usualFolder, 'table-loss.json')).all()
  if (cells.length === 0 || comparableCells(cells, scope).length > 0) return usualFolder
  say(
    `What is in ${usualFolder} has another text, model or length than ${scope.model} parameters, ${scope.text}, ` +
      `${scope.shape.tokens} tokens: this goes to ${localFolder}, unless --out says otherwise.`,
  )
  return localFolder
}

/** Tiny, to see that everything runs. */
export const quickShape: Pick<RunShape, 'tokens' | 'sequenceLength' | 'validationSequences'> = {
  ...{ tokens: 12_800, sequenceLength: 32, validationSequences: 16 },
}

export async function measureLosses(options: LossOptions): Promise<boolean> {
  await using backend = await openBackend({ name: 'cpu', threads: options.threads })
  const references = missingReferences(options)
  if (references.length > 0) {
    options.say(
      `The others are compared with data parallelism, which is not there yet for seed ${references.map(({ seed }) => seed).join(', ')}: ` +
        'it is measured too.',
    )
  }
  const { seeds } = options
  const keys = [...references, ...keysOf(options)].toSorted(
    (a, b) => seeds.indexOf(a.seed) - seeds.indexOf(b.seed),
  )
  return await workThrough({ ...options, keys, backend })
}

/** Cells of data parallelism that gaps are to and that nobody asked for; one of earlier code does. */
export function missingReferences(options: LossOptions): readonly TrainingKey[] {
  const { model, seeds, shape, text } = options
  const asked = new Set(keysOf(options).map(identityOf))
  const there = referencesOf(cellsOf(options)).map(({ key }) => key.seed)
  const given = { model, text: text.name, replicas: 1, shape }
  const key = trainingKey(methodCase(baseline, model), { ...given, seed: 1 })
  return seeds
    .filter((seed) => !there.includes(seed))
    .map((seed) => ({ ...key, seed }))
    .filter((each) => !asked.has(identityOf(each)))
}

/**
 * Seed by seed, so that whatever is there when it is interrupted can be compared. Data parallelism once for each: the mean
 * gradient of a batch is the same, however many share it.
 */
export function keysOf(options: LossOptions): readonly TrainingKey[] {
  const { methods, replicas, seeds, model, shape, rateFactors, text } = options
  const keys = methods.map((name) =>
    trainingKey(methodCase(name, model), { model, text: text.name, replicas: 1, seed: 1, shape }),
  )
  return seeds.flatMap((seed) =>
    keys.flatMap((key) =>
      (soloMethods.has(key.method) ? [1] : replicas).flatMap((count) =>
        rateFactors.map((factor) => {
          const learningRate = key.optimiser.learningRate * factor
          return { ...key, optimiser: { ...key.optimiser, learningRate }, replicas: count, seed }
        }),
      ),
    ),
  )
}

/** All that can be compared with what was asked for, whoever asked for it. */
export function cellsOf(options: LossOptions): readonly TrainingCell[] {
  const { results, model, text, shape } = options
  return comparableCells(results.all(), { model, text: text.name, shape })
}

function list(text: string): string[] {
  return text.split(',').filter((part) => part !== '')
}
