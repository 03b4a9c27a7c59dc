/** How much of peers' time is spent computing, by method and by the rate of their lines: from the cost model alone. */
import {
  costsOfParameters,
  noChurn,
  roundPolicySchema,
  type SimulationReport,
  simulate,
} from '../../src/run/index.ts'
import { createSyncMethod, type SyncMethod, syncSettingsSchema } from '../../src/sync/index.ts'
import type { Measure } from './measure.ts'

const methods = [
  'data-parallel',
  'demo',
  'distro',
  'noloco',
  'diloco',
  'decoupled',
  'muloco',
  'streaming-diloco',
  'sparse-loco',
] as const
const megabits = [1, 10, 100, 1000] as const
const peers = 8

interface Result {
  readonly method: string
  readonly innerSteps: number
  /** Mb/s. */
  readonly rate: number
  readonly computing: number
  readonly sentBytesPerRound: number
  readonly tokensPerSecond: number
}

export const computingShare: Measure = {
  name: 'computing-share',
  run: async ({ seeds, rounds, parameters, stepMs, progress }) => {
    const results: Result[] = []
    for (const name of methods) {
      const method = createSyncMethod(syncSettingsSchema.parse({ method: name }))
      for (const rate of megabits) {
        progress(`${name} at ${rate} Mb/s`)
        const report = await simulated(method, { rate, seed: seeds[0]!, rounds, parameters, stepMs })
        const { computing } = report.time
        const perRound =
          report.peers.reduce((sum, { sentBytes }) => sum + sentBytes, 0) / peers / report.rounds.length
        results.push({
          ...{ method: name, innerSteps: method.innerSteps, rate, computing, sentBytesPerRound: perRound },
          tokensPerSecond: report.tokensPerSecond,
        })
      }
    }
    return {
      title: `Share of time computing: ${peers} peers, ${parameters / 1e6}M parameters, ${stepMs} ms a step, the same line up and down`,
      header: ['method', 'H', 'MB sent a round', ...megabits.map((rate) => `${rate} Mb/s`)],
      rows: methods.map((name) => {
        const of = results.filter(({ method }) => method === name)
        return [
          name,
          String(of[0]!.innerSteps),
          (of.at(-1)!.sentBytesPerRound / 1e6).toFixed(2),
          ...of.map(({ computing }) => `${(100 * computing).toFixed(1)} %`),
        ]
      }),
      notes: [
        'Equal peers, all of them reachable, 40 ms to a host at 1 Gb/s; updates as large as the method allows.',
      ],
      values: results,
    }
  },
}

function simulated(
  method: SyncMethod,
  given: {
    readonly rate: number
    readonly seed: number
    readonly rounds: number | undefined
    readonly parameters: number
    readonly stepMs: number
  },
): Promise<SimulationReport> {
  const { rate, seed, stepMs, parameters } = given
  const { innerSteps, overlapSteps } = method
  const lineRate = (rate * 1e6) / 8
  return simulate({
    // As many steps for each method, so that what happens once weighs alike.
    policy: roundPolicySchema.parse({
      rounds: given.rounds ?? Math.max(10, Math.round(300 / innerSteps)),
      ...{ minimumPeers: peers, maximumPeers: peers, maxRoundMs: 7 * 86_400_000 },
    }),
    ...{ seed, innerSteps, overlapSteps, batchTokens: 8192 },
    costs: { ...costsOfParameters(method, parameters), setupBytes: 0, setupMs: 0 },
    world: {
      ...{ peers, speedSpread: 1, linkSpread: 1, stepMs, jitter: 0, latencyMs: 40, arrivalMs: 0 },
      ...{ upBytesPerSecond: lineRate, downBytesPerSecond: lineRate, reachableShare: 1 },
      ...{ hostUpBytesPerSecond: 125e6, hostDownBytesPerSecond: 125e6 },
      churn: noChurn,
    },
  })
}
