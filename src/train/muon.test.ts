import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  embeddingName,
  initialParameters,
  layoutOf,
  llamaConfig,
  residentParameters,
} from '../model/index.ts'
import { openBackend } from '../runtime/index.ts'
import { defineProgram, interpret, parameter } from '../tensor/index.ts'
import { muonUpdate } from './muon.ts'
import { defaultTrainingSettings, optimiserSchema, scheduleSchema } from './settings.ts'
import { buildApplyStep, initialTrainingState } from './step.ts'
import { Trainer } from './trainer.ts'

interface Vectors {
  settings: { learningRate: number; weightDecay: number; muonMomentum: number }
  cases: {
    rows: number
    columns: number
    start: number[]
    gradients: number[][]
    parametersAfter: number[][]
  }[]
}
const vectors: Vectors = JSON.parse(
  readFileSync(new URL('../../test/vectors/muon.json', import.meta.url), 'utf8'),
)

describe('Muon', () => {
  test.each(vectors.cases)(
    'takes the steps of the reference on a matrix of $rows × $columns',
    ({ rows, columns, start, gradients, parametersAfter }) => {
      const shape = [rows, columns]
      const { weightDecay, muonMomentum, learningRate } = vectors.settings
      const inputs = { gradient: parameter('gradient', shape), learningRate: parameter('learningRate', []) }
      const state = { matrix: parameter('matrix', shape), momentum: parameter('momentum', shape) }
      const next = muonUpdate({
        ...{ parameter: state.matrix, momentum: state.momentum, ...inputs },
        ...{ weightDecay, decay: muonMomentum },
      })
      const program = defineProgram({
        name: 'muon',
        inputs,
        state,
        outputs: {},
        updates: { matrix: next.parameter, momentum: next.momentum },
      })
      const value = (data: ArrayLike<number>) => ({ shape, data: Float32Array.from(data) })
      let held: Record<string, { shape: readonly number[]; data: ArrayLike<number> }> = {
        matrix: value(start),
        momentum: value(new Float32Array(rows * columns)),
      }
      parametersAfter.forEach((expected, i) => {
        held = interpret(program, {
          state: held,
          inputs: {
            gradient: value(gradients[i]!),
            learningRate: { shape: [], data: Float32Array.of(learningRate) },
          },
        }).updates
        for (let at = 0; at < expected.length; at++) {
          expect(held.matrix!.data[at]).toBeCloseTo(expected[at]!, 5)
        }
      })
    },
  )

  const config = llamaConfig({
    vocabularySize: 40,
    hiddenSize: 16,
    intermediateSize: 24,
    layers: 2,
    attentionHeads: 2,
    tieWordEmbeddings: false,
  })
  const optimiser = optimiserSchema.parse({ kind: 'muon', learningRate: 0.01 })

  test('has the hidden matrices, which need no second moment; AdamW has embedding, output and norms', () => {
    const state = initialTrainingState(config, initialParameters(config, 1), optimiser)
    expect(Object.keys(buildApplyStep({ config, optimiser }).state)).toEqual(
      expect.arrayContaining(Object.keys(state)),
    )
    const second = Object.keys(state).filter((name) => name.startsWith('moments.second.'))
    expect(second).toContain(`moments.second.${embeddingName}`)
    expect(second).toContain('moments.second.lm_head.weight')
    for (const { name, shape } of layoutOf(config).entries) {
      if (shape.length === 1) expect(second).toContain(`moments.second.${name}`)
    }
    const resident = Object.keys(residentParameters(config, initialParameters(config, 1)))
    expect(second.length).toBeLessThan(resident.length)
    expect(Object.keys(state).filter((name) => name.startsWith('moments.first.'))).toHaveLength(
      resident.length,
    )
  })

  test.each([1, 2])(
    'trains on ONNX Runtime, a batch in %d, and resumes bit for bit',
    async (accumulation) => {
      await using backend = await openBackend({ name: 'cpu', threads: 1 })
      const settings = {
        ...defaultTrainingSettings(),
        ...{ steps: 40, batchSize: 4 / accumulation, sequenceLength: 8, gradientAccumulation: accumulation },
        optimiser,
        schedule: scheduleSchema.parse({ kind: 'constant', warmupSteps: 0 }),
      }
      const create = (): Promise<Trainer> =>
        Trainer.create({ backend, config, parameters: initialParameters(config, 1), settings })
      const tokens = Int32Array.from({ length: 4 * 9 }, (_, i) => (i * 7) % 40)
      await using trainer = await create()
      const first = await trainer.step(tokens)
      for (let step = 0; step < 15; step++) await trainer.step(tokens)
      const snapshot = await trainer.snapshot()
      const last = await trainer.step(tokens)
      expect(last.loss).toBeLessThan(first.loss / 2)
      await using resumed = await create()
      await resumed.restore(snapshot)
      expect((await resumed.step(tokens)).loss).toBe(last.loss)
      // Without its moments and where it began, it does what it did.
      await resumed.resetOptimiser()
      await resumed.setParameters(initialParameters(config, 1))
      expect((await resumed.step(tokens)).loss).toBe(first.loss)
    },
  )
})
