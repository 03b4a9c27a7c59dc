/**
 * The validation loss of parameters that nobody trains here: what a host measures of a run's checkpoints. Without
 * gradients and moments it takes a fraction of a trainer's memory.
 */
import { GroundswellError, orDispose, throwIfAborted } from '../core/index.ts'
import type { LlamaConfig, Parameters } from '../model/index.ts'
import type { Backend, Executable, State } from '../runtime/index.ts'
import { emitOnnx } from '../tensor/index.ts'
import { buildEvaluation } from './evaluation.ts'
import { residentParameters } from './step.ts'

export interface EvaluatorOptions {
  readonly backend: Backend
  readonly config: LlamaConfig
  readonly parameters: Parameters
  readonly batchSize: number
  readonly sequenceLength: number
}

export class Evaluator implements AsyncDisposable {
  private readonly config: LlamaConfig
  private readonly evaluation: Executable
  private readonly state: State

  private constructor(config: LlamaConfig, evaluation: Executable, state: State) {
    this.config = config
    this.evaluation = evaluation
    this.state = state
  }

  static async create(options: EvaluatorOptions): Promise<Evaluator> {
    const { backend, config, parameters } = options
    return orDispose(await compileEvaluation(backend, config, options), async (evaluation) => {
      const state = await backend.createState(residentParameters(config, parameters))
      return new Evaluator(config, evaluation, state)
    })
  }

  async setParameters(parameters: Parameters): Promise<void> {
    await this.state.write(residentParameters(this.config, parameters))
  }

  /** Mean cross-entropy over batches of int32 [batchSize, sequenceLength + 1], in nats per token. */
  evaluate(batches: Iterable<Int32Array>, signal?: AbortSignal): Promise<number> {
    return meanLoss(batches, (tokens) => lossOf(this.evaluation, this.state, tokens), signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.evaluation[Symbol.asyncDispose]()
    await this.state[Symbol.asyncDispose]()
  }
}

export function compileEvaluation(
  backend: Backend,
  config: LlamaConfig,
  { batchSize, sequenceLength }: { readonly batchSize: number; readonly sequenceLength: number },
): Promise<Executable> {
  const { dialect, place } = backend
  const program = buildEvaluation({ config, batchSize, sequenceLength, place })
  return backend.compile(emitOnnx(program, { dialect }))
}

/** The loss of one batch. */
export async function lossOf(evaluation: Executable, state: State, tokens: Int32Array): Promise<number> {
  const { shape } = evaluation.program.inputs.tokens!
  const outputs = await evaluation.run(state, { tokens: { dtype: 'int32', shape, data: tokens } })
  return outputs.loss!.data[0]!
}

/** @throws GroundswellError `train/no-validation` when there is no batch */
export async function meanLoss(
  batches: Iterable<Int32Array>,
  loss: (tokens: Int32Array) => Promise<number>,
  signal?: AbortSignal,
): Promise<number> {
  let total = 0
  let count = 0
  for (const tokens of batches) {
    throwIfAborted(signal)
    total += await loss(tokens)
    count++
  }
  if (count > 0) return total / count
  throw new GroundswellError('There is no validation batch: too little text is held out.', {
    code: 'train/no-validation',
    remedy: 'Raise data.heldOutFraction, add text, or shorten training.sequenceLength.',
  })
}
