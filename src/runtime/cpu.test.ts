import { describe, expect, test } from 'vitest'
import { add, defineProgram, emitOnnx, gather, type Program, parameter, sum } from '../tensor/index.ts'
import { backendOver } from './backend.ts'
import { runBackendSuite } from './backend-suite.ts'
import { type NativeEngine, nativeEngine } from './native-engine.ts'
import { loadNativeLibrary } from './native-library.ts'
import { nodeEngine } from './node-engine.ts'
import { openBackend } from './open.ts'
import type { Backend, Executable, HostTensor } from './types.ts'

const settings = { threads: 2, spin: false }

const library = await loadNativeLibrary()
describe.skipIf(library === undefined)('the cpu backend through the C interface (needs koffi)', () => {
  let engine: NativeEngine
  runBackendSuite({
    make: async () => {
      engine = nativeEngine(library!, settings)
      return backendOver(engine)
    },
    heldBytes: () => engine.heldBytes(),
  })

  test('disposal frees every tensor', async () => {
    const own = nativeEngine(library!, settings)
    const backend = backendOver(own)
    await backend.createState({ value: { dtype: 'float32', shape: [1000], data: new Float32Array(1000) } })
    expect(own.heldBytes()).toBe(4000)
    await backend[Symbol.asyncDispose]()
    expect(own.heldBytes()).toBe(0)
  })
})

// After the other: what ONNX Runtime sets up once in a process must be right whichever way it comes first.
describe('the cpu backend through the JavaScript interface', () => {
  runBackendSuite({ make: async () => backendOver(await nodeEngine('cpu', settings)) })
})

describe('state written over the values it replaces', () => {
  // Counts up, after it has read a row of its table: a row that is not there makes the run fail.
  const table = parameter('table', [4, 256])
  const ids = parameter('ids', [1], 'int32')
  const beside = defineProgram({
    name: 'counting',
    inputs: { ids },
    state: { table },
    outputs: {},
    updates: { table: add(table, sum(gather(table, ids))) },
  })
  const overwriting = defineProgram({ ...beside, updatesInPlace: true })
  const id = (value: number): Record<string, HostTensor> => ({
    ids: { dtype: 'int32', shape: [1], data: Int32Array.of(value) },
  })
  const initial: Record<string, HostTensor> = {
    table: { dtype: 'float32', shape: [4, 256], data: new Float32Array(1024).fill(0.5) },
  }
  const compile = (backend: Backend, program: Program): Promise<Executable> =>
    backend.compile(emitOnnx(program, { dialect: 'cpu' }))

  describe.skipIf(library === undefined)('through the C interface', () => {
    test.each([
      { kind: 'one copy', program: overwriting, copies: 1 },
      { kind: 'a second one without the promise', program: beside, copies: 2 },
    ])('needs memory for $kind', async ({ program, copies }) => {
      const engine = nativeEngine(library!, settings)
      await using backend = backendOver(engine)
      const executable = await compile(backend, program)
      const before = engine.heldBytes()
      await using state = await backend.createState(initial)
      for (let run = 0; run < 3; run++) await executable.run(state, id(run))
      expect(engine.heldBytes() - before).toBe(copies * 4096)
    })

    test('is lost when a run fails, refused from then on, and usable once it is written again', async () => {
      await using backend = backendOver(nativeEngine(library!, settings))
      const executable = await compile(backend, overwriting)
      const reader = await compile(backend, beside)
      const state = await backend.createState({ ...initial, other: initial.table! })
      await expect(executable.run(state, id(4))).rejects.toMatchObject({
        name: 'GroundswellError',
        code: 'runtime/run',
        message: expect.stringContaining('lost'),
        remedy: expect.stringContaining('checkpoint'),
      })
      for (const attempt of [
        () => executable.run(state, id(0)),
        () => reader.run(state, id(0)),
        () => state.read(),
      ]) {
        await expect(attempt()).rejects.toMatchObject({
          code: 'runtime/state-lost',
          message: expect.stringContaining('“counting”'),
        })
      }
      expect(await state.read(['other'])).toEqual({ other: initial.table })
      await state.write(initial)
      expect(await state.read(['table'])).toEqual(initial)
      await executable.run(state, id(0))
    })

    test('without the promise a failed run leaves it as it was', async () => {
      await using backend = backendOver(nativeEngine(library!, settings))
      const executable = await compile(backend, beside)
      const state = await backend.createState(initial)
      await expect(executable.run(state, id(4))).rejects.toMatchObject({ code: 'runtime/run' })
      expect(await state.read()).toEqual(initial)
    })
  })

  test('an engine that ignores the promise loses nothing', async () => {
    await using backend = backendOver(await nodeEngine('cpu', settings))
    const executable = await compile(backend, overwriting)
    const state = await backend.createState(initial)
    await expect(executable.run(state, id(4))).rejects.toMatchObject({ code: 'runtime/run' })
    expect(await state.read()).toEqual(initial)
  })
})

describe('opening by name', () => {
  test('counts threads', async () => {
    await using backend = await openBackend({ name: 'cpu', threads: 1 })
    expect(backend).toMatchObject({ name: 'cpu', threads: 1, dialect: 'cpu' })
    await expect(openBackend({ name: 'cpu', threads: 0 })).rejects.toMatchObject({ code: 'runtime/threads' })
  })
})
