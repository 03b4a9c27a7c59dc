/**
 * The training step side by side with PyTorch: the same models, shapes and number of threads, each contender in a
 * process of its own, taking turns of a few steps so that a noisy moment falls on all of them. `PYTORCH` in the
 * environment names a Python that has torch; without it only our own figures are printed.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { countParameters } from '../src/model/index.ts'
import { type BenchModel, benchModels, flopsPerStep, tokensPerStep } from './train-models.ts'

interface Figures {
  readonly contender: string
  readonly medianMs: number
  /** First and third quartile of the steps. */
  readonly quartilesMs: readonly [number, number]
  readonly tokensPerSecond: number
  readonly gigaflops: number
  readonly peakRssBytes: number
  /** Ours: building, differentiating and loading the program. PyTorch: its first step. */
  readonly compileMs: number
}

interface ModelResult {
  readonly model: string
  readonly parameters: number
  readonly tokensPerStep: number
  readonly figures: readonly Figures[]
  /** Of ONNX Runtime, for the products of this step alone. */
  readonly sgemmGigaflops: number
  readonly shareOfSgemm: number
  /** Tokens/s against the better PyTorch, from the medians of neighbouring turns. */
  readonly ratioToPyTorch: number | null
}

/** A process that is asked in lines and answers in lines of JSON. */
class Contender {
  readonly name: string
  readonly milliseconds: number[] = []
  /** Median of each turn. */
  readonly turns: number[] = []
  private readonly child: ChildProcess
  private readonly lines: AsyncIterator<string>

  constructor(name: string, command: string, args: readonly string[]) {
    this.name = name
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]()
  }

  async next(): Promise<Record<string, unknown>> {
    const { done, value } = await this.lines.next()
    if (done) throw new Error(`${this.name} ended before it answered`)
    return JSON.parse(value)
  }

  ask(line: string): Promise<Record<string, unknown>> {
    this.child.stdin!.write(`${line}\n`)
    return this.next()
  }

  async steps(count: number, measured: boolean): Promise<void> {
    const milliseconds = (await this.ask(`steps ${count}`)).milliseconds as number[]
    if (!measured) return
    this.milliseconds.push(...milliseconds)
    this.turns.push(quantile(milliseconds, 0.5))
  }

  async stop(): Promise<number> {
    const { peakRssBytes } = await this.ask('stop')
    if (this.child.exitCode === null) await once(this.child, 'exit')
    return peakRssBytes as number
  }
}

export async function runTrainBench(args: readonly string[]): Promise<readonly ModelResult[]> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: 'string', multiple: true, default: Object.keys(benchModels) },
      rounds: { type: 'string', default: '6' },
      steps: { type: 'string', default: '4' },
      threads: { type: 'string', default: '2' },
      out: { type: 'string', default: 'bench-train.json' },
    },
  })
  const python = process.env.PYTORCH
  if (python === undefined) {
    process.stdout.write(
      'PYTORCH is not set: no comparison. Let it name a Python interpreter that has torch.\n',
    )
  }
  const results: ModelResult[] = []
  for (const name of values.model) {
    const model = benchModels[name]
    if (model === undefined) {
      throw new Error(`There is no model “${name}”; choose from ${Object.keys(benchModels).join(', ')}.`)
    }
    const settings = {
      rounds: Number(values.rounds),
      steps: Number(values.steps),
      threads: Number(values.threads),
    }
    results.push(await measure(name, model, python, settings))
    print(results.at(-1)!)
  }
  writeFileSync(values.out, `${JSON.stringify({ threads: Number(values.threads), results }, null, 2)}\n`)
  process.stdout.write(`Written to ${values.out}.\n`)
  return results
}

interface Settings {
  readonly rounds: number
  readonly steps: number
  readonly threads: number
}

async function measure(
  name: string,
  model: BenchModel,
  python: string | undefined,
  { rounds, steps, threads }: Settings,
): Promise<ModelResult> {
  const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url))
  const { config, batchSize, sequenceLength } = model
  const shape = JSON.stringify({ ...config, batchSize, sequenceLength })
  const pytorch = (mode: string): Contender =>
    new Contender(`PyTorch ${mode}`, python!, [here('train-pytorch.py'), shape, mode, `${threads}`])
  const own = (title: string, file: string): Contender =>
    new Contender(title, process.execPath, [here(file), name, `${threads}`])
  const start: (() => Contender)[] = [
    () => own('Groundswell', 'train-worker.ts'),
    ...(python === undefined ? [] : [() => pytorch('eager'), () => pytorch('compile')]),
  ]
  const contenders: Contender[] = []
  const compileMs: number[] = []
  for (const begin of start) {
    const contender = begin()
    compileMs.push((await contender.next()).compileMs as number)
    contenders.push(contender)
  }
  const ours = contenders[0]!
  const products = own('products', 'train-products.ts')
  const productFlops = (await products.next()).flops as number
  const all = [...contenders, products]
  for (const contender of all) await contender.steps(3, false)
  for (let round = 0; round < rounds; round++) {
    for (const contender of round % 2 === 0 ? all : all.toReversed()) await contender.steps(steps, true)
  }
  const stopped: number[] = []
  for (const contender of contenders) stopped.push(await contender.stop())
  await products.stop()

  const flops = flopsPerStep(model)
  const figures = contenders.map((contender, i): Figures => {
    const medianMs = quantile(contender.milliseconds, 0.5)
    return {
      contender: contender.name,
      medianMs,
      quartilesMs: [quantile(contender.milliseconds, 0.25), quantile(contender.milliseconds, 0.75)],
      tokensPerSecond: (tokensPerStep(model) / medianMs) * 1000,
      gigaflops: flops / medianMs / 1e6,
      peakRssBytes: stopped[i]!,
      compileMs: compileMs[i]!,
    }
  })
  /** From neighbouring turns, so that a noisy moment falls on both. */
  const medianRatio = (one: Contender, other: Contender): number =>
    quantile(
      one.turns.map((ms, turn) => ms / other.turns[turn]!),
      0.5,
    )
  const ratios = contenders.slice(1).map((other) => medianRatio(other, ours))
  return {
    model: name,
    parameters: countParameters(config),
    tokensPerStep: tokensPerStep(model),
    figures,
    sgemmGigaflops: productFlops / quantile(products.milliseconds, 0.5) / 1e6,
    shareOfSgemm: (medianRatio(products, ours) * flops) / productFlops,
    ratioToPyTorch: ratios.length === 0 ? null : Math.min(...ratios),
  }
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!
}

function print(result: ModelResult): void {
  const rows = [
    ['', 'tokens/s', 'step ms (quartiles)', 'GFLOP/s', 'peak MB', 'compile ms'],
    ['---', '---', '---', '---', '---', '---'],
    ...result.figures.map((each) => [
      each.contender,
      each.tokensPerSecond.toFixed(0),
      `${each.medianMs.toFixed(0)} (${each.quartilesMs.map((ms) => ms.toFixed(0)).join('-')})`,
      each.gigaflops.toFixed(0),
      (each.peakRssBytes / 2 ** 20).toFixed(0),
      each.compileMs.toFixed(0),
    ]),
  ]
  const { model, parameters, tokensPerStep: tokens, sgemmGigaflops, shareOfSgemm, ratioToPyTorch } = result
  process.stdout.write(
    `\nLlama ${model} (${parameters} parameters), ${tokens} tokens a step\n` +
      `${rows.map((row) => `| ${row.join(' | ')} |`).join('\n')}\n` +
      `Matrix products of the step alone: ${sgemmGigaflops.toFixed(0)} GFLOP/s; the step reaches ${(100 * shareOfSgemm).toFixed(0)} % of it (target 80 %).\n` +
      (ratioToPyTorch === null
        ? ''
        : `Against the better PyTorch: ${ratioToPyTorch.toFixed(2)} (target 1.10).\n`),
  )
}
