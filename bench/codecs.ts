/**
 * What exchanging costs on one core: encoding, decoding and merging updates by every method and encoding. Rates are in
 * megabytes of float32 parameters per second, so that they say how long a model of so many bytes takes: at 400 MB/s a
 * model of a billion parameters takes ten seconds. Merging adds four updates; its rate counts the parameters once. Each
 * is the least processor time of some repeats, garbage collection included: what else the machine does has little part
 * in it. Opening an update that is decoded while it is merged takes no time to speak of.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { seededRandom } from '../src/core/index.ts'
import { type LlamaConfig, layoutOf, llamaConfig } from '../src/model/index.ts'
import {
  createSyncMethod,
  type SyncMethod,
  type SyncSettings,
  syncSettingsSchema,
  type TensorLayout,
} from '../src/sync/index.ts'

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

interface Figures {
  readonly model: string
  readonly parameters: number
  readonly method: string
  readonly settings: SyncSettings
  readonly bitsPerParameter: number
  /** MB of float32 parameters per second, by the fastest of the repeats. */
  readonly encode: number
  readonly decode: number
  readonly merge: number
}

export function runCodecsBench(args: readonly string[]): readonly Figures[] {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: 'string', multiple: true, default: Object.keys(models) },
      repeats: { type: 'string', default: '7' },
      out: { type: 'string', default: 'bench-codecs.json' },
    },
  })
  const figures: Figures[] = []
  for (const name of values.model) {
    const config = models[name]
    if (config === undefined) {
      throw new Error(`There is no model “${name}”; choose from ${Object.keys(models).join(', ')}.`)
    }
    const layout = layoutOf(config)
    process.stdout.write(
      `\n### ${name} (${layout.totalSize} parameters), one core, ${contributors} contributors\n\n` +
        '| method | bits per parameter | encode MB/s | decode MB/s | merge MB/s |\n| --- | --: | --: | --: | --: |\n',
    )
    for (const [method, given] of Object.entries(candidates)) {
      const settings = syncSettingsSchema.parse(given)
      const measured = measure(createSyncMethod(settings), layout, Number(values.repeats))
      figures.push({ model: name, parameters: layout.totalSize, method, settings, ...measured })
      process.stdout.write(
        `| ${method} | ${measured.bitsPerParameter.toFixed(3)} | ${[
          measured.encode,
          measured.decode,
          measured.merge,
        ]
          .map((rate) => rate.toFixed(0))
          .join(' | ')} |\n`,
      )
    }
  }
  writeFileSync(values.out, `${JSON.stringify({ contributors, figures }, null, 2)}\n`)
  process.stdout.write(`\nWritten to ${values.out}.\n`)
  return figures
}

function measure(
  method: SyncMethod,
  layout: TensorLayout,
  repeats: number,
): Pick<Figures, 'bitsPerParameter' | 'encode' | 'decode' | 'merge'> {
  const parameters = normals(layout.totalSize, 'parameters')
  const moved = normals(layout.totalSize, 'moved')
  const values =
    method.quantity === 'gradient' ? moved : parameters.map((value, i) => value + 0.01 * moved[i]!)
  let state = method.createState(layout, parameters)
  let local = method.createLocal(layout)
  const milliseconds = { encode: [] as number[], decode: [] as number[], merge: [] as number[] }
  const timed = <T>(what: keyof typeof milliseconds, run: () => T): T => {
    const start = process.cpuUsage()
    const result = run()
    const { user, system } = process.cpuUsage(start)
    milliseconds[what].push(Math.max(user + system, 1) / 1000)
    return result
  }
  let sentBytes = 0
  for (let round = 1; round <= repeats; round++) {
    const input = { state, local, round, values, learningRate: 1e-3 }
    const encoded = timed('encode', () => method.encodeUpdate(input, layout))
    const update = timed('decode', () => method.decodeUpdate(encoded.bytes, layout))
    const contributions = Array.from({ length: contributors }, (_, i) => ({
      ...{ peer: `${i}`, update, weight: 1 },
    }))
    const context = {
      ...{ round, seed: `${round}`, learningRate: 1e-3, clipToMedianNorm: false, self: null },
    }
    state = timed('merge', () => method.merge(state, contributions, context))
    local = encoded.local
    sentBytes += encoded.bytes.byteLength
  }
  const megabytes = (4 * layout.totalSize) / 1e6
  const rate = (times: number[]): number => megabytes / (Math.min(...times) / 1000)
  return {
    bitsPerParameter: (8 * sentBytes) / repeats / layout.totalSize,
    encode: rate(milliseconds.encode),
    decode: rate(milliseconds.decode),
    merge: rate(milliseconds.merge),
  }
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
