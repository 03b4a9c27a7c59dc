/**
 * Our side of the training bench: a process of its own, so that its peak memory is its own. It is asked in lines on
 * stdin (`steps N`, `stop`) and answers each with one line of JSON.
 */
import { createInterface } from 'node:readline'
import { initialParameters } from '../src/model/index.ts'
import { type HostTensor, openBackend } from '../src/runtime/index.ts'
import { emitOnnx } from '../src/tensor/index.ts'
import { buildTrainStep, defaultTrainingSettings, initialTrainingState } from '../src/train/index.ts'
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

let step = 0
let loss = Number.NaN
async function timedStep(): Promise<number> {
  const start = performance.now()
  const tokens = Int32Array.from({ length: batchSize * (sequenceLength + 1) }, () =>
    Math.floor(Math.random() * config.vocabularySize),
  )
  const outputs = await trainStep.run(state, {
    tokens: { dtype: 'int32', shape: [batchSize, sequenceLength + 1], data: tokens },
    learningRate: scalar(1e-3),
    step: scalar(++step),
  })
  loss = outputs.loss!.data[0]!
  return performance.now() - start
}

function scalar(value: number): HostTensor {
  return { dtype: 'float32', shape: [], data: Float32Array.of(value) }
}

const answer = (value: object): boolean => process.stdout.write(`${JSON.stringify(value)}\n`)
answer({ compileMs })
for await (const line of createInterface({ input: process.stdin })) {
  const [command, count] = line.split(' ')
  if (command === 'steps') {
    const milliseconds: number[] = []
    for (let i = 0; i < Number(count); i++) milliseconds.push(await timedStep())
    answer({ milliseconds, loss })
  } else {
    break
  }
}
answer({ peakRssBytes: process.resourceUsage().maxRSS * 1024 })
process.exit(0)
