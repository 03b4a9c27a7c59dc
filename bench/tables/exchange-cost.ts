/**
 * What one exchange costs by a method, on updates that come from training: a peer takes its inner steps from the merged
 * parameters, round after round, and its update is encoded, decoded and merged, alone and with those of earlier rounds,
 * which stand for its fellows'. Merges clip, as they do in every run.
 */
import { batchNumbered } from '../../src/data/index.ts'
import { flatten, initialParameters, layoutOf } from '../../src/model/index.ts'
import { llamaLearner } from '../../src/run/simulate/llama-learner.ts'
import type { Backend } from '../../src/runtime/index.ts'
import { createSyncMethod } from '../../src/sync/index.ts'
import { learningRateAt, scheduleOf, scheduleSchema } from '../../src/train/index.ts'
import { type Quartiles, quartiles } from './markdown.ts'
import { RecentUpdates } from './recent-updates.ts'
import type { MethodCase } from './settings.ts'
import { byteModel, type TextSource } from './training-cell.ts'
import type { ExchangeCost } from './utilisation-arithmetic.ts'

export interface ExchangeOptions {
  readonly backend: Backend
  readonly text: TextSource
  readonly model: string
  readonly batchSize: number
  readonly sequenceLength: number
  /** Three times as many for methods that exchange at every step. */
  readonly rounds: number
  /** Contributions of the merge that is compared with a merge of one; 16 where it does not say. */
  readonly contributions?: number
}

const usualContributions = 16

/** Medians over rounds, and the same at the lower and at the upper quartiles of all times. */
export interface MeasuredCost extends ExchangeCost {
  readonly lower: ExchangeCost
  readonly upper: ExchangeCost
}

/** Processor seconds of this process, so that a busy machine measures the same. */
const processorSeconds = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

export async function measureExchange(given: MethodCase, options: ExchangeOptions): Promise<MeasuredCost> {
  const { backend, text, batchSize, sequenceLength, contributions: many = usualContributions } = options
  if (many < 2) throw new RangeError(`A merge of ${many} cannot be compared with a merge of one.`)
  const method = createSyncMethod(given.sync)
  const { config } = byteModel(options.model)
  const layout = layoutOf(config)
  const parameters = initialParameters(config, 1)
  const dataset = await text.dataset(1)
  const inner = {
    ...{ steps: 1000, batchSize, sequenceLength, gradientAccumulation: 1, optimiser: given.optimiser },
    schedule: scheduleSchema.parse({ kind: 'constant', warmupSteps: 10 }),
  }
  const schedule = scheduleOf(inner)
  const engine = { backend, model: config, parameters, inner, dataset, evaluationBatches: 1 }
  await using learner = await llamaLearner(engine, method.quantity)
  let state = method.createState(layout, flatten(parameters, layout))
  let local = method.createLocal(layout)
  let own: Float32Array | undefined
  let step = 0
  const recent = new RecentUpdates<unknown>(many, given.sync)
  const seconds: Record<'encode' | 'decode' | 'one' | 'many', number[]> = {
    encode: [],
    decode: [],
    one: [],
    many: [],
  }
  const timed = <T>(what: keyof typeof seconds, run: () => T): T => {
    const start = processorSeconds()
    const result = run()
    seconds[what].push(processorSeconds() - start)
    return result
  }
  let sentBytes = 0
  // Where every step is a round, a few more of them.
  const rounds = method.innerSteps === 1 ? 3 * options.rounds : options.rounds
  for (let round = 1; round <= rounds; round++) {
    await learner.setParameters(method.startRound(state, local, own && { handedIn: own, now: own }))
    let values: Float32Array | undefined
    for (let i = 0; i < method.innerSteps; i++) {
      const batch = batchNumbered(dataset, { seed: 1, batch: step, batchSize, sequenceLength })
      if (method.quantity === 'gradient') values = (await learner.gradient(batch)).gradient
      else await learner.step(batch, { scheduleStep: step, rateScale: 1 })
      step++
    }
    values ??= await learner.parameters()
    if (method.quantity === 'parameters') own = values
    const learningRate = learningRateAt(schedule, step)
    const input = { state, local, round, values, learningRate }
    const encoded = timed('encode', () => method.encodeUpdate(input, layout))
    const update = timed('decode', () => method.decodeUpdate(encoded.bytes, layout))
    recent.add(round, update)
    const context = { round, seed: `${round}`, learningRate, clipToMedianNorm: true, self: null }
    const before = state
    const merge = (what: 'one' | 'many'): unknown => {
      const contributions = recent.contributions(round, what === 'one' ? 1 : many)
      return timed(what, () => method.merge(before, contributions, context))
    }
    // In turns, so that neither always finds the memory as the other left it.
    if (round % 2 === 0) merge('many')
    state = merge('one')
    if (round % 2 === 1) merge('many')
    local = encoded.local
    sentBytes += encoded.bytes.byteLength
  }
  const size = layout.totalSize
  // In the first half code is compiled, and there are few different updates to merge.
  const typical = (times: readonly number[]): readonly number[] =>
    times.slice(Math.floor(rounds / 2)).map((each) => each / size)
  const one = typical(seconds.one)
  // A time is never negative, which a difference of two small ones may be.
  const adds = typical(seconds.many).map((each, i) => Math.max(0, (each - one[i]!) / (many - 1)))
  const steps = one.map((each, i) => Math.max(0, each - adds[i]!))
  const times = {
    encode: typical(seconds.encode),
    decode: typical(seconds.decode),
    add: adds,
    outerStep: steps,
  }
  const at = (which: keyof Quartiles): ExchangeCost => ({
    bitsPerParameter: (8 * sentBytes) / rounds / size,
    encode: quartiles(times.encode)[which],
    decode: quartiles(times.decode)[which],
    add: quartiles(times.add)[which],
    outerStep: quartiles(times.outerStep)[which],
    stateBytesPerParameter: method.stateBytes(layout) / size,
  })
  return { ...at('median'), lower: at('lower'), upper: at('upper') }
}
