/**
 * What churn costs in quality: the demo's model, trained by four peers of whose updates a share never arrives, in as many
 * rounds. The paper behind DiLoCo (https://arxiv.org/abs/2311.08105, figure 8) lost 2.1 % with half of them dropped.
 */
import { resolve } from 'node:path'
import { demoSettings } from '../../src/cli/demo-settings.ts'
import { demoTraining } from '../../src/cli/simulate/llama.ts'
import { equalPeers, noChurn, nodeFiles, trainTogether } from '../../src/run/index.ts'
import { openBackend } from '../../src/runtime/index.ts'
import { syncSettingsSchema } from '../../src/sync/index.ts'
import type { Measure } from './measure.ts'

const shares = [0, 0.1, 0.3, 0.5] as const
const peers = 4
const defaultRounds = 30
const target = 0.02

interface Result {
  readonly seed: number
  readonly dropShare: number
  readonly rounds: number
  readonly validationLoss: number
  readonly tokens: number
  /** The share that was in fact dropped. */
  readonly dropped: number
  readonly seconds: number
}

export const churn: Measure = {
  name: 'churn',
  run: async ({ seeds, rounds = defaultRounds, threads, data, progress }) => {
    const { innerSteps, outerLearningRate, outerMomentum, encoding } = demoSettings
    const sync = syncSettingsSchema.parse({
      ...{ method: 'diloco', innerSteps, outerLearningRate, outerMomentum, encoding },
    })
    const signal = new AbortController().signal
    const files = nodeFiles()
    const results: Result[] = []
    for (const seed of seeds) {
      const from = data === undefined ? undefined : resolve(data)
      const training = await demoTraining({ files, data: from, steps: rounds * innerSteps, seed, signal })
      for (const dropShare of shares) {
        await using backend = await openBackend({ name: 'cpu', threads })
        const started = performance.now()
        const { losses, report } = await trainTogether({
          ...training,
          ...{ backend, sync, replicas: peers, rounds, seed },
          // Peers without lines and latencies: every round has the updates that were not dropped, and no others.
          timed: false,
          world: { ...equalPeers, churn: { ...noChurn, dropShare } },
          policy: { minimumPeers: 1 },
          onRound: ({ round, trainingLoss }) =>
            progress(
              `seed ${seed}, ${100 * dropShare} % dropped: round ${round}/${rounds}, loss ${trainingLoss?.toFixed(3)}`,
            ),
        })
        results.push({
          ...{ seed, dropShare, rounds, validationLoss: losses.at(-1)!.loss, tokens: report.tokens },
          dropped:
            report.contributions.dropped / (report.contributions.dropped + report.contributions.accepted),
          seconds: (performance.now() - started) / 1000,
        })
      }
    }
    const meanOf = (dropShare: number): number => {
      const losses = results.filter((each) => each.dropShare === dropShare).map((each) => each.validationLoss)
      return losses.reduce((sum, loss) => sum + loss, 0) / losses.length
    }
    const whole = meanOf(0)
    const worse = (loss: number): string => `${(100 * (loss / whole - 1)).toFixed(2)} %`
    return {
      title: `Churn: ${peers} peers, ${rounds} rounds of ${innerSteps} steps, DiLoCo int8, validation loss`,
      header: ['dropped', ...seeds.map((seed) => `seed ${seed}`), 'mean', 'worse by', 'tokens'],
      rows: shares.map((share) => {
        const of = results.filter(({ dropShare }) => dropShare === share)
        return [
          `${100 * share} %`,
          ...of.map(({ validationLoss }) => validationLoss.toFixed(4)),
          meanOf(share).toFixed(4),
          worse(meanOf(share)),
          String(Math.round(of.reduce((sum, { tokens }) => sum + tokens, 0) / of.length)),
        ]
      }),
      notes: [
        `At equal rounds, not at equal tokens: what is dropped is lost work. Target at 50 %: worse by at most ${100 * target} %.`,
        `Took ${results.reduce((sum, { seconds }) => sum + seconds, 0).toFixed(0)} s with ${threads} threads.`,
      ],
      values: results,
    }
  },
}
