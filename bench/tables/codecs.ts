/**
 * Table 5, `npm run bench -- codecs`: what exchanging costs on one core: encoding, decoding and merging updates by every
 * method and encoding. Rates are in megabytes of float32 parameters per second, so that they say how long a model of so
 * many bytes takes: at 400 MB/s a model of a billion parameters takes ten seconds. Times are the process's processor
 * time, garbage collection included, so that what else the machine does has little part in them.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { seededRandom } from '../../src/core/index.ts'
import { type LlamaConfig, layoutOf, llamaConfig } from '../../src/model/index.ts'
import {
  createSyncMethod,
  type SyncSettings,
  syncSettingsSchema,
  type TensorLayout,
} from '../../src/sync/index.ts'
import { durationText, markdownTable, type Quartiles, quartiles } from './markdown.ts'
import { RecentUpdates } from './recent-updates.ts'
import { type Provenance, provenance, writeWhole } from './results.ts'

const models: Readonly<Record<string, LlamaConfig>> = {
  '3.3M': llamaConfig({
    vocabularySize: 256,
    hiddenSize: 256,
    intermediateSize: 688,
    layers: 4,
    attentionHeads: 4,
  }),
  '20M': llamaConfig({
    vocabularySize: 8192,
    hiddenSize: 384,
    intermediateSize: 1024,
    layers: 10,
    attentionHeads: 6,
  }),
}

const contributors = 4
const defaultRepeats = 11
/** A billion parameters in float32. */
const largeModelMegabytes = 4000

const candidates: Readonly<Record<string, unknown>> = {
  'DiLoCo, float32': { method: 'diloco', encoding: 'float32' },
  'DiLoCo, float16': { method: 'diloco', encoding: 'float16' },
  'DiLoCo, int8': { method: 'diloco', encoding: 'int8' },
  'DiLoCo, fp4-e3m0': { method: 'diloco', encoding: 'fp4-e3m0' },
  'DiLoCo, int2 with error feedback': { method: 'diloco', encoding: 'int2', errorFeedback: 0.9 },
  'Streaming DiLoCo, 2 fragments, fp4-e3m0': { method: 'streaming-diloco' },
  'Decoupled DiLoCo, int8': { method: 'decoupled' },
  'SparseLoCo, 64 of 4096': { method: 'sparse-loco' },
  'NoLoCo, int8 and float16': { method: 'noloco' },
  'data parallelism, float32': { method: 'data-parallel' },
  'data parallelism, int8': { method: 'data-parallel', encoding: 'int8' },
  'DeMo, 32 of 4096': { method: 'demo' },
  'DisTrO, 8 of 4096': { method: 'distro' },
}

const operations = ['encode', 'decode', 'merge'] as const
type PerOperation<T> = Readonly<Record<(typeof operations)[number], T>>

/** What one method costs with one layout. */
export interface CodecFigures {
  readonly bitsPerParameter: number
  /** MB of float32 parameters per second. */
  readonly rates: PerOperation<Quartiles>
  /** For a model of a billion parameters: one update encoded, one decoded, a merge; by the median. */
  readonly secondsAt1B: PerOperation<number>
}

export interface CodecRow extends CodecFigures {
  readonly model: string
  readonly parameters: number
  readonly label: string
  readonly settings: SyncSettings
}

export function runCodecsTable(args: readonly string[]): void {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: 'string', multiple: true },
      repeats: { type: 'string' },
      quick: { type: 'boolean', default: false },
      out: { type: 'string' },
    },
  })
  const { quick } = values
  const names = values.model ?? (quick ? ['3.3M'] : Object.keys(models))
  const repeats = Number(values.repeats ?? (quick ? 3 : defaultRepeats))
  const whole = Object.keys(models).every((name) => names.includes(name)) && repeats >= defaultRepeats
  const folder = values.out ?? (whole ? 'bench/results' : 'bench/results/local')
  const rows = names.flatMap((model) => {
    const config = models[model]
    if (config === undefined) {
      throw new Error(`There is no model “${model}”; choose from ${Object.keys(models).join(', ')}.`)
    }
    const layout = layoutOf(config)
    return Object.entries(candidates).map(([label, given]): CodecRow => {
      process.stderr.write(`${model}: ${label}…\n`)
      const settings = syncSettingsSchema.parse(given)
      const figures = measureCodec(settings, layout, repeats)
      return { model, parameters: layout.totalSize, label, settings, ...figures }
    })
  })
  const from = provenance()
  const markdown = codecsMarkdown(rows, repeats, from)
  writeWhole(join(folder, 'table-codecs.md'), markdown)
  const json = { contributors, repeats, rows, provenance: from }
  writeWhole(join(folder, 'table-codecs.json'), `${JSON.stringify(json, null, 1)}\n`)
  process.stdout.write(`${markdown}\nWritten to ${folder}.\n`)
}

/** One peer's rounds, its last updates merged as if they were several peers'. The first round compiles and does not count. */
export function measureCodec(settings: SyncSettings, layout: TensorLayout, repeats: number): CodecFigures {
  const method = createSyncMethod(settings)
  let state = method.createState(layout, normals(layout.totalSize, 'parameters'))
  let local = method.createLocal(layout)
  const recent = new RecentUpdates<unknown>(contributors, settings)
  const megabytes = (4 * layout.totalSize) / 1e6
  const rates = { encode: [] as number[], decode: [] as number[], merge: [] as number[] }
  let sentBytes = 0
  for (let round = 1; round <= repeats + 1; round++) {
    const timed = <T>(what: keyof typeof rates, run: () => T): T => {
      const start = process.cpuUsage()
      const result = run()
      const { user, system } = process.cpuUsage(start)
      if (round > 1) rates[what].push(megabytes / (Math.max(user + system, 1) / 1e6))
      return result
    }
    const values = normals(layout.totalSize, 'moved', `${round}`)
    if (method.quantity === 'parameters') {
      const parameters = method.parameters(state)
      for (let i = 0; i < values.length; i++) values[i] = parameters[i]! + 0.01 * values[i]!
    }
    const input = { state, local, round, values, learningRate: 1e-3 }
    const encoded = timed('encode', () => method.encodeUpdate(input, layout))
    const update = timed('decode', () => method.decodeUpdate(encoded.bytes, layout))
    recent.add(round, update)
    const contributions = recent.contributions(round, contributors)
    const context = {
      ...{ round, seed: `${round}`, learningRate: 1e-3, clipToMedianNorm: true, self: null },
    }
    state = timed('merge', () => method.merge(state, contributions, context))
    local = encoded.local
    sentBytes += encoded.bytes.byteLength
  }
  const each = <T>(of: (operation: (typeof operations)[number]) => T): PerOperation<T> => ({
    ...{ encode: of('encode'), decode: of('decode'), merge: of('merge') },
  })
  return {
    bitsPerParameter: (8 * sentBytes) / (repeats + 1) / layout.totalSize,
    rates: each((operation) => quartiles(rates[operation])),
    secondsAt1B: each((operation) => largeModelMegabytes / quartiles(rates[operation]).median),
  }
}

export function codecsMarkdown(
  rows: readonly CodecRow[],
  repeats: number,
  { date, machine, commit }: Provenance,
): string {
  const header = [
    ...['method', 'bits per parameter', ...operations.map((operation) => `${operation}, MB/s`)],
    ...operations.map((operation) => `1B: ${operation}`),
  ]
  const sections = [...Map.groupBy(rows, ({ model }) => model).values()].flatMap((group) => [
    `## A Llama of ${group[0]!.parameters.toLocaleString('en-US')} parameters`,
    '',
    markdownTable(
      header,
      group.map(({ label, bitsPerParameter, rates, secondsAt1B }) => [
        ...[label, bitsPerParameter.toFixed(3)],
        ...operations.map((operation) => rateText(rates[operation])),
        ...operations.map((operation) => durationText(secondsAt1B[operation])),
      ]),
    ),
    '',
  ])
  return [
    '# Encoding, decoding and merging on one core',
    '',
    'MB of float32 parameters per second: the median, and in brackets the quartiles, of ' +
      `${repeats} repeats after one that compiles. Processor time of the process, garbage collection included. “1B” is what ` +
      `encoding one update of a billion parameters, decoding one and merging ${contributors} take at the median, in proportion.`,
    '',
    `Merging adds up ${contributors} updates of different rounds, clipped to the median of their norms, and takes the outer ` +
      'step; its rate counts the parameters once. An update that is decoded while it is merged takes no time to open. ' +
      'Streaming DiLoCo’s updates are of one fragment; their rates, too, count the parameters of the whole model.',
    '',
    ...sections,
    `Measured ${date} on ${machine}, at commit ${commit}.`,
    '',
  ].join('\n')
}

/** Beyond this there is nothing to time. */
const fastest = 100_000

function rateText({ lower, median, upper }: Quartiles): string {
  if (median > fastest) return `> ${fastest.toLocaleString('en-US')}`
  return `${median.toFixed(0)} (${lower.toFixed(0)}–${upper.toFixed(0)})`
}

/** The same few thousand normal values again and again: what matters is their distribution. */
function normals(count: number, ...seed: string[]): Float32Array {
  const random = seededRandom('bench', ...seed)
  const period = Float32Array.from({ length: 65_521 }, () => random.nextNormal() * 0.02)
  const values = new Float32Array(count)
  for (let start = 0; start < count; start += period.length) {
    values.set(period.subarray(0, Math.min(period.length, count - start)), start)
  }
  return values
}
