/**
 * The programs of one optimiser step, and how they make a step on a backend. Which programs there are depends on the
 * number of batches only in being one or several: 65,536 batches compile as fast as two.
 */
import { GroundswellError, orDispose } from '../core/index.ts'
import type { Backend, Executable, HostTensor, State } from '../runtime/index.ts'
import { emitOnnx, type Program } from '../tensor/index.ts'
import {
  buildApplyStep,
  buildGradientStep,
  buildTrainStep,
  emptyGradientSums,
  type GradientStepOptions,
  type TrainStepOptions,
} from './step.ts'

export type StepOptions = TrainStepOptions & GradientStepOptions

/** The programs that together make one step, by name. */
export function stepPrograms(options: StepOptions): Record<string, Program> {
  return options.gradientAccumulation === 1
    ? { 'train-step': buildTrainStep(options) }
    : { 'gradient-step': buildGradientStep(options), 'apply-step': buildApplyStep(options) }
}

interface StepInputs {
  /** [batchSize · gradientAccumulation, sequenceLength + 1], row-major. */
  readonly tokens: Int32Array
  readonly learningRate: number
  /** Counted from 1. */
  readonly step: number
}

/** The mean loss of the batches, and the norm of their mean gradient before clipping. */
interface StepOutcome {
  readonly loss: number
  readonly gradientNorm: number
}

export interface StepRunner extends AsyncDisposable {
  readonly compileMs: number
  /** What the state must hold besides the training state. It is the same between any two steps: not to be saved. */
  scratch(): Record<string, HostTensor>
  run(state: State, inputs: StepInputs): Promise<StepOutcome>
}

/** The programs are built for the place where the backend runs them. */
export function compileStep(backend: Backend, given: Omit<StepOptions, 'place'>): Promise<StepRunner> {
  const options: StepOptions = { ...given, place: backend.place }
  return options.gradientAccumulation === 1 ? compileOne(backend, options) : compileTwo(backend, options)
}

async function compileOne(backend: Backend, options: StepOptions): Promise<StepRunner> {
  const trainStep = await compile(backend, buildTrainStep(options))
  return {
    compileMs: trainStep.compileMs,
    scratch: () => ({}),
    run: async (state, { tokens, learningRate, step }) => {
      const outputs = await trainStep.run(state, {
        tokens: batchOf(trainStep, tokens),
        learningRate: scalar(learningRate),
        step: scalar(step),
      })
      return { loss: numberIn(outputs.loss), gradientNorm: numberIn(outputs.gradientNorm) }
    },
    [Symbol.asyncDispose]: () => trainStep[Symbol.asyncDispose](),
  }
}

async function compileTwo(backend: Backend, options: StepOptions): Promise<StepRunner> {
  const { config, batchSize, sequenceLength, gradientAccumulation } = options
  const gradientStep = await compile(backend, buildGradientStep(options))
  const applyStep = await orDispose(gradientStep, () => compile(backend, buildApplyStep(options)))
  const batchLength = batchSize * (sequenceLength + 1)
  const scratch = (): Record<string, HostTensor> => emptyGradientSums(config)
  // A step that failed half-way, or whose gradient was no number, leaves something in the sums.
  let sumsAreZero = true
  return {
    compileMs: gradientStep.compileMs + applyStep.compileMs,
    scratch,
    run: async (state, { tokens, learningRate, step }) => {
      if (tokens.length !== batchLength * gradientAccumulation) {
        throw new GroundswellError(
          `A step takes ${batchLength * gradientAccumulation} tokens, but was given ${tokens.length}.`,
          { code: 'train/tokens' },
        )
      }
      if (!sumsAreZero) await state.write(scratch())
      sumsAreZero = false
      let total = 0
      // Each loss is waited for, so that no more than one batch is ever under way on a device that runs ahead.
      for (let start = 0; start < tokens.length; start += batchLength) {
        const batch = tokens.subarray(start, start + batchLength)
        const { loss } = await gradientStep.run(state, { tokens: batchOf(gradientStep, batch) })
        total += numberIn(loss)
      }
      const outputs = await applyStep.run(state, { learningRate: scalar(learningRate), step: scalar(step) })
      const gradientNorm = numberIn(outputs.gradientNorm)
      sumsAreZero = Number.isFinite(gradientNorm)
      return { loss: total / gradientAccumulation, gradientNorm }
    },
    [Symbol.asyncDispose]: async () => {
      await gradientStep[Symbol.asyncDispose]()
      await applyStep[Symbol.asyncDispose]()
    },
  }
}

function compile(backend: Backend, program: Program): Promise<Executable> {
  return backend.compile(emitOnnx(program, { dialect: backend.dialect }))
}

function batchOf({ program }: Executable, data: Int32Array): HostTensor {
  return { dtype: 'int32', shape: program.inputs.tokens!.shape, data }
}

function scalar(value: number): HostTensor {
  return { dtype: 'float32', shape: [], data: Float32Array.of(value) }
}

function numberIn(tensor: HostTensor | undefined): number {
  return tensor!.data[0]!
}
