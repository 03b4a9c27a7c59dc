/**
 * Gradients without steps, for peers that exchange gradients and let the run's outer optimiser use them: one model's
 * parameters, resident on a backend, and the mean gradient of one batch after another at those parameters.
 */
import { GroundswellError, orDispose } from '../core/index.ts'
import { flatParametersOf, type LlamaConfig, type Parameters } from '../model/index.ts'
import type { Backend, Executable, State } from '../runtime/index.ts'
import { emitOnnx, type Program } from '../tensor/index.ts'
import { buildGradientStep, emptyGradientSums, type GradientStepOptions, residentParameters } from './step.ts'
import type { TrainerSettings } from './trainer.ts'

export interface GradientTrainerOptions {
  readonly backend: Backend
  readonly config: LlamaConfig
  readonly parameters: Parameters
  readonly settings: Pick<TrainerSettings, 'batchSize' | 'sequenceLength' | 'gradientAccumulation'>
}

export interface GradientReport {
  /** Mean cross-entropy of the batch in nats per token. */
  readonly loss: number
  /** Tokens that were predicted. */
  readonly tokens: number
  /** In the order of `layoutOf`, as the parameters; not clipped: [totalSize]. */
  readonly gradient: Float32Array
}

/** The program with which peers of such a run compute, by name. */
export function gradientPrograms(options: GradientStepOptions): Record<string, Program> {
  return { 'gradient-step': buildGradientStep(options) }
}

export class GradientTrainer implements AsyncDisposable {
  private readonly options: GradientTrainerOptions
  private readonly executable: Executable
  private readonly state: State

  private constructor(options: GradientTrainerOptions, executable: Executable, state: State) {
    this.options = options
    this.executable = executable
    this.state = state
  }

  static async create(options: GradientTrainerOptions): Promise<GradientTrainer> {
    const { backend, config, parameters, settings } = options
    const { dialect, place } = backend
    const program = buildGradientStep({ config, ...settings, place })
    return orDispose(await backend.compile(emitOnnx(program, { dialect })), async (executable) => {
      const state = await backend.createState({
        ...residentParameters(config, parameters),
        ...emptyGradientSums(config),
      })
      return new GradientTrainer(options, executable, state)
    })
  }

  /**
   * @param tokens int32 [batchSize · gradientAccumulation, sequenceLength + 1], row-major
   * @throws GroundswellError `train/diverged` when the loss is no number
   */
  async gradient(tokens: Int32Array): Promise<GradientReport> {
    const { config, settings } = this.options
    const { batchSize, sequenceLength, gradientAccumulation } = settings
    const sums = emptyGradientSums(config)
    await this.state.write(sums)
    const batchLength = batchSize * (sequenceLength + 1)
    if (tokens.length !== batchLength * gradientAccumulation) {
      throw new GroundswellError(
        `A gradient takes ${batchLength * gradientAccumulation} tokens, but was given ${tokens.length}.`,
        { code: 'train/tokens' },
      )
    }
    const { shape } = this.executable.program.inputs.tokens!
    let total = 0
    for (let start = 0; start < tokens.length; start += batchLength) {
      const data = tokens.subarray(start, start + batchLength)
      const outputs = await this.executable.run(this.state, { tokens: { dtype: 'int32', shape, data } })
      total += outputs.loss!.data[0]!
    }
    const loss = total / gradientAccumulation
    if (!Number.isFinite(loss)) {
      throw new GroundswellError(`Training diverged: the loss is ${loss}.`, {
        code: 'train/diverged',
        remedy: 'Lower training.optimiser.learningRate, or lengthen the warm-up.',
      })
    }
    const read = await this.state.read(Object.keys(sums))
    // As parameters lie on the backend, so do the sums: under a longer name.
    const named = Object.entries(read).map(([name, sum]) => [name.slice('gradients.'.length), sum] as const)
    const gradient = flatParametersOf(config, Object.fromEntries(named))
    return { loss, tokens: batchSize * gradientAccumulation * sequenceLength, gradient }
  }

  async setParameters(parameters: Parameters): Promise<void> {
    await this.state.write(residentParameters(this.options.config, parameters))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.executable[Symbol.asyncDispose]()
    await this.state[Symbol.asyncDispose]()
  }
}
