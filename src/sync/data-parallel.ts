/**
 * Data parallelism, the method that the others are measured against: peers exchange their mean gradients at every step
 * and take the same step of AdamW from their weighted mean. The gradient is clipped to a global norm, decay is decoupled,
 * and moments are corrected for their start exactly as in the training step of train/ (whose apply program the tests
 * compare with), but the moments are part of the replicated state, so that a late joiner has them.
 *
 *   g = Σ wᵢ gᵢ · min(1, c/(‖Σ wᵢ gᵢ‖ + 10⁻⁶)),   M ← β₁ M + g,   V ← β₂ V + g²
 *   θ ← θ (1 − ηλ) − η (1 − β₁)/((1 − β₁ᵗ) κ) · M/(√V + ε/κ),   κ = √((1 − β₂)/(1 − β₂ᵗ))
 *
 * η comes from the schedule through the context. Everything is computed in float64 and rounded to float32 where it is
 * kept; powers of β are products, as the engines' own differ in the last bits.
 */
import { inParts } from '../core/index.ts'
import { isDecayed, type OptimiserSettings } from '../train/index.ts'
import { addShares, type DecodedTensor, normOf, sharesOf } from './aggregate.ts'
import { decodeDense, denseBytes, encodeDense } from './dense-update.ts'
import type { EncodingName } from './encodings.ts'
import type { SyncMethod, TensorLayout } from './method.ts'
import {
  noLocal,
  readState,
  requireSize,
  type StateFormat,
  stateFormatBytes,
  writeState,
} from './state-format.ts'
import { frameBytes, refuse, refusedState } from './wire.ts'

export interface DataParallelOptions {
  readonly encoding: EncodingName
  /** Its learning rate is not read: the one of the round comes with the merge. */
  readonly optimiser: OptimiserSettings
}

export interface DataParallelState {
  readonly layout: TensorLayout
  /** Steps taken. */
  readonly step: number
  readonly parameters: Float32Array // θ, [totalSize]
  readonly firstMoment: Float32Array // M = Σ β₁ⁱ g, [totalSize]
  readonly secondMoment: Float32Array // V = Σ β₂ⁱ g², [totalSize]
}

export interface DataParallelUpdate {
  readonly tensors: readonly DecodedTensor[] // one per layout entry
}

const version = 1
/** They are counted in 32 bits. */
const mostSteps = 2 ** 32 - 1
const stateFormat: StateFormat = { magic: 'GSST', method: 'data-parallel', version, counters: 1, arrays: 3 }

export function dataParallel(
  options: DataParallelOptions,
): SyncMethod<DataParallelState, null, DataParallelUpdate> {
  const { encoding, optimiser } = options
  const format = { method: 'data-parallel', version, encoding } as const

  return {
    ...noLocal,
    id: `data-parallel/${version}`,
    quantity: 'gradient',
    innerSteps: 1,
    overlapSteps: 0,
    replicated: true,
    maximumUpdateBytes: ({ entries }) => frameBytes + denseBytes(encoding, entries),
    stateBytes: (layout) => stateFormatBytes(stateFormat, layout),

    createState: (layout, parameters) => {
      requireSize(parameters, layout)
      return {
        layout,
        step: 0,
        parameters: parameters.slice(),
        firstMoment: new Float32Array(layout.totalSize),
        secondMoment: new Float32Array(layout.totalSize),
      }
    },
    parameters: (state) => state.parameters,
    startRound: (state) => state.parameters,

    encodeUpdate: inParts(function* ({ local, values }, layout) {
      requireSize(values, layout)
      return { bytes: yield* encodeDense(format, layout, values), local }
    }),
    decodeUpdate: (bytes, layout) => ({ tensors: decodeDense(format, layout, bytes) }),
    updateNorm: ({ tensors }) => normOf(tensors),

    merge: inParts(function* (state, contributions, context) {
      const { layout } = state
      const shares = sharesOf(contributions)
      const gradient = new Float64Array(layout.totalSize)
      for (const [index, { offset, size }] of layout.entries.entries()) {
        const tensors = contributions.map(({ update }) => update.tensors[index]!)
        addShares(gradient.subarray(offset, offset + size), tensors, shares, context)
        yield
      }
      return adamwStep(state, gradient, optimiser, context.learningRate)
    }),

    serialiseState: ({ layout, step, parameters, firstMoment, secondMoment }) =>
      writeState(stateFormat, layout, { counters: [step], arrays: [parameters, firstMoment, secondMoment] }),
    parseState: (bytes, layout) => {
      const { counters, arrays } = readState(bytes, stateFormat, layout)
      const step = counters[0]!
      const [parameters, firstMoment, secondMoment] = arrays as [Float32Array, Float32Array, Float32Array]
      if (!noneNegative(secondMoment)) refuse(refusedState, 'holds a second moment below 0')
      if (step === mostSteps) refuse(refusedState, 'has no room for another step')
      return { layout, step, parameters, firstMoment, secondMoment }
    },
  }
}

function adamwStep(
  state: DataParallelState,
  gradient: Float64Array,
  optimiser: OptimiserSettings,
  learningRate: number,
): DataParallelState {
  const { layout } = state
  const { beta1, beta2, epsilon, weightDecay, clipNorm } = optimiser
  const step = state.step + 1
  let squares = 0
  for (let i = 0; i < gradient.length; i++) squares += gradient[i]! * gradient[i]!
  const clip = clipNorm > 0 ? Math.min(1, clipNorm / (Math.sqrt(squares) + 1e-6)) : 1
  const kappa = Math.sqrt((1 - beta2) / (1 - power(beta2, step)))
  const stepSize = (learningRate * (1 - beta1)) / ((1 - power(beta1, step)) * kappa)
  const addend = epsilon / kappa
  const parameters = new Float32Array(layout.totalSize)
  const firstMoment = new Float32Array(layout.totalSize)
  const secondMoment = new Float32Array(layout.totalSize)
  for (const { name, offset, size } of layout.entries) {
    const keep = isDecayed(name, optimiser) ? 1 - learningRate * weightDecay : 1
    for (let i = offset; i < offset + size; i++) {
      const value = gradient[i]! * clip
      const first = Math.fround(beta1 * state.firstMoment[i]! + value)
      const second = Math.fround(beta2 * state.secondMoment[i]! + value * value)
      firstMoment[i] = first
      secondMoment[i] = second
      parameters[i] = state.parameters[i]! * keep - (stepSize * first) / (Math.sqrt(second) + addend)
    }
  }
  return { layout, step, parameters, firstMoment, secondMoment }
}

/** Squares add up to nothing else, and there will be a root of it. */
function noneNegative(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (values[i]! < 0) return false
  return true
}

/** baseⁿ by squaring. */
function power(base: number, exponent: number): number {
  let result = 1
  let square = base
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result *= square
    square *= square
  }
  return result
}
