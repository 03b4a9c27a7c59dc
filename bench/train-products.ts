/**
 * The yardstick of the training bench, in a process of its own: all matrix products of a step's forward pass, every one with
 * factors of its own, and nothing else. Rows that collide in the cache are longer here as they are in the step (model/row-strides.ts), and
 * the added columns do not count as work. Asked and answering as train-worker.ts.
 */
import { createInterface } from 'node:readline'
import { spareColumns } from '../src/model/index.ts'
import { type HostTensor, openBackend } from '../src/runtime/index.ts'
import { defineProgram, emitOnnx, matmul, parameter, type Tensor } from '../src/tensor/index.ts'
import { benchModels, productsOf } from './train-models.ts'

const [name = '', threads = '2'] = process.argv.slice(2)
const backend = await openBackend({ name: 'cpu', threads: Number(threads) })
const { dialect, place } = backend

const started = performance.now()
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
for (const [i, { m, k, n, count }] of productsOf(benchModels[name]!).entries()) {
  const inner = k + spareColumns(k, place)
  for (let copy = 0; copy < count; copy++) {
    const key = `product ${i}.${copy}`
    resident(key, [m, n])
    updates[key] = matmul(
      resident(`left ${i}.${copy}`, [m, inner]),
      resident(`right ${i}.${copy}`, [inner, n]),
    )
    flops += 2 * m * k * n
  }
}
const program = defineProgram({ name: 'products', inputs: {}, state, outputs: {}, updates })
const executable = await backend.compile(emitOnnx(program, { dialect }))
const factors = await backend.createState(values)

const answer = (value: object): boolean => process.stdout.write(`${JSON.stringify(value)}\n`)
answer({ compileMs: performance.now() - started, flops })
for await (const line of createInterface({ input: process.stdin })) {
  const [command, count] = line.split(' ')
  if (command !== 'steps') break
  const milliseconds: number[] = []
  for (let run = 0; run < Number(count); run++) {
    const start = performance.now()
    await executable.run(factors, {})
    milliseconds.push(performance.now() - start)
  }
  answer({ milliseconds })
}
answer({ peakRssBytes: process.resourceUsage().maxRSS * 1024 })
process.exit(0)
