/**
 * `simulate`: a run with simulated machines, lines and absences on a virtual clock, by the code that decides in a real
 * run; and, if wanted, with real training by all of its peers in this one process.
 */
import {
  type RoundRow,
  type RunEvent,
  roundPolicySchema,
  type SimulationReport,
  simulate,
  trainTogether,
  trainToyTogether,
} from '../../run/index.ts'
import { createSyncMethod } from '../../sync/index.ts'
import { openChosenBackend } from '../backend.ts'
import type { SimulateCommandLine } from '../command-lines.ts'
import { absolute, type CommandContext } from '../context.ts'
import { demoSettings } from '../demo-settings.ts'
import { formatDuration, formatLoss } from '../format.ts'
import { createProgress } from '../progress.ts'
import { demoTraining } from '../simulate/llama.ts'
import { type SimulateSettings, simulateSettings } from '../simulate/settings.ts'
import { roundTable, summaryLines } from '../simulate/table.ts'
import { TraceFile } from '../simulate/trace.ts'

/** What is done sooner needs no progress. */
const patienceMs = 2000

export async function simulateRun(context: CommandContext, options: SimulateCommandLine): Promise<void> {
  const { output, signal } = context
  const started = performance.now()
  const settings = simulateSettings(options)
  using trace = options.trace === undefined ? undefined : new TraceFile(absolute(context, options.trace))
  const progress = createProgress(output, {
    total: options.rounds,
    unit: 'round',
    now: () => performance.now(),
  })
  const report = await run(context, options, settings, {
    onRound: (row) => {
      output.event({ event: 'round', ...row })
      if (performance.now() - started > patienceMs) progress.update(row.round, detailsOf(row))
    },
    onEvent: (event) => trace?.write(event),
  })
  signal.throwIfAborted()
  trace?.finish()
  progress.finish()
  const { peers, rounds, ...totals } = report
  for (const line of roundTable(rounds)) output.line(line)
  output.line('')
  for (const line of summaryLines(report)) output.line(line)
  const seconds = (performance.now() - started) / 1000
  output.line(`Simulated ${peers.length} peers in ${formatDuration(seconds)}`)
  for (const peer of peers) output.event({ event: 'peer', ...peer })
  output.event({ event: 'done', ...totals, seconds })
}

interface Watching {
  readonly onRound: (row: RoundRow) => void
  readonly onEvent: (event: RunEvent) => void
}

async function run(
  context: CommandContext,
  options: SimulateCommandLine,
  settings: SimulateSettings,
  watching: Watching,
): Promise<SimulationReport> {
  const { signal } = context
  const { rounds, seed, train } = options
  const { sync, world, policy, costs, innerSteps } = settings
  const together = { sync, replicas: world.peers, rounds, seed, world, policy, ...watching, signal }
  switch (train) {
    case 'toy':
      return (await trainToyTogether({ ...together, costs, evaluateEveryRounds: 1 })).report
    case 'llama': {
      const { files } = context
      const data = options.data === undefined ? undefined : absolute(context, options.data)
      const training = await demoTraining({ files, data, steps: rounds * innerSteps, seed, signal })
      await using backend = await openChosenBackend(options, signal)
      const evaluateEveryRounds = demoSettings.evaluateEveryRounds
      return (await trainTogether({ ...together, ...training, backend, evaluateEveryRounds })).report
    }
    case 'none':
      return simulate({
        ...{ seed, world, costs, innerSteps, ...watching, signal },
        policy: roundPolicySchema.parse({ rounds, ...policy }),
        overlapSteps: createSyncMethod(sync).overlapSteps,
        batchTokens: demoSettings.batchSize * demoSettings.sequenceLength,
      })
    default:
      throw new TypeError(`no training ${String(train satisfies never)}`)
  }
}

function detailsOf({ inTime, late, closedAtMs, trainingLoss }: RoundRow): string {
  const loss = trainingLoss === null ? '' : `  loss ${formatLoss(trainingLoss)}`
  return `${inTime + late} updates  after ${formatDuration(closedAtMs / 1000)}${loss}`
}
