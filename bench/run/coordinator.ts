/** What the coordinator costs per member and round: a whole host, its state machine alone, and all that a simulation does. */
import {
  costsOfSizes,
  noChurn,
  roundPolicySchema,
  type SimulationReport,
  simulate,
} from '../../src/run/index.ts'
import { flatness, runReducerBench } from '../run-reducer.ts'
import { median } from '../tables/markdown.ts'
import { type HostCost, measureHostCost } from './host-cost.ts'
import type { Measure } from './measure.ts'

const sizes = [100, 1000, 10_000] as const
/** Rounds of a host with so many members that are measured, and how often all sizes take their turn. */
const hostRounds = { 100: 40, 1000: 6, 10000: 2 } as const
const hostTurns = 2
/** Of the simulations: enough that starting counts for little. */
const simulatedWork = 60_000

export const coordinator: Measure = {
  name: 'coordinator',
  run: async ({ progress, seeds }) => {
    const hosts = await hostCosts(progress)
    progress('the state machine alone')
    const figures = await runReducerBench(['--out', 'bench-run-reducer.json'])
    const results = []
    for (const members of sizes) {
      progress(`a simulation of ${members} peers`)
      const rounds = Math.round(simulatedWork / members)
      const started = performance.now()
      const report = await simulated(members, rounds, seeds[0]!)
      const elapsedMs = performance.now() - started
      const host = hosts.get(members)!
      results.push({
        ...figures.find((each) => each.members === members)!,
        hostMicroseconds: median(host.map(({ microseconds }) => microseconds)),
        hostBytes: median(host.map(({ hostBytes }) => hostBytes)),
        rounds,
        simulationMicroseconds: (1000 * elapsedMs) / members / rounds,
        events: report.events,
      })
    }
    return {
      title: 'Coordinator, per member and round',
      header: [
        ...['members', 'host µs', 'host MB', 'state machine µs', 'state bytes', 'log bytes'],
        'whole simulation µs',
      ],
      rows: results.map((each) => [
        String(each.members),
        each.hostMicroseconds.toFixed(0),
        ((each.hostBytes * each.members) / 1e6).toFixed(0),
        each.roundMicroseconds.toFixed(1),
        each.stateBytes.toFixed(0),
        each.logBytes.toFixed(0),
        each.simulationMicroseconds.toFixed(0),
      ]),
      notes: [
        `Largest against smallest, target 1.5: time of a host ${flatness(results, (each) => each.hostMicroseconds)}; of the state machine alone ${flatness(results, (each) => each.roundMicroseconds)}, its memory ${flatness(results, (each) => each.stateBytes)}. One more member costs a host ${more(results)} bytes.`,
        'A host answers two signed messages per member and round, fetches, judges and logs its update and merges it: processor time, waiting for disks not counted. State and log bytes are per member. A simulation leads two states, writes and reads every event, checks every batch and moves the peers, too.',
      ],
      values: results,
    }
  },
}

async function hostCosts(progress: (text: string) => void): Promise<Map<number, HostCost[]>> {
  const costs = new Map<number, HostCost[]>(sizes.map((members) => [members, []]))
  for (let turn = 0; turn < hostTurns; turn++) {
    for (const members of sizes) {
      progress(`a host with ${members} members, turn ${turn + 1} of ${hostTurns}`)
      costs.get(members)!.push(await measureHostCost(members, hostRounds[members]))
    }
  }
  return costs
}

/** Between one size and the next, so that what a host without members holds does not count. */
function more(results: readonly { readonly members: number; readonly hostBytes: number }[]): string {
  const bytes = results.map((each) => each.hostBytes * each.members)
  const steps = results.slice(1).map(({ members }, i) => {
    return (bytes[i + 1]! - bytes[i]!) / (members - results[i]!.members)
  })
  return steps.map((each) => each.toFixed(0)).join(' and ')
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
