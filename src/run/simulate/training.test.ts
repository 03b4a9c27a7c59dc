/** Real merges inside simulated runs: mostly with a toy, once with a tiny Llama on the native CPU backend. */
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { seededRandom } from '../../core/index.ts'
import { buildDataset, type Dataset, openDataset } from '../../data/index.ts'
import { byteTokenizer, initialParameters, llamaConfig } from '../../model/index.ts'
import { type Backend, openBackend } from '../../runtime/index.ts'
import { type SyncSettings, syncSettingsSchema } from '../../sync/index.ts'
import { optimiserSchema, scheduleSchema } from '../../train/index.ts'
import { SwarmTraining } from './swarm-training.ts'
import { equalPeers, type TogetherOptions, trainTogether, trainToyTogether } from './training.ts'
import { VirtualPeer } from './virtual-peer.ts'
import { noChurn } from './world.ts'

const diloco: SyncSettings = syncSettingsSchema.parse({ method: 'diloco', innerSteps: 4, outerMomentum: 0.5 })
const toy = { sync: diloco, replicas: 4, rounds: 8, seed: 1 }

describe('training together, with a toy', () => {
  test('gives the same parameters to the bit for the same seed, and others for another', async () => {
    const first = await trainToyTogether(toy)
    const second = await trainToyTogether(toy)
    const other = await trainToyTogether({ ...toy, seed: 2 })
    expect(second.parameters).toEqual(first.parameters)
    expect(second.report.traceHash).toBe(first.report.traceHash)
    expect(second.report.stateHash).toBe(first.report.stateHash)
    expect(other.parameters).not.toEqual(first.parameters)
  })

  test('learns, and more peers learn better from as many rounds', async () => {
    const lossOf = async (replicas: number): Promise<number> =>
      (await trainToyTogether({ ...toy, replicas, rounds: 20 })).losses.at(-1)!.loss
    const [one, four] = [await lossOf(1), await lossOf(4)]
    expect(one).toBeLessThan(0.1)
    expect(four).toBeLessThan(one / 2)
  })

  test('takes exactly H steps of each peer in each round where all are equal', async () => {
    const { report, losses } = await trainToyTogether({ ...toy, evaluateEveryRounds: 2 })
    expect(report.rounds.map(({ inTime, steps }) => ({ inTime, steps }))).toEqual(
      Array.from({ length: 8 }, () => ({ inTime: 4, steps: 16 })),
    )
    expect(losses.map(({ round }) => round)).toEqual([2, 4, 6, 8])
    expect(losses.map(({ tokens }) => tokens)).toEqual([2, 4, 6, 8].map((round) => round * 16 * 8))
  })

  test('goes as far as a number of tokens, whatever the number of peers', async () => {
    for (const replicas of [1, 2, 4]) {
      const { losses } = await trainToyTogether({ ...toy, replicas, rounds: { tokens: 4 * 4 * 8 * 5 } })
      expect(losses.at(-1)!.tokens).toBe(4 * 4 * 8 * 5)
    }
  })

  test('goes on after a round in which no update arrived at all', async () => {
    for (let seed = 0; seed < 10; seed++) {
      const world = { ...equalPeers, churn: { ...noChurn, dropShare: 0.6 } }
      const policy = { minimumPeers: 1 }
      const { report } = await trainToyTogether({ ...toy, seed, replicas: 3, world, timed: false, policy })
      expect(report.rounds).toHaveLength(8)
    }
  })

  test('says what travelled', async () => {
    const { bytesPerParameterPerRound, bytesTotal, report } = await trainToyTogether({
      ...toy,
      sync: { ...diloco, encoding: 'float32' } as SyncSettings,
    })
    expect(bytesPerParameterPerRound).toBeGreaterThan(4)
    expect(bytesPerParameterPerRound).toBeLessThan(4.1)
    // Every update reaches the host and the three others; the last round is not waited for.
    expect(bytesTotal).toBeGreaterThan(report.updateBytes * 3)
  })

  const settings: Record<string, object> = {
    decoupled: { innerSteps: 4 },
    muloco: { innerSteps: 4 },
    'streaming-diloco': { innerSteps: 8, fragments: 2, overlapSteps: 1 },
    'sparse-loco': { innerSteps: 4, overlapSteps: 1 },
    'data-parallel': {},
    demo: {},
    distro: {},
    noloco: { innerSteps: 4 },
  }
  test.each(Object.keys(settings))(
    '%s learns through peers that come, go, sleep and drop out',
    async (method) => {
      const sync = syncSettingsSchema.parse({ method, ...settings[method] })
      const rounds = 'innerSteps' in settings[method]! ? 24 : 36
      const run = () =>
        trainToyTogether({
          ...{ sync, replicas: 5, rounds, seed: 3, evaluateEveryRounds: 1 },
          world: {
            jitter: 0.1,
            speedSpread: 3,
            churn: { ...noChurn, sessionMs: 60_000, absenceMs: 8000, dropShare: 0.1 },
          },
          policy: { minimumPeers: 1, quorum: 0.6, graceMs: 2000, vanishAfterMs: 3000 },
        })
      const { losses, parameters, report } = await run()
      expect(losses.at(-1)!.loss).toBeLessThan(losses[0]!.loss)
      expect(report.membership.returns).toBeGreaterThan(3)
      expect((await run()).parameters).toEqual(parameters)
    },
  )
})

describe('training together, on machines that fall asleep or crash before they hear of what they sent', () => {
  afterEach(() => vi.restoreAllMocks())

  test.each(['noloco', 'sparse-loco', 'diloco'])(
    '%s keeps of each update what the host says of it',
    async (method) => {
      const settle = vi.spyOn(SwarmTraining.prototype, 'settle')
      const refused = vi.spyOn(VirtualPeer.prototype, 'onRefused')
      for (const seed of [2, 3]) {
        settle.mockClear()
        const { report } = await trainToyTogether({
          ...{ sync: syncSettingsSchema.parse({ method, innerSteps: 4 }), replicas: 6, rounds: 20, seed },
          world: {
            ...{ stepMs: 1000, jitter: 0.3, latencyMs: 300 },
            churn: { ...noChurn, sessionMs: 15_000, absenceMs: 5000, crashShare: 0.3, sleepShare: 0.6 },
          },
          policy: { minimumPeers: 2, maximumPeers: 6, quorum: 0.67, graceMs: 1000, vanishAfterMs: 5000 },
        })
        const { accepted } = report.contributions
        const kept = settle.mock.calls.filter(([, counts]) => counts).length
        // Of one or two of the newest the answer may still be under way, or its peer away.
        expect(kept).toBeLessThanOrEqual(accepted)
        expect(kept).toBeGreaterThanOrEqual(accepted - 2)
      }
      expect(refused.mock.calls.map(([{ code }]) => code)).not.toContain('round/contributed')
    },
  )
})

describe('training together, with a tiny Llama', () => {
  const model = llamaConfig({
    vocabularySize: 256,
    hiddenSize: 16,
    intermediateSize: 24,
    layers: 2,
    attentionHeads: 4,
    keyValueHeads: 2,
  })
  let backend: Backend
  let dataset: Dataset
  beforeAll(async () => {
    backend = await openBackend({ name: 'cpu', threads: 1 })
    const random = seededRandom('text')
    const words = ['swell', 'ground', 'wave', 'sea', 'shore', 'tide']
    const text = Array.from({ length: 3000 }, () => words[random.nextInt(words.length)]).join(' ')
    const built = await buildDataset({
      documents: [{ path: 'words.txt', text }],
      tokenizer: byteTokenizer(),
      heldOutFraction: 0.1,
    })
    dataset = await openDataset(built.manifestBytes, (cid) => built.shards.get(cid))
  })
  afterAll(() => backend[Symbol.asyncDispose]())

  const options = (over: Partial<TogetherOptions>): TogetherOptions => ({
    backend,
    model,
    dataset,
    parameters: initialParameters(model, 1),
    inner: {
      steps: 60,
      batchSize: 2,
      sequenceLength: 16,
      gradientAccumulation: 1,
      optimiser: optimiserSchema.parse({ learningRate: 5e-3 }),
      schedule: scheduleSchema.parse({ warmupSteps: 4 }),
    },
    sync: diloco,
    replicas: 2,
    rounds: 10,
    seed: 1,
    evaluationBatches: 4,
    evaluateEveryRounds: 5,
    ...over,
  })

  test('one trainer serves several peers, and the loss falls', async () => {
    const { losses, report } = await trainTogether(options({}))
    expect(losses).toHaveLength(2)
    expect(losses[1]!.loss).toBeLessThan(losses[0]!.loss)
    expect(losses[1]!.loss).toBeLessThan(5)
    expect(report.rounds.every(({ trainingLoss }) => Number.isFinite(trainingLoss))).toBe(true)
  })

  test('one peer with plain averaging and H steps learns as it would alone, whoever shares its trainer', async () => {
    // With rate 1 and no momentum the merge of one peer is that peer: two strangers must not leak into each other.
    const sync = syncSettingsSchema.parse({
      ...{ method: 'diloco', innerSteps: 4, outerLearningRate: 1, outerMomentum: 0, encoding: 'float32' },
    })
    const alone = await trainTogether(options({ sync, replicas: 1 }))
    const again = await trainTogether(options({ sync, replicas: 1 }))
    expect(again.losses).toEqual(alone.losses)
    const two = await trainTogether(options({ sync, replicas: 2 }))
    expect(Math.abs(two.losses.at(-1)!.loss - alone.losses.at(-1)!.loss)).toBeLessThan(0.5)
  })

  test('gradients are exchanged where the method wants them', async () => {
    const sync = syncSettingsSchema.parse({ method: 'data-parallel', optimiser: { learningRate: 5e-3 } })
    const { losses } = await trainTogether(options({ sync, rounds: 40, evaluateEveryRounds: 20 }))
    expect(losses[1]!.loss).toBeLessThan(losses[0]!.loss)
  })
})
