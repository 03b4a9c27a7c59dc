/**
 * The inner loop's engine room: one model with its optimiser, resident on a backend. Parameters and moments stay
 * there between steps; JavaScript hands in tokens and gets a loss. `snapshot` holds all that the next step depends
 * on, so a run that was stopped anywhere goes on with the same bits it would have had.
 */
import { GroundswellError, orDispose, throwIfAborted } from '../core/index.ts'
import { flatParametersOf, type LlamaConfig, type Parameters, parametersOf } from '../model/index.ts'
import type { Backend, Executable, HostTensor, State } from '../runtime/index.ts'
import type { TensorSpec } from '../tensor/index.ts'
import { compileEvaluation, lossOf, meanLoss } from './evaluator.ts'
import { learningRateAt } from './schedule.ts'
import { scheduleOf, type TrainingSettings } from './settings.ts'
import { emptyMoments, initialTrainingState, residentParameters } from './step.ts'
import { compileStep, type StepRunner } from './step-runner.ts'

export type TrainerSettings = Pick<
  TrainingSettings,
  'steps' | 'batchSize' | 'sequenceLength' | 'gradientAccumulation' | 'optimiser' | 'schedule'
>

export interface TrainerOptions {
  readonly backend: Backend
  readonly config: LlamaConfig
  readonly parameters: Parameters
  readonly settings: TrainerSettings
  /** Ends the making of a trainer; not what it does later. */
  readonly signal?: AbortSignal
}

export interface StepReport {
  /** Steps done, this one included. */
  readonly step: number
  /** Mean cross-entropy of the batch in nats per token, before the update. */
  readonly loss: number
  /** Global norm of the gradient before clipping. */
  readonly gradientNorm: number
  readonly learningRate: number
  /** Tokens that were predicted. */
  readonly tokens: number
}

/** Everything that the next step depends on, apart from its tokens. */
export interface TrainerSnapshot {
  readonly step: number
  /** Resident tensors by name: parameters and moments, as the training program lays them out. */
  readonly state: Readonly<Record<string, HostTensor>>
}

export class Trainer implements AsyncDisposable {
  readonly config: LlamaConfig
  readonly settings: TrainerSettings
  /** Time that compiling the training step took. */
  readonly compileMs: number
  private readonly backend: Backend
  private readonly runner: StepRunner
  private readonly state: State
  private readonly parameterNames: readonly string[]
  /** Of the state, what a snapshot holds. */
  private readonly savedNames: readonly string[]
  private evaluation: Executable | undefined
  private done = 0

  private constructor(
    options: TrainerOptions,
    { runner, state, savedNames }: { runner: StepRunner; state: State; savedNames: readonly string[] },
  ) {
    this.backend = options.backend
    this.config = options.config
    this.settings = options.settings
    this.compileMs = runner.compileMs
    this.runner = runner
    this.state = state
    this.savedNames = savedNames
    this.parameterNames = Object.keys(residentParameters(options.config, options.parameters))
  }

  /** Compiles the training step and puts the parameters, with empty moments, on the backend. */
  static async create(options: TrainerOptions): Promise<Trainer> {
    const { backend, config, parameters, settings, signal } = options
    const { batchSize, sequenceLength, gradientAccumulation, optimiser } = settings
    const step = { config, batchSize, sequenceLength, gradientAccumulation, optimiser }
    return orDispose(await compileStep(backend, step), async (runner) => {
      throwIfAborted(signal)
      const initial = initialTrainingState(config, parameters, optimiser)
      const state = await backend.createState({ ...initial, ...runner.scratch() }, signal && { signal })
      return new Trainer(options, { runner, state, savedNames: Object.keys(initial) })
    })
  }

  /** Steps done so far. */
  get steps(): number {
    return this.done
  }

  /**
   * One optimiser step.
   * @param tokens int32 [batchSize · gradientAccumulation, sequenceLength + 1], row-major
   * @param options `scheduleStep`: where in the schedule this step stands when that is not the number of steps done
   *   here, as for a peer that joins a run late; the moments, and their bias correction, are always its own.
   *   `rateScale`: what the schedule's rate is multiplied with
   * @throws GroundswellError `train/diverged` when the loss or the gradient is no number; the state is then lost
   */
  async step(
    tokens: Int32Array,
    options: { readonly scheduleStep?: number; readonly rateScale?: number } = {},
  ): Promise<StepReport> {
    const { batchSize, gradientAccumulation, sequenceLength } = this.settings
    const rows = batchSize * gradientAccumulation
    const { scheduleStep = this.done, rateScale = 1 } = options
    const learningRate = rateScale * learningRateAt(scheduleOf(this.settings), scheduleStep)
    const inputs = { tokens, learningRate, step: this.done + 1 }
    const { loss, gradientNorm } = await this.runner.run(this.state, inputs)
    this.done++
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      throw new GroundswellError(`Training diverged at step ${this.done}: the loss is ${loss}.`, {
        code: 'train/diverged',
        remedy: 'Lower training.optimiser.learningRate, or lengthen the warm-up.',
      })
    }
    return { step: this.done, loss, gradientNorm, learningRate, tokens: rows * sequenceLength }
  }

  /**
   * Mean cross-entropy over batches of int32 [batchSize, sequenceLength + 1], in nats per token.
   * @throws GroundswellError `train/no-validation` when there is no batch
   */
  async evaluate(batches: Iterable<Int32Array>, signal?: AbortSignal): Promise<number> {
    this.evaluation ??= await compileEvaluation(this.backend, this.config, this.settings)
    const { evaluation, state } = this
    return meanLoss(batches, (tokens) => lossOf(evaluation, state, tokens), signal)
  }

  /** A copy of the parameters by their Hugging Face names. */
  async parameters(): Promise<Parameters> {
    return parametersOf(this.config, await this.state.read(this.parameterNames))
  }

  /** A copy of the parameters in the order of `layoutOf`: [totalSize]. */
  async flatParameters(): Promise<Float32Array> {
    return flatParametersOf(this.config, await this.state.read(this.parameterNames))
  }

  /** Replaces the parameters and keeps the moments and the step, as a merge between peers does. */
  async setParameters(parameters: Parameters): Promise<void> {
    await this.state.write(residentParameters(this.config, parameters))
  }

  /** Forgets the moments and the steps done; the parameters stay. */
  async resetOptimiser(): Promise<void> {
    const parameters = this.parameterNames.map((name) => [name, this.state.specs[name]!] as const)
    await this.state.write(emptyMoments(Object.fromEntries(parameters), this.settings.optimiser))
    this.done = 0
  }

  async snapshot(): Promise<TrainerSnapshot> {
    return { step: this.done, state: await this.state.read(this.savedNames) }
  }

  /** @throws GroundswellError `train/state-mismatch` when the snapshot is of another model or optimiser */
  async restore(snapshot: TrainerSnapshot): Promise<void> {
    const expected = this.savedNames.map((name): [string, TensorSpec] => [name, this.state.specs[name]!])
    const fits =
      Object.keys(snapshot.state).length === expected.length &&
      expected.every(([name, { dtype, shape }]) => {
        const held = Object.hasOwn(snapshot.state, name) ? snapshot.state[name] : undefined
        return held?.dtype === dtype && held.shape.join() === shape.join()
      })
    if (!fits) {
      throw new GroundswellError('The training state belongs to another model.', {
        code: 'train/state-mismatch',
        remedy: 'Resume with the settings the run began with, or begin again.',
      })
    }
    await this.state.write(snapshot.state)
    this.done = snapshot.step
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.evaluation?.[Symbol.asyncDispose]()
    await this.runner[Symbol.asyncDispose]()
    await this.state[Symbol.asyncDispose]()
  }
}
