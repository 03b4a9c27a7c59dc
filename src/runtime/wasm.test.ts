import { describe, expect, test } from 'vitest'
import {
  add,
  defineProgram,
  div,
  emitOnnx,
  grad,
  logSoftmax,
  matmul,
  mean,
  mul,
  neg,
  parameter,
  silu,
  softmax,
  sqrt,
  sub,
  sum,
} from '../tensor/index.ts'
import { backendOver } from './backend.ts'
import { runBackendSuite } from './backend-suite.ts'
import { openBackend } from './open.ts'
import { type WasmEngine, wasmEngine } from './wasm-engine.ts'

describe('the wasm backend', () => {
  let engine: WasmEngine
  runBackendSuite({
    make: async () => {
      engine = await wasmEngine(1)
      return backendOver(engine)
    },
    heldBytes: () => engine.heldBytes(),
  })
})

describe('bits on the wasm backend', () => {
  const size = 192
  const x = parameter('x', [size, size])
  const w = parameter('w', [size, size])
  const moment = parameter('moment', [size, size])
  // Large enough that each of these operations is divided among the threads.
  const attended = matmul(softmax(matmul(x, x, { transposeB: true, alpha: 0.05 })), silu(matmul(x, w)))
  const loss = neg(mean(logSoftmax(add(attended, x))))
  const gradient = grad(loss, [w])[0]!
  const next = add(mul(moment, 0.9), mul(gradient, gradient))
  const training = emitOnnx(
    defineProgram({
      name: 'training',
      inputs: { x },
      state: { w, moment },
      outputs: { loss, norm: sum(mul(gradient, gradient)) },
      updates: { w: sub(w, div(mul(gradient, 0.01), add(sqrt(next), 1e-8))), moment: next },
    }),
    { dialect: 'portable' },
  )
  const values = (scale: number): Float32Array =>
    Float32Array.from(
      { length: size * size },
      (_, i) => scale * Math.fround(((i * 7919) % 1009) / 1009 - 0.5),
    )

  const bitsAfterTraining = async (threads: number): Promise<Record<string, Uint8Array>> => {
    await using backend = await openBackend({ name: 'wasm', threads })
    await using executable = await backend.compile(training)
    const tensor = (data: Float32Array) => ({ dtype: 'float32' as const, shape: [size, size], data })
    await using state = await backend.createState({
      w: tensor(values(0.1)),
      moment: tensor(new Float32Array(size * size)),
    })
    let outputs = await executable.run(state, { x: tensor(values(1)) })
    for (let run = 0; run < 5; run++) outputs = await executable.run(state, { x: tensor(values(1)) })
    return Object.fromEntries(
      Object.entries({ ...outputs, ...(await state.read()) }).map(([name, { data }]) => [
        name,
        new Uint8Array(data.buffer).slice(),
      ]),
    )
  }

  test('are the same with one, two and three threads, side by side in one process', async () => {
    const one = await bitsAfterTraining(1)
    expect(new Float32Array(one.loss!.buffer)[0]).toBeGreaterThan(0)
    expect(await bitsAfterTraining(2)).toEqual(one)
    expect(await bitsAfterTraining(3)).toEqual(one)
  })
})
