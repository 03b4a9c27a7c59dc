/** From a command line to the world of a simulation: people give shares, megabits and seconds. */
import {
  type CostModel,
  costsOfParameters,
  costsOfSizes,
  noChurn,
  type RoundPolicy,
  simulationLimits,
  type WorldSettings,
} from '../../run/index.ts'
import { createSyncMethod, type SyncSettings, syncSettingsSchema } from '../../sync/index.ts'
import type { SimulateCommandLine } from '../command-lines.ts'
import { usageError } from '../failures.ts'

export interface SimulateSettings {
  readonly sync: SyncSettings
  readonly world: WorldSettings
  readonly policy: Partial<RoundPolicy>
  readonly costs: CostModel
  /** Inner steps of a middling peer in a round. */
  readonly innerSteps: number
}

const defaultParameters = 3_300_000
const maxParameters = 1e12
/** No update of any method is larger: float32, and as much again. */
const maxMethodBytes = 16
const bytesPerMegabit = 1e6 / 8

export function simulateSettings(options: SimulateCommandLine): SimulateSettings {
  const peers = options.peers ?? (options.train === 'none' ? 100 : 4)
  checkLimits(options, peers)
  const sync = syncOf(options)
  const method = createSyncMethod(sync)
  const { stepMs } = options
  const innerSteps = method.innerSteps
  const roundMs = innerSteps * stepMs
  return {
    sync,
    innerSteps,
    costs: costsFor(options, method),
    world: {
      peers,
      speedSpread: options.speedSpread,
      linkSpread: 1,
      stepMs,
      jitter: 0.05,
      upBytesPerSecond: options.up * bytesPerMegabit,
      downBytesPerSecond: options.down * bytesPerMegabit,
      hostUpBytesPerSecond: options.hostUp * bytesPerMegabit,
      hostDownBytesPerSecond: options.hostDown * bytesPerMegabit,
      reachableShare: options.reachable,
      latencyMs: options.latency,
      arrivalMs: 10_000,
      churn: {
        ...noChurn,
        dropShare: options.drop,
        ...(options.churn > 0 && {
          sessionMs: -roundMs / Math.log(1 - options.churn),
          absenceMs: roundMs,
        }),
      },
    },
    policy: {
      minimumPeers: Math.max(1, Math.floor(peers / 2)),
      maximumPeers: peers,
      quorum: options.quorum,
      graceMs: Math.round(options.grace * 1000),
      maximumStaleness: options.staleness,
      maxRoundMs: Math.min(7 * 86_400_000, Math.max(60_000, Math.round(20 * roundMs))),
    },
  }
}

function syncOf({ method, innerSteps }: SimulateCommandLine): SyncSettings {
  const parsed = syncSettingsSchema.safeParse({ method, ...(innerSteps === undefined ? {} : { innerSteps }) })
  if (parsed.success) return parsed.data
  const { path, message } = parsed.error.issues[0]!
  if (innerSteps === undefined || path[0] === 'method') {
    throw usageError('method', `There is no method “${method}”.`, 'Choose a method of docs/methods.md.')
  }
  throw usageError(
    'method',
    `${method} does not take --inner-steps ${innerSteps}: ${message.replace(/^Invalid input: /, '')}.`,
    'Leave --inner-steps out, or give a number that the method takes (docs/methods.md).',
  )
}

function costsFor(
  { parameters = defaultParameters, methodBytes }: SimulateCommandLine,
  method: ReturnType<typeof createSyncMethod>,
): CostModel {
  const costs = costsOfParameters(method, parameters)
  if (methodBytes === undefined) return costs
  const updateBytes = Math.ceil(methodBytes * parameters)
  return costsOfSizes({ ...costs, parameters, updateBytes })
}

function checkLimits(options: SimulateCommandLine, peers: number): void {
  const { rounds, staleness, grace, parameters = 0, methodBytes = 0, train, data } = options
  const limit = (name: string, value: number, most: number): void => {
    if (value <= most) return
    throw usageError(
      'too-large',
      `--${name} ${value} is more than can be simulated.`,
      `Give at most ${most}.`,
    )
  }
  limit('peers', peers, train === 'none' ? simulationLimits.peers : 64)
  limit('rounds', rounds, simulationLimits.rounds)
  limit('rounds', rounds, Math.floor(simulationLimits.work / peers))
  limit('staleness', staleness, 8)
  limit('grace', grace, 86_400)
  limit('parameters', parameters, maxParameters)
  limit('method-bytes', methodBytes, maxMethodBytes)
  if (train === 'llama' && parameters + methodBytes > 0) {
    throw usageError(
      'command-line',
      'With --train llama the model is the demo’s, and so are its sizes.',
      'Leave out --parameters and --method-bytes.',
    )
  }
  if (train !== 'llama' && data !== undefined) {
    throw usageError('command-line', '--data is for --train llama.', 'Leave it out, or train a model.')
  }
}
