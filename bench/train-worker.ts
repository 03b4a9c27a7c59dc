/** Our side of the training bench: a process of its own, so that its peak memory is its own. */
import { initialParameters } from '../src/model/index.ts'
import { type HostTensor, openBackend } from '../src/runtime/index.ts'
import { emitOnnx } from '../src/tensor/index.ts'
import { buildTrainStep, defaultTrainingSettings, initialTrainingState } from '../src/train/index.ts'
import { contend } from './train-contender.ts'
import { benchModels } from './train-models.ts'

const [name = '', threads = '2'] = process.argv.slice(2)
const model = benchModels[name]!
const { config, batchSize, sequenceLength } = model
const backend = await openBackend({ name: 'cpu', threads: Number(threads) })

const started = performance.now()
const { optimiser } = defaultTrainingSettings()
const { dialect, place } = backend
const program = buildTrainStep({ config, batchSize, sequenceLength, optimiser, place })
const trainStep = await backend.compile(emitOnnx(program, { dialect }))
const compileMs = performance.now() - started
const state = await backend.createState(initialTrainingState(config, initialParameters(config, 1), optimiser))

let steps = 0
const scalar = (value: number): HostTensor => ({ dtype: 'float32', shape: [], data: Float32Array.of(value) })
await contend({ compileMs }, () => {
  const tokens = Int32Array.from({ length: batchSize * (sequenceLength + 1) }, () =>
    Math.floor(Math.random() * config.vocabularySize),
  )
  return trainStep.run(state, {
    tokens: { dtype: 'int32', shape: [batchSize, sequenceLength + 1], data: tokens },
    learningRate: scalar(1e-3),
    step: scalar(++steps),
  })
})
