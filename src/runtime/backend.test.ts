/** What a state is after the engine below it has failed, with an engine that fails when it is told to. */
import { describe, expect, test } from 'vitest'
import { backendOver } from './backend.ts'
import type { Engine } from './engine.ts'
import type { Backend, HostTensor } from './types.ts'

interface FailingEngine {
  readonly backend: Backend
  /** Buffers that were uploaded and not released. */
  readonly live: () => number
  /** Makes the `count`-th upload from now on fail, and none other. */
  readonly failAt: (count: number) => void
}

function failingEngine(): FailingEngine {
  const live = new Set<{ value: HostTensor }>()
  let left = 0
  const engine: Engine<{ value: HostTensor }> = {
    ...{ name: 'cpu', dialect: 'cpu', threads: 1, writesWhereTold: true, overwritesState: true },
    upload: async (value) => {
      if (--left === 0) throw new Error('memory is full')
      const buffer = { value }
      live.add(buffer)
      return buffer
    },
    download: async ({ value }) => value,
    release: (buffer) => {
      if (!live.delete(buffer)) throw new Error('released twice')
    },
    load: () => Promise.reject(new Error('nothing is run here')),
    close: async () => undefined,
  }
  return {
    backend: backendOver(engine),
    live: () => live.size,
    failAt: (count) => {
      left = count
    },
  }
}

const tensor = (...data: number[]): HostTensor => ({
  dtype: 'float32',
  shape: [data.length],
  data: Float32Array.from(data),
})
const old = { a: tensor(1), b: tensor(2), c: tensor(3) }

test.each([1, 2, 3])('a state that cannot be made whole leaves nothing behind: tensor %i', async (count) => {
  const { backend, live, failAt } = failingEngine()
  failAt(count)
  await expect(backend.createState(old)).rejects.toThrow('memory is full')
  expect(live()).toBe(0)
  await using state = await backend.createState(old)
  expect(await state.read()).toEqual(old)
})

describe.each([1, 2])('a write that fails at its tensor %i', (count) => {
  const written = { a: tensor(10), b: tensor(20) }

  test('loses what it was to replace, and nothing else, until it is written again', async () => {
    const { backend, failAt } = failingEngine()
    await using state = await backend.createState(old)
    failAt(count)
    await expect(state.write(written)).rejects.toThrow('memory is full')
    for (const name of ['a', 'b']) {
      await expect(state.read([name])).rejects.toMatchObject({
        code: 'runtime/state-lost',
        message: `Reading needs “${name}” of the state, which was lost when writing it failed.`,
      })
    }
    expect(await state.read(['c'])).toEqual({ c: old.c })
    await state.write({ a: written.a })
    expect(await state.read(['a', 'c'])).toEqual({ a: written.a, c: old.c })
    await expect(state.read()).rejects.toMatchObject({ code: 'runtime/state-lost' })
    await state.write(written)
    expect(await state.read()).toEqual({ ...old, ...written })
  })

  test('holds no more memory than before', async () => {
    const { backend, failAt, live } = failingEngine()
    const state = await backend.createState(old)
    failAt(count)
    await expect(state.write(written)).rejects.toThrow('memory is full')
    expect(live()).toBe(3)
    await state[Symbol.asyncDispose]()
    expect(live()).toBe(0)
  })
})
