import { describe, expect, test } from 'vitest'
import { backendOver } from './backend.ts'
import { runBackendSuite } from './backend-suite.ts'
import { type NativeEngine, nativeEngine } from './native-engine.ts'
import { loadNativeLibrary } from './native-library.ts'
import { nodeEngine } from './node-engine.ts'
import { openBackend } from './open.ts'

const settings = { threads: 2, spin: false }

describe('the cpu backend through the JavaScript interface', () => {
  runBackendSuite({ make: async () => backendOver(await nodeEngine('cpu', settings)) })
})

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

describe('opening by name', () => {
  test('counts threads', async () => {
    await using backend = await openBackend({ name: 'cpu', threads: 1 })
    expect(backend).toMatchObject({ name: 'cpu', threads: 1, dialect: 'cpu' })
    await expect(openBackend({ name: 'cpu', threads: 0 })).rejects.toMatchObject({ code: 'runtime/threads' })
  })
})
