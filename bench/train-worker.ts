/**
 * Our side of the training bench: a process of its own, so that its peak memory is its own. It is asked in lines on
 * stdin (`steps N`, `memory`, `peak`, `stop`) and answers each with one line of JSON.
 */
import { createInterface } from 'node:readline'
import { initialParameters } from '../src/model/index.ts'
import { type HostTensor, openBackend } from '../src/runtime/index.ts'
import { defineProgram, emitOnnx, matmul, parameter, type Tensor } from '../src/tensor/index.ts'
import { buildTrainStep, defaultTrainingSettings, initialTrainingState } from '../src/train/index.ts'
import { benchModels, productsOf } from './train-models.ts'

const [name = '', threads = '2'] = process.argv.slice(2)
const model = benchModels[name]!
const { config, batchSize, sequenceLength } = model
const backend = await openBackend({ name: 'cpu', threads: Number(threads) })

const started = performance.now()
const { optimiser } = defaultTrainingSettings()
const { dialect } = backend
const program = buildTrainStep({ config, batchSize, sequenceLength, optimiser, dialect })
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

/**
 * Speed of the step's own products alone, each weighed by its part of the work: one program that holds all products of
 * the forward pass and nothing else, every one with factors of its own.
 */
async function peak(runs = 7): Promise<number> {
  const values: Record<string, HostTensor> = {}
  const state: Record<string, Tensor> = {}
  const updates: Record<string, Tensor> = {}
  const resident = (key: string, shape: readonly number[]): Tensor => {
    const data = new Float32Array(shape.reduce((product, length) => product * length, 1)).fill(0.01)
    values[key] = { dtype: 'float32', shape, data }
    state[key] = parameter(key, shape)
    return state[key]
  }
  let flops = 0
  for (const [i, { m, k, n, count }] of productsOf(model).entries()) {
    for (let copy = 0; copy < count; copy++) {
      const key = `product ${i}.${copy}`
      resident(key, [m, n])
      updates[key] = matmul(resident(`left ${i}.${copy}`, [m, k]), resident(`right ${i}.${copy}`, [k, n]))
      flops += 2 * m * k * n
    }
  }
  const products = defineProgram({ name: 'products', inputs: {}, state, outputs: {}, updates })
  await using executable = await backend.compile(emitOnnx(products, { dialect }))
  await using factors = await backend.createState(values)
  const milliseconds: number[] = []
  for (let run = 0; run < runs; run++) {
    const start = performance.now()
    await executable.run(factors, {})
    milliseconds.push(performance.now() - start)
  }
  return flops / milliseconds.sort((a, b) => a - b)[Math.floor(runs / 2)]! / 1e6
}

const memory = (): object => ({ peakRssBytes: process.resourceUsage().maxRSS * 1024 })
const answer = (value: object): boolean => process.stdout.write(`${JSON.stringify(value)}\n`)
answer({ compileMs })
for await (const line of createInterface({ input: process.stdin })) {
  const [command, count] = line.split(' ')
  if (command === 'steps') {
    const milliseconds: number[] = []
    for (let i = 0; i < Number(count); i++) milliseconds.push(await timedStep())
    answer({ milliseconds, loss })
  } else if (command === 'memory') {
    answer(memory())
  } else if (command === 'peak') {
    answer({ gigaflops: await peak() })
  } else {
    break
  }
}
answer(memory())
process.exit(0)
