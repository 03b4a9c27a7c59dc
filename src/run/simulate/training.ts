/**
 * Training by several peers in one process, in an order that depends on nothing but the seed: what a method makes of a
 * model at equal tokens or, with the lines and machines of a simulated world, at equal time. The peers, their leases and
 * their rounds are those of a real run.
 */
import { batchNumbered, type Dataset } from '../../data/index.ts'
import {
  flatten,
  type LlamaConfig,
  layoutOf,
  type ParameterLayout,
  type Parameters,
} from '../../model/index.ts'
import type { Backend } from '../../runtime/index.ts'
import { createSyncMethod, type SyncMethod, type SyncSettings } from '../../sync/index.ts'
import { learningRateAt, scheduleOf, type TrainerSettings } from '../../train/index.ts'
import type { RunEvent } from '../events.ts'
import { type RoundPolicy, roundPolicySchema } from '../policy.ts'
import { type CostModel, costsOf } from './costs.ts'
import { llamaLearner } from './llama-learner.ts'
import type { RoundRow, SimulationReport } from './report.ts'
import { simulate } from './simulation.ts'
import { type Learner, SwarmTraining } from './swarm-training.ts'
import { toyBatch, toyLayout, toyLearner, toyLearningRate, toyTokens } from './toy-learner.ts'
import { noChurn, type WorldSettings } from './world.ts'

export interface TogetherOptions {
  readonly backend: Backend
  readonly model: LlamaConfig
  readonly parameters: Parameters
  readonly dataset: Dataset
  /** Its schedule ends after `steps` steps of one peer. */
  readonly inner: TrainerSettings
  readonly sync: SyncSettings
  readonly replicas: number
  /** As many as there are, or as many as equal peers need for so many tokens of all of them together. */
  readonly rounds: number | { readonly tokens: number }
  readonly seed: number
  readonly evaluationBatches: number
  /** 0: only at the end. */
  readonly evaluateEveryRounds?: number
  /** Machines, lines and churn; default: `equalPeers`. */
  readonly world?: Partial<WorldSettings>
  /**
   * Whether anything but inner steps takes time. Without, equal peers take exactly H steps in every round, and τ steps
   * of a method that overlaps before they merge. Default: only where a world is given.
   */
  readonly timed?: boolean
  /** Default: those of the method and the model. */
  readonly costs?: CostModel
  readonly policy?: Partial<RoundPolicy>
  readonly onEvent?: (event: RunEvent) => void
  readonly clipToMedianNorm?: boolean
  readonly onRound?: (row: RoundRow) => void
  readonly signal?: AbortSignal
}

export interface TogetherResult {
  /** Validation losses, with the tokens and the virtual time that they took. */
  readonly losses: SimulationReport['losses']
  /** The merged parameters, flat. */
  readonly parameters: Float32Array
  /** Of one peer's update, as it travelled. */
  readonly bytesPerParameterPerRound: number
  /** Everything that peers and host sent. */
  readonly bytesTotal: number
  readonly report: SimulationReport
}

export async function trainTogether(options: TogetherOptions): Promise<TogetherResult> {
  const { model, inner, dataset, seed } = options
  const { batchSize, gradientAccumulation, sequenceLength } = inner
  const layout = layoutOf(model)
  const schedule = scheduleOf(inner)
  const batch = { seed, batchSize: batchSize * gradientAccumulation, sequenceLength }
  await using learner = await llamaLearner(options, createSyncMethod(options.sync).quantity)
  return await together(options, {
    layout,
    learner,
    parameters: flatten(options.parameters, layout),
    batch: (number) => batchNumbered(dataset, { ...batch, batch: number }),
    learningRateAt: (step) => learningRateAt(schedule, step),
    batchTokens: batchSize * gradientAccumulation * sequenceLength,
  })
}

/** The same with a toy instead of a model: no backend, no data, milliseconds. */
export function trainToyTogether(
  options: Omit<
    TogetherOptions,
    'backend' | 'model' | 'parameters' | 'dataset' | 'inner' | 'evaluationBatches'
  >,
): Promise<TogetherResult> {
  return together(options, {
    layout: toyLayout,
    learner: toyLearner(options.seed),
    parameters: new Float32Array(toyLayout.totalSize),
    batch: toyBatch,
    learningRateAt: toyLearningRate,
    batchTokens: toyTokens,
  })
}

type Together = Pick<
  TogetherOptions,
  | 'sync'
  | 'replicas'
  | 'rounds'
  | 'seed'
  | 'evaluateEveryRounds'
  | 'world'
  | 'timed'
  | 'costs'
  | 'onEvent'
  | 'policy'
  | 'clipToMedianNorm'
  | 'onRound'
  | 'signal'
>

interface Subject {
  readonly layout: ParameterLayout
  readonly learner: Learner
  readonly parameters: Float32Array
  readonly batch: (number: number) => Int32Array
  readonly learningRateAt: (scheduleStep: number) => number
  readonly batchTokens: number
}
async function together(options: Together, subject: Subject): Promise<TogetherResult> {
  const { replicas, seed, evaluateEveryRounds = 0, onRound, onEvent, signal } = options
  const method = createSyncMethod(options.sync)
  const roundTokens = replicas * method.innerSteps * subject.batchTokens
  const rounds =
    typeof options.rounds === 'number'
      ? options.rounds
      : Math.max(1, Math.round(options.rounds.tokens / roundTokens))
  const policy = roundPolicySchema.parse({
    rounds,
    minimumPeers: replicas,
    maximumPeers: replicas,
    quorum: 1,
    ...options.policy,
  })
  const { layout } = subject
  const timed = options.timed ?? options.world !== undefined
  const costs = options.costs ?? (timed ? costsOf(method, layout) : untimedCosts(method, layout))
  const bytesScale = costs.updateBytes / method.maximumUpdateBytes(layout)
  const training = new SwarmTraining({
    ...subject,
    bytesScale,
    method,
    clipToMedianNorm: options.clipToMedianNorm,
    rewarmSteps: policy.rewarmSteps,
  })
  const report = await simulate({
    seed,
    policy,
    innerSteps: method.innerSteps,
    overlapSteps: method.overlapSteps,
    alwaysOverlaps: !timed,
    batchTokens: subject.batchTokens,
    world: { ...equalPeers, ...options.world, peers: replicas },
    costs,
    training,
    evaluateEveryRounds,
    signal,
    ...(onRound === undefined ? {} : { onRound }),
    ...(onEvent === undefined ? {} : { onEvent }),
  })
  const sent = report.rounds.reduce((sum, { inTime, late }) => sum + inTime + late, 0)
  return {
    losses: report.losses,
    parameters: training.parameters,
    bytesPerParameterPerRound: report.updateBytes / bytesScale / Math.max(1, sent) / layout.totalSize,
    bytesTotal: report.host.sentBytes + report.peers.reduce((sum, peer) => sum + peer.sentBytes, 0),
    report,
  }
}

/** Sizes of the method, and no time. */
function untimedCosts(method: SyncMethod, layout: ParameterLayout): CostModel {
  return {
    ...costsOf(method, layout),
    ...{ setupBytes: 0, setupMs: 0, encodeMs: 0, checkMs: 0, addMs: 0, outerStepMs: 0 },
  }
}

/** A second per step, and lines that carry anything at once. */
export const equalPeers: WorldSettings = {
  peers: 1,
  speedSpread: 1,
  linkSpread: 1,
  stepMs: 1000,
  jitter: 0,
  upBytesPerSecond: 1e15,
  downBytesPerSecond: 1e15,
  hostUpBytesPerSecond: 1e15,
  hostDownBytesPerSecond: 1e15,
  reachableShare: 1,
  latencyMs: 0,
  arrivalMs: 0,
  churn: noChurn,
}
