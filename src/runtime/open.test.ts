import { describe, expect, test } from 'vitest'
import { backendOver } from './backend.ts'
import { openBackend } from './open.ts'
import { probeBackends } from './probe.ts'
import { selfTest } from './self-test.ts'
import { maxThreads } from './types.ts'
import { wasmEngine } from './wasm-engine.ts'

describe('auto', () => {
  test('opens a backend that passes its self-test', async () => {
    await using backend = await openBackend({
      name: 'auto',
      threads: 1,
      probe: async (name) => ({ name, available: false, reason: 'not asked', detail: '' }),
    })
    expect(backend.name).toBe('cpu')
  })

  test('leaves a graphics backend alone that did not pass elsewhere, or that was slower there', async () => {
    const asked: string[] = []
    await using backend = await openBackend({
      name: 'auto',
      threads: 1,
      probe: async (name) => {
        asked.push(name)
        return { name, available: true, detail: '', selfTestMs: 1e6 }
      },
    })
    expect(backend.name).toBe('cpu')
    expect(asked).toEqual(['cuda', 'webgpu'])
  })
})

test('threads are as many as a run file may ask for, and no more', async () => {
  await using backend = await openBackend({ name: 'cpu', threads: maxThreads })
  expect(backend.threads).toBe(maxThreads)
  await expect(openBackend({ name: 'cpu', threads: maxThreads + 1 })).rejects.toMatchObject({
    code: 'runtime/threads',
  })
})

describe('a backend that is named', () => {
  test('and does not work is refused with the reason and the way out of its report', async () => {
    const report = { available: false, reason: 'No adapter.', detail: 'Install the driver' }
    for (const name of ['cuda', 'webgpu'] as const) {
      const opened = openBackend({ name, threads: 1, probe: async () => ({ name, ...report }) })
      await expect(opened).rejects.toMatchObject({
        code: 'runtime/unavailable',
        message: `The ${name} backend does not work here: No adapter.`,
        remedy: 'Install the driver. Or choose “auto”, which takes what works.',
      })
    }
  })

  test('is not tested elsewhere where nothing can break', async () => {
    await using backend = await openBackend({
      ...{ name: 'cpu', threads: 1 },
      probe: () => Promise.reject(new Error('asked')),
    })
    expect(backend.name).toBe('cpu')
  })
})

describe('the self-test', () => {
  test('refuses a backend that computes wrongly', async () => {
    const engine = await wasmEngine(1)
    const wrong = backendOver({
      ...engine,
      // A driver that loses the last number of everything it is given.
      upload: (value) =>
        engine.upload({ ...value, data: value.data.map((v, i, all) => (i === all.length - 1 ? 0 : v)) }),
    })
    await expect(selfTest(wrong)).rejects.toMatchObject({ code: 'runtime/self-test' })
  })
})

describe('the report for doctor', () => {
  test('names every backend asked for, with a reason and a way out where one is missing', async () => {
    const [cpu, cuda] = await probeBackends({ names: ['cpu', 'cuda'], threads: 1 })
    expect(cpu).toMatchObject({ name: 'cpu', available: true, detail: '1 thread' })
    expect(cuda!.name).toBe('cuda')
    if (!cuda!.available) {
      expect(cuda!.reason).not.toContain('\n')
      expect(cuda!.detail).toContain('ONNXRUNTIME_NODE_INSTALL')
    }
  })
})
