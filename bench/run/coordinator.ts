/** What the coordinator costs per member and round: its state machine alone, and with all that a simulation does. */
import {
  costsOfSizes,
  noChurn,
  roundPolicySchema,
  type SimulationReport,
  simulate,
} from '../../src/run/index.ts'
import { runReducerBench } from '../run-reducer.ts'
import type { Measure } from './measure.ts'

const sizes = [100, 1000, 10_000] as const
/** Of the simulations: enough that starting counts for little. */
const simulatedWork = 60_000

export const coordinator: Measure = {
  name: 'coordinator',
  run: async ({ progress, seeds }) => {
    progress('the state machine alone')
    const figures = runReducerBench(['--out', 'bench-run-reducer.json'])
    const results = []
    for (const members of sizes) {
      progress(`a simulation of ${members} peers`)
      const rounds = Math.round(simulatedWork / members)
      const started = performance.now()
      const report = await simulated(members, rounds, seeds[0]!)
      const elapsedMs = performance.now() - started
      results.push({
        ...figures.find((each) => each.members === members)!,
        rounds,
        simulationMicroseconds: (1000 * elapsedMs) / members / rounds,
        events: report.events,
        rssBytes: process.memoryUsage.rss(),
      })
    }
    return {
      title: 'Coordinator, per member and round',
      header: ['members', 'state machine µs', 'state bytes', 'log bytes', 'whole simulation µs', 'RSS MB'],
      rows: results.map((each) => [
        String(each.members),
        each.roundMicroseconds.toFixed(1),
        each.stateBytes.toFixed(0),
        each.logBytes.toFixed(0),
        each.simulationMicroseconds.toFixed(0),
        (each.rssBytes / 2 ** 20).toFixed(0),
      ]),
      notes: [
        'State and log bytes are per member. A simulation leads two states, writes and reads every event, checks every batch and moves the peers, too.',
      ],
      values: results,
    }
  },
}

function simulated(peers: number, rounds: number, seed: number): Promise<SimulationReport> {
  return simulate({
    seed,
    policy: roundPolicySchema.parse({ rounds, maximumPeers: 10_000, minimumPeers: peers }),
    ...{ innerSteps: 30, overlapSteps: 0, batchTokens: 256 },
    costs: costsOfSizes({ parameters: 1e6, updateBytes: 1e5, stateBytes: 8e6 }),
    world: {
      ...{
        peers,
        speedSpread: 4,
        linkSpread: 4,
        stepMs: 1000,
        jitter: 0.05,
        latencyMs: 40,
        arrivalMs: 10_000,
      },
      ...{ upBytesPerSecond: 2.5e6, downBytesPerSecond: 12.5e6, reachableShare: 0.5 },
      ...{ hostUpBytesPerSecond: 1.25e9, hostDownBytesPerSecond: 1.25e9 },
      churn: noChurn,
    },
  })
}
