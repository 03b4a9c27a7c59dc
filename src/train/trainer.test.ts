/**
 * The promise of resuming: stopping costs nothing. Everything runs on a tiny model, on the native CPU backend.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { memoryFiles, seededRandom, systemClock } from '../core/index.ts'
import { buildDataset, type Dataset, openDataset } from '../data/index.ts'
import {
  byteTokenizer,
  flatten,
  initialParameters,
  layoutOf,
  llamaConfig,
  type Parameters,
} from '../model/index.ts'
import { type Backend, openBackend } from '../runtime/index.ts'
import { Evaluator } from './evaluator.ts'
import { evaluateOn, localRun } from './local-run.ts'
import { defaultTrainingSettings, type TrainingSettings } from './settings.ts'
import { Trainer } from './trainer.ts'
import { loadTrainingState, saveTrainingState, trainingStateFile } from './training-state.ts'

const config = llamaConfig({
  vocabularySize: 256,
  hiddenSize: 16,
  intermediateSize: 24,
  layers: 2,
  attentionHeads: 4,
  keyValueHeads: 2,
})
const settings: TrainingSettings = {
  ...defaultTrainingSettings(),
  steps: 20,
  batchSize: 2,
  sequenceLength: 12,
  schedule: { ...defaultTrainingSettings().schedule, warmupSteps: 4 },
  evaluateEvery: 0,
  evaluationBatches: 3,
  checkpointEvery: 0,
}
const seed = 5

let backend: Backend
let dataset: Dataset
beforeAll(async () => {
  backend = await openBackend({ name: 'cpu', threads: 1 })
  const random = seededRandom('text')
  const words = ['swell', 'ground', 'wave', 'sea', 'shore', 'tide']
  const text = Array.from({ length: 900 }, () => words[random.nextInt(words.length)]).join(' ')
  const built = await buildDataset({
    documents: [{ path: 'words.txt', text }],
    tokenizer: byteTokenizer(),
    heldOutFraction: 0.1,
  })
  dataset = await openDataset(built.manifestBytes, (cid) => built.shards.get(cid))
})
afterAll(() => backend[Symbol.asyncDispose]())

const newTrainer = (over: Partial<TrainingSettings> = {}): Promise<Trainer> =>
  Trainer.create({
    backend,
    config,
    parameters: initialParameters(config, seed),
    settings: { ...settings, ...over },
  })

/** Trains up to a step, or to the end; gives the losses. */
async function advance(
  trainer: Trainer,
  until = settings.steps,
  gradientAccumulation = 1,
): Promise<number[]> {
  const stop = new AbortController()
  const losses: number[] = []
  const run = localRun({
    settings: { ...settings, gradientAccumulation },
    ...{ trainer, dataset, seed, replica: 0, replicas: 1 },
    clock: systemClock(),
    signal: stop.signal,
  })
  for await (const event of run) {
    if (event.kind !== 'step') continue
    losses.push(event.report.loss)
    if (event.report.step === until) stop.abort()
  }
  return losses
}

const bits = (parameters: Parameters): Uint8Array =>
  new Uint8Array(flatten(parameters, layoutOf(config)).buffer)

describe('resuming is exact', () => {
  test('20 steps are 10 steps, a save, a load into another trainer, and 10 steps, bit for bit', async () => {
    await using whole = await newTrainer()
    const wholeLosses = await advance(whole)

    const files = memoryFiles()
    await using first = await newTrainer()
    const firstLosses = await advance(first, 10)
    expect(first.steps).toBe(10)
    await saveTrainingState(files, 'run', {
      snapshot: await first.snapshot(),
      progress: {
        step: 10,
        seed,
        replica: 0,
        replicas: 1,
        data: 'cid',
        identity: { seed: '5' },
        tokensSeen: 240,
      },
    })

    await using second = await newTrainer()
    const loaded = await loadTrainingState(files, 'run')
    expect(loaded?.progress).toMatchObject({ step: 10, tokensSeen: 240 })
    await second.restore(loaded!.snapshot)
    const secondLosses = await advance(second)

    expect([...firstLosses, ...secondLosses]).toEqual(wholeLosses)
    expect(bits(await second.parameters())).toEqual(bits(await whole.parameters()))
    const [one, other] = [await whole.snapshot(), await second.snapshot()]
    expect(other).toEqual(one)
  })

  test('the same run twice gives the same bits', async () => {
    await using one = await newTrainer()
    await using other = await newTrainer()
    expect(await advance(one, 5)).toEqual(await advance(other, 5))
  })

  test('a state that was cut short, or is of another kind, is refused', async () => {
    const files = memoryFiles()
    expect(await loadTrainingState(files, 'run')).toBeUndefined()
    await using trainer = await newTrainer()
    await saveTrainingState(files, 'run', {
      snapshot: await trainer.snapshot(),
      progress: { step: 0, seed, replica: 0, replicas: 1, data: 'cid', identity: {}, tokensSeen: 0 },
    })
    const path = `run/${trainingStateFile}`
    const whole = await files.read(path)
    await files.write(path, [whole.subarray(0, whole.length - 100)])
    await expect(loadTrainingState(files, 'run')).rejects.toMatchObject({ code: 'safetensors/truncated' })
    const snapshot = await trainer.snapshot()
    await expect(trainer.restore({ step: 1, state: {} })).rejects.toMatchObject({
      code: 'train/state-mismatch',
    })
    const [name] = Object.keys(snapshot.state)
    const resized = { dtype: 'float32', shape: [1], data: new Float32Array(1) } as const
    await expect(
      trainer.restore({ step: 1, state: { ...snapshot.state, [name!]: resized } }),
    ).rejects.toMatchObject({ code: 'train/state-mismatch' })
  })
})

test('training lowers the validation loss, and an evaluator measures what the trainer does', async () => {
  await using trainer = await newTrainer({ optimiser: { ...settings.optimiser, learningRate: 1e-2 } })
  const before = await evaluateOn(trainer, dataset, settings)
  expect(before).toBeCloseTo(Math.log(256), 1)
  await advance(trainer)
  const after = await evaluateOn(trainer, dataset, settings)
  expect(after).toBeLessThan(before - 1)
  await using evaluator = await Evaluator.create({
    ...{ backend, config, parameters: await trainer.parameters() },
    ...{ batchSize: settings.batchSize, sequenceLength: settings.sequenceLength },
  })
  expect(await evaluateOn(evaluator, dataset, settings)).toBeCloseTo(after, 6)
})

describe('accumulated gradients', () => {
  const layout = layoutOf(config)
  const rows = (count: number): Int32Array => Int32Array.from(dataset.trainTokens.slice(0, count * 13))

  test.each([2, 3, 5])('%i accumulated batches are one batch of as many times the size', async (count) => {
    await using accumulated = await newTrainer({ gradientAccumulation: count })
    await using large = await newTrainer({ batchSize: 2 * count })
    const one = await accumulated.step(rows(2 * count))
    const other = await large.step(rows(2 * count))
    expect(one.loss).toBeCloseTo(other.loss, 5)
    expect(one.gradientNorm).toBeCloseTo(other.gradientNorm, 4)
    expect(one.tokens).toBe(other.tokens)
    const [a, b] = [
      flatten(await accumulated.parameters(), layout),
      flatten(await large.parameters(), layout),
    ]
    // Adam's first step is the sign of the gradient, so near-zero gradients may differ by up to twice the rate.
    const far = a.filter((value, i) => Math.abs(value - b[i]!) > 1e-5).length
    expect(far / a.length).toBeLessThan(0.01)
  })

  test.each([
    { clipNorm: 1, kind: 'clipped' },
    { clipNorm: 0, kind: 'not clipped' },
  ])('are not carried over to the next step, nor into a snapshot: $kind', async ({ clipNorm }) => {
    const over = { gradientAccumulation: 2, optimiser: { ...settings.optimiser, clipNorm } }
    await using whole = await newTrainer(over)
    const losses = await advance(whole, 6, 2)
    await using first = await newTrainer(over)
    const begun = await advance(first, 3, 2)
    const snapshot = await first.snapshot()
    await using plain = await newTrainer()
    expect(Object.keys(snapshot.state)).toEqual(Object.keys((await plain.snapshot()).state))
    await using second = await newTrainer(over)
    await advance(second, 1, 2)
    await second.restore(snapshot)
    expect([...begun, ...(await advance(second, 6, 2))]).toEqual(losses)
    expect(await second.snapshot()).toEqual(await whole.snapshot())
  })

  test('leave nothing behind when a step fails or diverges', async () => {
    await using trainer = await newTrainer({ gradientAccumulation: 2 })
    const start = await trainer.snapshot()
    const expected = await trainer.step(rows(4))
    const stepAgain = async (): Promise<void> => {
      await trainer.restore(start)
      expect(await trainer.step(rows(4))).toEqual(expected)
    }
    await expect(trainer.step(rows(3))).rejects.toMatchObject({ code: 'train/tokens' })
    await stepAgain()
    // The first batch goes into the sums before the second names a token that does not exist.
    const broken = rows(4)
    broken.fill(1e9, 2 * 13)
    await expect(trainer.step(broken)).rejects.toMatchObject({ code: 'runtime/run' })
    await stepAgain()
    const noNumbers = initialParameters(config, seed)
    noNumbers['model.norm.weight']!.data.fill(Number.NaN)
    await trainer.setParameters(noNumbers)
    await expect(trainer.step(rows(4))).rejects.toMatchObject({ code: 'train/diverged' })
    await stepAgain()
  })
})

test('a merge replaces the parameters and keeps the moments; the schedule can stand elsewhere than the steps', async () => {
  await using trainer = await newTrainer()
  await advance(trainer, 3)
  const merged = initialParameters(config, 99)
  const { state: before } = await trainer.snapshot()
  await trainer.setParameters(merged)
  expect(bits(await trainer.parameters())).toEqual(bits(merged))
  const { step, state: after } = await trainer.snapshot()
  expect(step).toBe(3)
  const kept = Object.keys(before).filter((name) =>
    before[name]!.data.every((x, i) => x === after[name]!.data[i]),
  )
  expect(kept.length).toBeGreaterThan(0)
  const tokens = Int32Array.from(dataset.trainTokens.slice(0, 2 * 13))
  expect((await trainer.step(tokens, { scheduleStep: 0 })).learningRate).toBeCloseTo(1e-3 / 4, 12)
})

test('a loss that is no number ends the run with a way out', async () => {
  await using trainer = await newTrainer()
  const broken = initialParameters(config, seed)
  broken['model.norm.weight']!.data.fill(Number.NaN)
  await trainer.setParameters(broken)
  await expect(trainer.step(Int32Array.from(dataset.trainTokens.slice(0, 26)))).rejects.toMatchObject({
    code: 'train/diverged',
  })
})
