/**
 * The yardstick of the training bench, in a process of its own: all matrix products of a step's forward pass, every one with
 * factors of its own, and nothing else. Rows that collide in the cache are longer here as they are in the step (model/row-strides.ts), and
 * the added columns do not count as work.
 */
import { spareColumns } from '../src/model/index.ts'
import { type HostTensor, openBackend } from '../src/runtime/index.ts'
import { defineProgram, emitOnnx, matmul, parameter, type Tensor } from '../src/tensor/index.ts'
import { contend } from './train-contender.ts'
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

await contend({ compileMs: performance.now() - started, flops }, () => executable.run(factors, {}))
