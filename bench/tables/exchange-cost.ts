/**
 * What one exchange costs by a method, on updates that come from training: a peer takes its inner steps from the merged
 * parameters, round after round, and its update is encoded, decoded and merged, alone and with four fellows.
 */
import { batchNumbered } from '../../src/data/index.ts'
import { flatten, initialParameters, layoutOf } from '../../src/model/index.ts'
import { llamaLearner } from '../../src/run/simulate/llama-learner.ts'
import type { Backend } from '../../src/runtime/index.ts'
import { createSyncMethod } from '../../src/sync/index.ts'
import { learningRateAt, scheduleOf, scheduleSchema } from '../../src/train/index.ts'
import { median } from './markdown.ts'
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
}

const fellows = 4

/** Processor seconds of this process, so that a busy machine measures the same. */
const processorSeconds = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

export async function measureExchange(given: MethodCase, options: ExchangeOptions): Promise<ExchangeCost> {
  const { backend, text, batchSize, sequenceLength } = options
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
  const seconds: Record<'encode' | 'decode' | 'one' | 'five', number[]> = {
    encode: [],
    decode: [],
    one: [],
    five: [],
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
    const context = { round, seed: `${round}`, learningRate, clipToMedianNorm: false, self: null }
    const contributions = Array.from({ length: fellows + 1 }, (_, i) => ({ peer: `${i}`, update, weight: 1 }))
    const before = state
    timed('five', () => method.merge(before, contributions, context))
    state = timed('one', () => method.merge(before, contributions.slice(0, 1), context))
    local = encoded.local
    sentBytes += encoded.bytes.byteLength
  }
  const size = layout.totalSize
  // The first round compiles.
  const typical = (what: keyof typeof seconds): number =>
    median(seconds[what].slice(rounds > 1 ? 1 : 0)) / size
  const add = Math.max(0, (typical('five') - typical('one')) / fellows)
  return {
    bitsPerParameter: (8 * sentBytes) / rounds / size,
    ...{ encode: typical('encode'), decode: typical('decode'), add },
    outerStep: Math.max(0, typical('one') - add),
    stateBytesPerParameter: method.stateBytes(layout) / size,
  }
}
