import { expect, test } from 'vitest'
import { joinPieces } from '../core/index.ts'
import {
  flatten,
  initialParameters,
  layoutOf,
  parametersOf,
  parseLlamaConfig,
  residentParameters,
  unflatten,
} from '../model/index.ts'
import { interpret } from '../tensor/index.ts'
import { buildApplyStep, initialTrainingState, optimiserSchema } from '../train/index.ts'
import { dataParallel } from './data-parallel.ts'
import type { MergeContext } from './method.ts'
import { runSyncMethodSuite } from './methods-suite.ts'
import { layoutOfShapes, normals } from './toy-swarm.ts'

const optimiser = optimiserSchema.parse({ beta2: 0.99, weightDecay: 0.01 })

runSyncMethodSuite({
  name: 'data parallelism, float32',
  make: () => dataParallel({ encoding: 'float32', optimiser }),
  learningRate: 0.02,
  orderTolerance: 1e-5,
})
runSyncMethodSuite({
  name: 'data parallelism, int8',
  make: () => dataParallel({ encoding: 'int8', optimiser }),
  learningRate: 0.02,
  orderTolerance: 1e-4,
})

test.each([
  { clipNorm: 1, decayNorms: false, decayEmbeddings: false },
  { clipNorm: 0, decayNorms: true, decayEmbeddings: true },
])('takes the steps of the training program: clipping to $clipNorm, decay of norms $decayNorms', (given) => {
  const config = parseLlamaConfig({
    model_type: 'llama',
    vocab_size: 11,
    hidden_size: 8,
    intermediate_size: 12,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    max_position_embeddings: 16,
    tie_word_embeddings: false,
  })
  const layout = layoutOf(config)
  const settings = { ...optimiser, ...given, weightDecay: 0.1 }
  const method = dataParallel({ encoding: 'float32', optimiser: settings })
  const start = initialParameters(config, 5)
  const program = buildApplyStep({ config, optimiser: settings })
  let state = method.createState(layout, flatten(start, layout))
  let resident: Record<string, { shape: readonly number[]; data: ArrayLike<number> }> = initialTrainingState(
    config,
    start,
    settings,
  )
  for (let step = 1; step <= 5; step++) {
    const learningRate = 0.01 * step
    const gradients = [0, 1, 2].map((peer) => normals(layout.totalSize, 0.5, 'gradient', step, peer))
    const mean = gradients[0]!.map(
      (value, i) => 0.5 * value + 0.25 * gradients[1]![i]! + 0.25 * gradients[2]![i]!,
    )
    const sums = Object.entries(residentParameters(config, unflatten(mean, layout))).map(
      ([name, tensor]) => [`gradients.${name}`, tensor] as const,
    )
    const scalar = (value: number) => ({ shape: [], data: Float32Array.of(value) })
    const { updates } = interpret(program, {
      state: { ...resident, ...Object.fromEntries(sums) },
      inputs: { learningRate: scalar(learningRate), step: scalar(step) },
    })
    resident = updates
    const context: MergeContext = {
      ...{ round: step, seed: '', learningRate, clipToMedianNorm: false, self: null },
    }
    const contributions = gradients.map((values, peer) => {
      const { bytes } = method.encodeUpdate({ state, local: null, round: step, values, learningRate }, layout)
      return { peer: `${peer}`, update: method.decodeUpdate(bytes, layout), weight: peer === 0 ? 2 : 1 }
    })
    state = method.merge(state, contributions, context)
  }
  const trained = Object.entries(resident).map(
    ([name, { shape, data }]) => [name, { dtype: 'float32', shape, data: Float32Array.from(data) }] as const,
  )
  const expected = flatten(parametersOf(config, Object.fromEntries(trained)), layout)
  const actual = method.parameters(state)
  for (let i = 0; i < actual.length; i++) expect(actual[i]).toBeCloseTo(expected[i]!, 5)
})

test('a checkpoint that would make the next step something else than a number is refused', () => {
  const layout = layoutOfShapes({ matrix: [2, 2] })
  const method = dataParallel({ encoding: 'float32', optimiser })
  const state = method.createState(layout, new Float32Array(4))
  const refused = (changes: Partial<typeof state>): void => {
    const bytes = joinPieces(method.serialiseState({ ...state, ...changes }))
    expect(() => method.parseState(bytes, layout)).toThrow(
      expect.objectContaining({ code: 'sync/invalid-state' }),
    )
  }
  refused({ secondMoment: Float32Array.of(0, 1, -1e-20, 0) })
  refused({ step: 2 ** 32 - 1 })
})
