/**
 * One training run on every backend: the same losses within a stated tolerance, and on WASM the same bits whatever
 * the number of threads. This is what lets a peer on one machine check the work of a peer on another.
 */
import { afterAll, describe, expect, test } from 'vitest'
import { seededRandom } from '../src/core/index.ts'
import { initialParameters, llamaConfig } from '../src/model/index.ts'
import { openBackend, probeBackends } from '../src/runtime/index.ts'
import { Trainer, trainingSchema } from '../src/train/index.ts'
import { useSoftwareAdapter } from './software-adapter.ts'

const config = llamaConfig({
  ...{ vocabularySize: 256, hiddenSize: 64, intermediateSize: 172, layers: 2 },
  ...{ attentionHeads: 4, keyValueHeads: 2, maxPositionEmbeddings: 32 },
})
const settings = trainingSchema.parse({
  steps: 10,
  batchSize: 4,
  sequenceLength: 32,
  schedule: { warmupSteps: 2 },
})
const parameters = initialParameters(config, 3)

const random = seededRandom('backends agree')
const batches = Array.from({ length: settings.steps }, () =>
  Int32Array.from({ length: 4 * 33 }, (_, i) => (i % 3 === 0 ? 32 : random.nextInt(256))),
)

useSoftwareAdapter()
const [webgpu] = await probeBackends({ names: ['webgpu'] })

const runs = new Map<string, Promise<number[]>>()
afterAll(() => runs.clear())

/** Loss and gradient norm of each of the ten steps. */
function run(name: 'cpu' | 'wasm' | 'webgpu', threads: number): Promise<number[]> {
  const key = `${name}/${threads}`
  const known = runs.get(key)
  if (known !== undefined) return known
  const started = (async () => {
    await using backend = await openBackend({ name, threads })
    await using trainer = await Trainer.create({ backend, config, parameters, settings })
    const losses: number[] = []
    for (const tokens of batches) {
      const { loss, gradientNorm } = await trainer.step(tokens)
      losses.push(loss, gradientNorm)
    }
    return losses
  })()
  runs.set(key, started)
  return started
}

function expectToAgree(found: number[], reference: number[]): void {
  expect(found).toHaveLength(reference.length)
  for (const [i, value] of found.entries()) {
    expect(Math.abs(value - reference[i]!) / Math.abs(reference[i]!), `value ${i}`).toBeLessThan(1e-4)
  }
}

describe('ten steps of training', () => {
  test('learn something', async () => {
    const losses = await run('cpu', 1)
    expect(losses.at(-2)!).toBeLessThan(losses[0]! - 0.2)
  })

  test('give the losses of the CPU on WASM, to 1e-4', async () => {
    expectToAgree(await run('wasm', 1), await run('cpu', 1))
  })

  test('give the same bits on WASM with 1 and with 2 threads', async () => {
    expect(await run('wasm', 2)).toEqual(await run('wasm', 1))
  })

  test.skipIf(!webgpu!.available)(
    `give the losses of the CPU on WebGPU, to 1e-4${webgpu!.available ? '' : ` (skipped: ${webgpu!.reason})`}`,
    async () => {
      expectToAgree(await run('webgpu', 1), await run('cpu', 1))
    },
  )
})
