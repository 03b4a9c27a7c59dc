/**
 * The training step against PyTorch: loss and every gradient of small Llamas with grouped heads, and whole steps with
 * clipping, AdamW and its exclusions, as test/vectors/make-llama-training.py computed them in float64.
 */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  initialParameters,
  type LlamaConfig,
  llamaConfig,
  llamaLoss,
  llamaWeights,
  type Parameters,
  parameterSpecs,
  parametersOf,
  parseLlamaConfig,
  residentParameters,
} from '../model/index.ts'
import { type Backend, type HostTensor, openBackend, type Place } from '../runtime/index.ts'
import {
  type Dialect,
  defineProgram,
  emitOnnx,
  grad,
  interpret,
  type Program,
  parameter,
} from '../tensor/index.ts'
import { type GradientReport, GradientTrainer } from './gradient-trainer.ts'
import { defaultTrainingSettings } from './settings.ts'
import {
  type BatchOptions,
  buildApplyStep,
  buildGradientStep,
  emptyGradientSums,
  initialTrainingState,
} from './step.ts'
import { compileStep, stepPrograms } from './step-runner.ts'

interface Case {
  config: unknown
  parameters: Record<string, { shape: number[]; data: number[] }>
  gradients: {
    tokens: number[][]
    targets: number[][]
    loss: number
    gradients: Record<string, number[]>
  }[]
  training: {
    batches: number[][]
    losses: number[]
    gradientNorms: number[]
    parameters: Record<string, number[]>
  }
}
const vectors = JSON.parse(
  readFileSync(new URL('../../test/vectors/llama-training.json', import.meta.url), 'utf8'),
)
const cases = (['untied', 'tied'] as const).map((name) => ({ name, ...(vectors[name] as Case) }))

let backend: Backend
beforeAll(async () => {
  backend = await openBackend({ name: 'cpu', threads: 2 })
})
afterAll(() => backend[Symbol.asyncDispose]())

const read = (parameters: Case['parameters']): Parameters =>
  Object.fromEntries(
    Object.entries(parameters).map(([name, { shape, data }]) => [
      name,
      { shape, data: Float32Array.from(data) },
    ]),
  )
const tokensOf = (rows: number[][]): HostTensor => ({
  dtype: 'int32',
  shape: [rows.length, rows[0]!.length],
  data: Int32Array.from(rows.flat()),
})

/** ‖a − b‖ / ‖b‖ */
const relativeError = (found: ArrayLike<number>, expected: ArrayLike<number>): number => {
  expect(found).toHaveLength(expected.length)
  let [difference, whole] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    difference += (found[i]! - expected[i]!) ** 2
    whole += expected[i]! ** 2
  }
  return Math.sqrt(difference / whole)
}

type Run = (
  program: Program,
  state: Record<string, HostTensor>,
  inputs: Record<string, HostTensor>,
) => Promise<Record<string, HostTensor>>

const onCpu =
  (dialect: Dialect): Run =>
  async (program, state, inputs) => {
    await using executable = await backend.compile(emitOnnx(program, { dialect }))
    await using resident = await backend.createState(state)
    return executable.run(resident, inputs)
  }
const onInterpreter: Run = async (program, state, inputs) => {
  const { outputs } = interpret(program, { state, inputs })
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { shape, data }]) => [
      name,
      { dtype: 'float32', shape, data: Float32Array.from(data) },
    ]),
  )
}

describe.each(cases)(
  'a $name Llama with grouped heads',
  ({ config: json, parameters, gradients, training }) => {
    const config: LlamaConfig = parseLlamaConfig(json)

    describe.each([
      { place: 'the interpreter', run: onInterpreter, tolerance: 1e-5 },
      { place: 'the CPU', run: onCpu('cpu'), tolerance: 1e-5 },
      { place: 'the CPU with standard operators only', run: onCpu('portable'), tolerance: 1e-5 },
    ])('on $place', ({ run, tolerance }) => {
      test.each(gradients)(
        'has the loss and the gradients of PyTorch, targets left out included',
        async (expected) => {
          const weights = llamaWeights(config)
          const tokens = tokensOf(expected.tokens)
          const inputs = {
            tokens: parameter('tokens', tokens.shape, 'int32'),
            targets: parameter('targets', tokens.shape, 'int32'),
          }
          const loss = llamaLoss({ config, weights, ...inputs })
          const names = Object.keys(weights)
          const found = grad(
            loss,
            names.map((name) => weights[name]!),
          )
          const outputs = Object.fromEntries(found.map((gradient, i) => [`gradient ${names[i]}`, gradient]))
          const program = defineProgram({
            name: 'gradients',
            inputs,
            state: weights,
            outputs: { loss, ...outputs },
            updates: {},
          })
          const result = await run(program, residentParameters(config, read(parameters)), {
            tokens,
            targets: tokensOf(expected.targets),
          })
          expect(Math.abs(result.loss!.data[0]! / expected.loss - 1)).toBeLessThan(tolerance)
          const byName = parametersOf(
            config,
            Object.fromEntries(names.map((name) => [name, result[`gradient ${name}`]!])),
          )
          for (const { name, shape } of parameterSpecs(config)) {
            expect(byName[name]!.shape, name).toEqual(shape)
            expect(relativeError(byName[name]!.data, expected.gradients[name]!), name).toBeLessThan(tolerance)
          }
        },
      )
    })

    /** Runs the recorded batches, each split into `gradientAccumulation` parts. */
    const train = async (
      gradientAccumulation: number,
      dialect: Dialect,
    ): Promise<{ losses: number[]; norms: number[]; trained: Parameters }> => {
      await using step = await compileStep(
        { ...backend, dialect },
        {
          config,
          batchSize: 4 / gradientAccumulation,
          sequenceLength: 7,
          gradientAccumulation,
          optimiser: { ...defaultTrainingSettings().optimiser, ...vectors.optimiser },
        },
      )
      await using state = await backend.createState({
        ...initialTrainingState(config, read(parameters), { kind: 'adamw' }),
        ...step.scratch(),
      })
      const { learningRate } = vectors.optimiser
      const losses: number[] = []
      const norms: number[] = []
      for (const [i, batch] of training.batches.entries()) {
        const outcome = await step.run(state, { tokens: Int32Array.from(batch), learningRate, step: i + 1 })
        losses.push(outcome.loss)
        norms.push(outcome.gradientNorm)
      }
      return { losses, norms, trained: parametersOf(config, await state.read()) }
    }

    test.each([
      { accumulation: 1, dialect: 'cpu' as const },
      { accumulation: 1, dialect: 'portable' as const },
      { accumulation: 2, dialect: 'cpu' as const },
      { accumulation: 2, dialect: 'portable' as const },
      { accumulation: 4, dialect: 'cpu' as const },
    ])(
      'takes the steps of torch.optim.AdamW behind clip_grad_norm_: $dialect, a batch in $accumulation',
      async ({ accumulation, dialect }) => {
        const { losses, norms, trained } = await train(accumulation, dialect)
        expect(relativeError(losses, training.losses)).toBeLessThan(1e-5)
        expect(relativeError(norms, training.gradientNorms)).toBeLessThan(1e-4)
        for (const { name } of parameterSpecs(config)) {
          expect(relativeError(trained[name]!.data, training.parameters[name]!), name).toBeLessThan(1e-4)
        }
      },
    )
  },
)

describe('the programs of a step', () => {
  const emitted = (gradientAccumulation: number, clipNorm = 1) => {
    const optimiser = { ...defaultTrainingSettings().optimiser, clipNorm }
    const config = parseLlamaConfig(vectors.untied.config)
    const options = { config, batchSize: 2, sequenceLength: 7, gradientAccumulation, optimiser }
    return Object.entries(stepPrograms(options)).map(([name, program]) => {
      const { bytes, updatesInPlace } = emitOnnx(program, { dialect: 'portable' })
      return { name, size: bytes.byteLength, updatesInPlace }
    })
  }

  test('are one for one batch and two for several, no larger for thousands of batches than for two', () => {
    expect(emitted(1).map(({ name }) => name)).toEqual(['train-step'])
    const two = emitted(2)
    expect(two.map(({ name }) => name)).toEqual(['gradient-step', 'apply-step'])
    for (const count of [3, 64, 65_536]) expect(emitted(count)).toEqual(two)
  })

  test('keep a second copy of what they update only where nothing is clipped', () => {
    expect(emitted(2).map(({ updatesInPlace }) => updatesInPlace)).toEqual([true, true])
    expect(emitted(2, 0).map(({ updatesInPlace }) => updatesInPlace)).toEqual([true, undefined])
  })
})

describe('rows that collide in the cache are made longer for processors', () => {
  const narrow = { vocabularySize: 64, hiddenSize: 32, intermediateSize: 64, layers: 1, attentionHeads: 2 }
  const gradientOf = async (
    { config, batchSize, sequenceLength }: BatchOptions,
    place: Place,
  ): Promise<GradientReport> => {
    const settings = { batchSize, sequenceLength, gradientAccumulation: 1 }
    const parameters = initialParameters(config, 1)
    await using trainer = await GradientTrainer.create({
      backend: { ...backend, place },
      config,
      parameters,
      settings,
    })
    return await trainer.gradient(
      Int32Array.from({ length: batchSize * (sequenceLength + 1) }, (_, i) => (i * i + 3 * i) % 61),
    )
  }

  test.each([
    {
      what: 'of 1,024 tokens, as columns of the weights’ gradients',
      shape: {},
      batchSize: 8,
      sequenceLength: 128,
    },
    { what: 'of intermediate values', shape: { intermediateSize: 1024 }, batchSize: 2, sequenceLength: 24 },
    { what: 'of hidden values', shape: { hiddenSize: 1024 }, batchSize: 2, sequenceLength: 24 },
    {
      what: 'of everything',
      shape: { hiddenSize: 1024, intermediateSize: 1024 },
      batchSize: 32,
      sequenceLength: 32,
    },
  ])('$what: with the same loss and gradient', async ({ shape, batchSize, sequenceLength }) => {
    const options = { config: llamaConfig({ ...narrow, ...shape }), batchSize, sequenceLength }
    const [longer, plain] = [await gradientOf(options, 'processor'), await gradientOf(options, 'device')]
    expect(longer.loss).toBeCloseTo(plain.loss, 5)
    expect(relativeError(longer.gradient, plain.gradient)).toBeLessThan(1e-5)
    const program = (place?: Place) =>
      emitOnnx(buildGradientStep({ ...options, gradientAccumulation: 1, ...(place && { place }) }), {
        dialect: 'cpu',
      })
    expect(program('processor').bytes).not.toEqual(program().bytes)
    expect(program('processor').state).toEqual(program().state)
  })
})

test('moments of a token that does not come any more do not end among the denormals', async () => {
  const config = llamaConfig({
    ...{ vocabularySize: 4, hiddenSize: 2, intermediateSize: 2, layers: 1, attentionHeads: 1 },
  })
  const { optimiser } = defaultTrainingSettings()
  const [first, second] = ['moments.first', 'moments.second'].map(
    (kind) => `${kind}.model.embed_tokens.weight`,
  )
  await using executable = await backend.compile(
    emitOnnx(buildApplyStep({ config, optimiser }), { dialect: backend.dialect }),
  )
  const fading = Float32Array.of(0.1, -0.1, 1e-36, -1e-36, 1e-37, -1e-37, 1e-39, 0)
  const moment: HostTensor = { dtype: 'float32', shape: [4, 2], data: fading }
  const start = initialTrainingState(config, initialParameters(config, 1), optimiser)
  await using state = await backend.createState({
    ...{ ...start, ...emptyGradientSums(config) },
    ...{ [first!]: moment, [second!]: { ...moment, data: fading.map(Math.abs) } },
  })
  const scalar = (value: number): HostTensor => ({
    dtype: 'float32',
    shape: [],
    data: Float32Array.of(value),
  })
  for (let step = 1; step <= 60; step++) {
    await executable.run(state, { learningRate: scalar(1e-3), step: scalar(step) })
  }
  for (const name of [first!, second!]) {
    const { data } = (await state.read([name]))[name]!
    expect(data[0]).toBeGreaterThan(1e-5)
    for (const value of data.slice(2)) expect(value === 0 || Math.abs(value) >= 2 ** -126).toBe(true)
  }
})
