/**
 * SparseLoCo (Sarfi et al. 2025, https://arxiv.org/abs/2508.15706; run at scale by templar): DiLoCo's inner phase, of
 * whose pseudo-gradient each peer sends the largest values only and remembers the rest for later rounds:
 *
 *   e ← β e + (θ − θᵢ),   ê = Q(topk(e)) per tile of 4096,   e ← e − ê,   θ ← θ − α · mean of all ê
 *
 * The published constants: β = 0.95, k = 64, two-bit values, α = 1, no outer momentum (the error feedback already is
 * one), H = 15 … 250.
 *
 * The mean. The paper divides by all R peers; templar's code, like DeMo's, divides by those that sent the place, which
 * moves a place that one peer sent up to R times as far. Both are here. The default is the paper's: with it, what a
 * model moves is exactly the mean of what the peers sent, and what they sent plus what they hold is what they learnt, so
 * that no peer gains influence by sending what nobody else does.
 *
 * Overlap. The paper has none: a peer waits for the updates of its fellows. With τ > 0 it takes the next round's first τ steps
 * meanwhile, from its own parameters, and then goes on from θ plus what it has learnt in them, which the next
 * pseudo-gradient holds as it would hold any other step: late, but whole.
 *
 * The memory is a fixed-point number. When a tensor is encoded its e is rounded to multiples of q, a power of two about
 * 2⁻²³ of its largest value, and so are the codebook's values; so e − ê is a float32, and what is sent plus what is kept
 * is what there was, exactly.
 */
import { inParts } from '../core/index.ts'
import { normOf, type SparseAverage, sharesOf, sparseAdder } from './aggregate.ts'
import { diverged } from './dense-update.ts'
import { exponentOf } from './encoding-float16.ts'
import type { OwnParameters, SyncMethod, TensorLayout } from './method.ts'
import { sumsFor } from './outer-step.ts'
import {
  decodeSparse,
  encodeSparse,
  mostSparseBytes,
  type SparseTensor,
  sparseFormat,
} from './sparse-update.ts'
import { roundsTo } from './sparse-values.ts'
import { readState, requireSize, type StateFormat, stateFormatBytes, writeState } from './state-format.ts'
import { forEachTile, keptOf, tilingOf } from './tiles.ts'
import { largestMagnitude } from './wire.ts'

export interface SparseLocoOptions {
  /** H */
  readonly innerSteps: number
  /** τ, below H: inner steps of the next round that are taken while this one is merged. */
  readonly overlapSteps: number
  /** k: how many of 4096 values are sent. */
  readonly kept: number
  /** β: how much of what was not sent is remembered. */
  readonly errorDecay: number
  /** α */
  readonly outerLearningRate: number
  readonly values: 'float32' | 'int8' | 'int2'
  readonly average: SparseAverage
}

export interface SparseLocoState {
  readonly layout: TensorLayout
  readonly parameters: Float32Array // θ, [totalSize]
}

/** What one peer has learnt and not sent. */
export interface SparseLocoLocal {
  readonly layout: TensorLayout
  readonly memory: Float32Array // e, [totalSize]
}

export interface SparseLocoUpdate {
  readonly tensors: readonly SparseTensor[] // one per layout entry
}

const version = 1
const stateFormat: StateFormat = { magic: 'GSST', method: 'sparse-loco', version, counters: 0, arrays: 1 }
const localFormat: StateFormat = { ...stateFormat, magic: 'GSLO' }

export function sparseLoco(
  options: SparseLocoOptions,
): SyncMethod<SparseLocoState, SparseLocoLocal, SparseLocoUpdate> {
  const { innerSteps, overlapSteps, kept, errorDecay, outerLearningRate, values, average } = options
  const format = sparseFormat({ method: 'sparse-loco', version, values, kept })

  return {
    id: `sparse-loco/${version}`,
    quantity: 'parameters',
    innerSteps,
    overlapSteps,
    replicated: true,
    startsFromOwn: overlapSteps > 0,
    maximumUpdateBytes: (layout) => mostSparseBytes(format, layout),
    stateBytes: (layout) => stateFormatBytes(stateFormat, layout),

    createState: (layout, parameters) => {
      requireSize(parameters, layout)
      return { layout, parameters: parameters.slice() }
    },
    parameters: (state) => state.parameters,
    createLocal: (layout) => ({ layout, memory: new Float32Array(layout.totalSize) }),
    startRound: ({ parameters }, _, own) => {
      const wentOn = overlapSteps > 0 && own !== undefined && own.now !== own.handedIn
      return wentOn ? withProgress(parameters, own) : parameters
    },

    encodeUpdate: inParts(function* (input, layout) {
      requireSize(input.values, layout)
      const memory = new Float32Array(layout.totalSize)
      let tensor = memory
      let rounding = 0
      const bytes = yield* encodeSparse(format, layout, {
        begin: ({ offset, size }) => {
          tensor = memory.subarray(offset, offset + size)
          const theta = input.state.parameters.subarray(offset, offset + size)
          const own = input.values.subarray(offset, offset + size)
          const before = input.local.memory.subarray(offset, offset + size)
          const quantum = quantumFor(remember(tensor, before, theta, own, errorDecay))
          rounding = roundsTo(quantum)
          return quantum
        },
        fill: (tile, offset, height, width, columns) => {
          for (let row = 0; row < height; row++) {
            const start = offset + row * columns
            const from = row * width
            for (let i = 0; i < width; i++) {
              const value = tensor[start + i]! + rounding - rounding
              tensor[start + i] = value
              tile[from + i] = value
            }
          }
        },
        sent: (_, { places, values: sent }) => {
          for (let i = 0; i < places.length; i++) {
            const at = places[i]!
            tensor[at] = tensor[at]! - sent[i]!
          }
        },
      })
      return { bytes, local: { layout, memory } }
    }),
    decodeUpdate: (bytes, layout) => ({ tensors: decodeSparse(format, layout, bytes) }),
    updateNorm: ({ tensors }) => normOf(tensors),

    merge: inParts(function* (state, contributions, context) {
      const { layout } = state
      const shares = sharesOf(contributions)
      const parameters = state.parameters.slice()
      const sums = sumsFor(layout.entries)
      for (const [index, entry] of layout.entries.entries()) {
        const { offset, size } = entry
        const tensors = contributions.map(({ update }) => update.tensors[index]!)
        const sum = sums.subarray(0, size)
        const theta = parameters.subarray(offset, offset + size)
        const add = sparseAdder(tensors, shares, average, context)
        let from = 0
        forEachTile(tilingOf(entry), (_, height, width) => {
          const to = from + keptOf(height * width, kept)
          add(sum, from, to)
          for (const { places } of tensors) stepAt(theta, places, sum, outerLearningRate, from, to)
          from = to
        })
        yield
      }
      return { layout, parameters }
    }),

    serialiseState: ({ layout, parameters }) =>
      writeState(stateFormat, layout, { counters: [], arrays: [parameters] }),
    parseState: (bytes, layout) => ({
      layout,
      parameters: readState(bytes, stateFormat, layout).arrays[0]!,
    }),
    serialiseLocal: ({ layout, memory }) =>
      writeState(localFormat, layout, { counters: [], arrays: [memory] }),
    parseLocal: (bytes, layout) => ({ layout, memory: readState(bytes, localFormat, layout).arrays[0]! }),
  }
}

/** θ + what a peer has learnt since it handed in. */
function withProgress(theta: Float32Array, { handedIn, now }: OwnParameters): Float32Array {
  const next = new Float32Array(theta.length)
  for (let i = 0; i < next.length; i++) next[i] = theta[i]! + (now[i]! - handedIn[i]!)
  return next
}

/** θ ← θ − α · mean at the places `from` up to `to`, whose means are then 0, so that no place moves twice. */
function stepAt(
  theta: Float32Array,
  places: Uint32Array,
  mean: Float64Array,
  rate: number,
  from: number,
  to: number,
): void {
  for (let i = from; i < to; i++) {
    const place = places[i]!
    theta[place] = theta[place]! - rate * mean[place]!
    mean[place] = 0
  }
}

/** e ← βe + θ − θᵢ into `target`; the largest magnitude in it. @throws GroundswellError `sync/diverged` */
function remember(
  target: Float32Array,
  before: Float32Array,
  theta: Float32Array,
  own: Float32Array,
  decay: number,
): number {
  let largest = 0
  for (let i = 0; i < target.length; i++) {
    const value = decay * before[i]! + (theta[i]! - own[i]!)
    target[i] = value
    largest = Math.max(largest, Math.abs(value)) // NaN, once there was one
  }
  if (!(largest <= largestMagnitude)) throw diverged()
  return largest
}

/** q: so that all are whole numbers of it up to 2²³, and the difference of two is at most 2²⁴ and a float32. */
function quantumFor(largest: number): number {
  return largest === 0 ? 0 : 2 ** Math.max(exponentOf(Math.fround(largest)) - 22, -149)
}
