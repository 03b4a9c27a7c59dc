import { expect, test } from 'vitest'
import { buildDataset } from '../data/index.ts'
import { byteTokenizer, flatten, initialParameters, layoutOf, llamaConfig } from '../model/index.ts'
import { openBackend } from '../runtime/index.ts'
import { memoryBlobs, needBlob, readArtifact } from '../swarm/index.ts'
import { trainingSchema } from '../train/index.ts'
import { type Manifest, openWorkload, publishRun, type RunDescription } from './index.ts'

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
  rounds: {
    ...{ rounds: 2, minimumPeers: 1, maximumPeers: 4, quorum: 0.5 },
    ...{ graceMs: 1000, maxRoundMs: 60_000, vanishAfterMs: 5000 },
  },
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
  const tokens = await workload.batchAt({ step: 0, replica: 0, replicas: 2 })
  const first = await workload.trainer.step(tokens, 0)
  const second = await workload.trainer.step(tokens, 1)
  expect(first.tokens).toBe(batchSize * sequenceLength)
  expect(second.loss).toBeLessThan(first.loss)
})

test('a run whose steps have several batches names both programs of a step', async () => {
  const several = await publishRun(blobs, { ...run, inner: { ...run.inner, gradientAccumulation: 3 } })
  expect(Object.keys(several.programs)).toEqual(['gradient-step.portable', 'apply-step.portable'])
  await using backend = await openBackend({ name: 'cpu', threads: 1 })
  await using workload = await openWorkload(contextOf(several), backend)
  await workload.trainer.setParameters(flatten(parameters, layoutOf(model)))
  const tokens = await workload.batchAt({ step: 0, replica: 0, replicas: 2 })
  const first = await workload.trainer.step(tokens, 0)
  const second = await workload.trainer.step(tokens, 1)
  expect(first.tokens).toBe(3 * batchSize * sequenceLength)
  expect(second.loss).toBeLessThan(first.loss)
})

test('a run with another training program is refused, not trained differently', async () => {
  await using backend = await openBackend({ name: 'cpu', threads: 1 })
  const other = { ...manifest, programs: { 'train-step.portable': manifest.data } }
  await expect(openWorkload(contextOf(other), backend)).rejects.toMatchObject({ code: 'run/other-program' })
})
