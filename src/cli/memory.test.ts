import { describe, expect, test } from 'vitest'
import type { BackendName } from '../runtime/index.ts'
import { checkHolding, checkTraining, machineMemory } from './memory.ts'
import { parseRunFile } from './run-file.ts'

const settings = (backend: string, optimiser = 'adamw') =>
  parseRunFile(
    `{ runtime: { backend: ${backend} }, training: { optimiser: { kind: ${optimiser} } } }`,
    'run.yaml',
  )
const never = (): Promise<BackendName> => Promise.reject(new Error('asked for nothing'))
const tooLarge = { code: 'model/too-large' }

test('the memory of this machine is a number that something fits in', () => {
  expect(machineMemory()).toBeGreaterThan(1e8)
  expect(machineMemory()).toBeLessThan(1e15)
})

describe('a model', () => {
  test('is refused where its parameters alone do not fit, with the numbers', () => {
    checkHolding(250e6, 1e9)
    expect(() => checkHolding(300e6, 1e9)).toThrow(
      'A model of 300M parameters needs 1.20 GB of memory (4 bytes each: the parameters alone), and this machine has 1.00 GB.',
    )
  })

  test('to train needs gradients and moments beside them', async () => {
    await checkTraining(62.5e6, settings('cpu'), never, 1e9)
    await expect(checkTraining(63e6, settings('cpu'), never, 1e9)).rejects.toMatchObject({
      ...tooLarge,
      message: expect.stringContaining('16 bytes each: parameters, gradients and two moments'),
    })
    await checkTraining(80e6, settings('wasm', 'muon'), never, 1e9)
    await expect(checkTraining(84e6, settings('wasm', 'muon'), never, 1e9)).rejects.toMatchObject(tooLarge)
  })

  test('may be larger where a graphics backend trains, unless its parameters cannot even be made', async () => {
    await checkTraining(200e6, settings('cuda'), never, 1e9)
    await checkTraining(200e6, settings('auto'), async () => 'webgpu', 1e9)
    await expect(checkTraining(200e6, settings('auto'), async () => 'cpu', 1e9)).rejects.toMatchObject(
      tooLarge,
    )
    await expect(checkTraining(300e6, settings('cuda'), never, 1e9)).rejects.toMatchObject(tooLarge)
  })
})
