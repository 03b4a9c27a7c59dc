import { describe, expect, test } from 'vitest'
import { countParameters, llamaConfig } from '../model/index.ts'
import type { BackendName } from '../runtime/index.ts'
import { syncSettingsSchema } from '../sync/index.ts'
import { optimiserSchema, scheduleSchema } from '../train/index.ts'
import { checkHolding, checkHosting, checkJoining, checkTraining, machineMemory } from './memory.ts'
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

describe('a run', () => {
  /** Of a model with 67.6 million parameters. */
  const runOf = (method: string, optimiser: 'adamw' | 'muon' = 'adamw') => ({
    model: llamaConfig({
      ...{ vocabularySize: 256, hiddenSize: 1024, intermediateSize: 4096, layers: 4, attentionHeads: 8 },
    }),
    sync: syncSettingsSchema.parse({ method }),
    inner: {
      ...{ steps: 1, batchSize: 1, sequenceLength: 8, gradientAccumulation: 1 },
      optimiser: optimiserSchema.parse({ kind: optimiser }),
      schedule: scheduleSchema.parse({}),
    },
  })

  test.each([
    ['diloco', 'adamw', 24],
    ['diloco', 'muon', 20],
    ['sparse-loco', 'adamw', 20],
    ['data-parallel', 'adamw', 20],
  ] as const)('of %s with %s is joined where %d bytes each are there', (method, optimiser, bytesEach) => {
    const run = runOf(method, optimiser)
    const parameters = countParameters(run.model)
    checkJoining(run, 'cpu', bytesEach * parameters + 100)
    expect(() => checkJoining(run, 'cpu', bytesEach * parameters - 1)).toThrow(
      expect.objectContaining({
        ...tooLarge,
        remedy: expect.stringContaining('Join from a machine with more memory'),
      }),
    )
  })

  test('is hosted where its first parameters and its merged state are', () => {
    const run = runOf('diloco')
    checkHosting(run, 12 * countParameters(run.model) + 100)
    expect(() => checkHosting(run, 8e8)).toThrow(
      'needs 812 MB of memory (4 bytes each: the parameters; 8 bytes each: the merged state of diloco/1)',
    )
  })

  test('says what of it needs how much', () => {
    expect(() => checkJoining(runOf('diloco'), 'wasm', 1e9)).toThrow(
      'A model of 67.6M parameters needs 1.62 GB of memory (16 bytes each: parameters, gradients and two moments; ' +
        '8 bytes each: the merged state of diloco/1), and this machine has 1.00 GB.',
    )
  })

  test('needs here only the merged state where a graphics backend trains', () => {
    checkJoining(runOf('diloco'), 'cuda', 1e9)
    expect(() => checkJoining(runOf('diloco'), 'webgpu', 5e8)).toThrow('(8 bytes each: the merged state')
  })
})
