import { expect, test } from 'vitest'
import { buildDataset } from '../data/index.ts'
import { byteTokenizer, flatten, initialParameters, layoutOf, llamaConfig } from '../model/index.ts'
import { openBackend } from '../runtime/index.ts'
import { type Blobs, maxBlobBytes, memoryBlobs, needBlob, readArtifact } from '../swarm/index.ts'
import { trainingSchema } from '../train/index.ts'
import { type Manifest, openWorkload, publishRun, type RunDescription, roundPolicySchema } from './index.ts'

const blobs = memoryBlobs()
const model = llamaConfig({
  ...{ vocabularySize: 256, hiddenSize: 16, intermediateSize: 24, layers: 1, attentionHeads: 2 },
  maxPositionEmbeddings: 16,
})
const parameters = initialParameters(model, 1)
const { steps, batchSize, sequenceLength, gradientAccumulation, optimiser, schedule } = trainingSchema.parse({
  ...{ steps: 4, batchSize: 2, sequenceLength: 8 },
})
const run: RunDescription = {
  name: 'small',
  dataset: await buildDataset({
    documents: [{ path: 'a.txt', text: 'the quick brown fox jumps over the lazy dog\n'.repeat(40) }],
    tokenizer: byteTokenizer(),
    heldOutFraction: 0.1,
    seed: 1,
  }),
  model,
  parameters,
  inner: { steps, batchSize, sequenceLength, gradientAccumulation, optimiser, schedule },
  sync: { method: 'diloco', innerSteps: 2, outerLearningRate: 0.7, outerMomentum: 0.6, encoding: 'int8' },
  seed: 1,
  rounds: roundPolicySchema.parse({
    rounds: 2,
    maximumPeers: 4,
    quorum: 0.5,
    graceMs: 1000,
    maxRoundMs: 60_000,
  }),
}
const manifest: Manifest = await publishRun(blobs, run)
const contextOf = (of: Manifest) => ({
  manifest: of,
  layout: layoutOf(model),
  fetchBlob: (cid: Manifest['data']) => needBlob(blobs, cid),
  fetchArtifact: (root: Manifest['data'], options: { maxBytes: number }) =>
    readArtifact(blobs, root, options),
  signal: new AbortController().signal,
})

test('a published run is all that a peer needs to train', async () => {
  await using backend = await openBackend({ name: 'cpu', threads: 1 })
  await using workload = await openWorkload(contextOf(manifest), backend)
  await workload.trainer.setParameters(flatten(parameters, layoutOf(model)))
  const tokens = await workload.batch(0)
  const first = await workload.trainer.step(tokens, { scheduleStep: 0, rateScale: 1 })
  const second = await workload.trainer.step(tokens, { scheduleStep: 1, rateScale: 1 })
  expect(first.tokens).toBe(batchSize * sequenceLength)
  expect(second.loss).toBeLessThan(first.loss)
})

test('a publication that is broken off goes no further, and the next one goes on with what is there', async () => {
  const larger = llamaConfig({ ...model, vocabularySize: 16_384 })
  const large = { ...run, model: larger, parameters: initialParameters(larger, 1) }
  const store = memoryBlobs()
  const stopping = new AbortController()
  let wholeChunks = 0
  const stopAtFirst: Blobs = {
    ...store,
    put: (bytes, options) => {
      if (bytes.byteLength === maxBlobBytes && ++wholeChunks === 1) stopping.abort(new Error('stopped'))
      return store.put(bytes, options)
    },
  }
  await expect(publishRun(stopAtFirst, large, stopping.signal)).rejects.toThrow('stopped')
  expect(wholeChunks).toBe(1)
  expect(await publishRun(stopAtFirst, large)).toEqual(await publishRun(memoryBlobs(), large))
  expect(wholeChunks).toBeGreaterThan(2)
})

test('a run whose steps have several batches names both programs of a step', async () => {
  const several = await publishRun(blobs, { ...run, inner: { ...run.inner, gradientAccumulation: 3 } })
  expect(Object.keys(several.programs)).toEqual(['gradient-step.portable', 'apply-step.portable'])
  await using backend = await openBackend({ name: 'cpu', threads: 1 })
  await using workload = await openWorkload(contextOf(several), backend)
  await workload.trainer.setParameters(flatten(parameters, layoutOf(model)))
  const tokens = await workload.batch(0)
  const first = await workload.trainer.step(tokens, { scheduleStep: 0, rateScale: 1 })
  const second = await workload.trainer.step(tokens, { scheduleStep: 1, rateScale: 1 })
  expect(first.tokens).toBe(3 * batchSize * sequenceLength)
  expect(second.loss).toBeLessThan(first.loss)
})

test('a run whose peers exchange gradients names the program that makes them; a gradient points down the loss', async () => {
  const sync = { method: 'data-parallel', innerSteps: 1, encoding: 'float32', optimiser } as const
  const gradients = await publishRun(blobs, {
    ...run,
    sync,
    inner: { ...run.inner, gradientAccumulation: 2 },
  })
  expect(Object.keys(gradients.programs)).toEqual(['gradient-step.portable'])
  await using backend = await openBackend({ name: 'cpu', threads: 1 })
  await using workload = await openWorkload(contextOf(gradients), backend)
  const layout = layoutOf(model)
  const start = flatten(parameters, layout)
  await workload.trainer.setParameters(start)
  const tokens = await workload.batch(0)
  const { loss, gradient, tokens: predicted } = await workload.trainer.gradient(tokens)
  expect(predicted).toBe(2 * batchSize * sequenceLength)
  // Asked for again, it is the same: nothing is left of the first.
  expect((await workload.trainer.gradient(tokens)).gradient).toEqual(gradient)
  const squares = gradient.reduce((sum, value) => sum + value * value, 0)
  const small = 1e-3 / Math.sqrt(squares)
  await workload.trainer.setParameters(start.map((value, i) => value - small * gradient[i]!))
  const after = await workload.trainer.gradient(tokens)
  expect((loss - after.loss) / (small * squares)).toBeCloseTo(1, 1)
})

test('what a peer tries out to measure itself leaves its optimiser as new', async () => {
  await using backend = await openBackend({ name: 'cpu', threads: 1 })
  const stepOf = async (measured: boolean): Promise<Float32Array> => {
    await using workload = await openWorkload(contextOf(manifest), backend)
    const { trainer } = workload
    const tokens = await workload.batch(0)
    if (measured) {
      await trainer.step(tokens, { scheduleStep: 0, rateScale: 0 })
      await trainer.reset()
    }
    await trainer.setParameters(flatten(parameters, layoutOf(model)))
    await trainer.step(tokens, { scheduleStep: 0, rateScale: 1 })
    return trainer.parameters()
  }
  expect(await stepOf(true)).toEqual(await stepOf(false))
})

test('a run with another training program is refused, not trained differently', async () => {
  await using backend = await openBackend({ name: 'cpu', threads: 1 })
  const other = { ...manifest, programs: { 'train-step.portable': manifest.data } }
  await expect(openWorkload(contextOf(other), backend)).rejects.toMatchObject({ code: 'run/other-program' })
})
