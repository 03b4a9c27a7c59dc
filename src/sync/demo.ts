/**
 * DeMo (Peng, Quesnelle, Kingma 2024, https://arxiv.org/abs/2411.19870) and DisTrO, the form of it that Psyche runs:
 * peers exchange at every step, but only the few largest cosine coefficients of their momentum, and step by the sign:
 *
 *   δ ← β δ + η g,   q = topk(DCT δ) per tile of 64 × 64,   δ ← δ − DCT⁻¹ q
 *   θ ← θ (1 − ηλ) − η · sign(DCT⁻¹(mean of all q))
 *
 * The mean of a coefficient is over those that sent it, as in both codebases (`average`). Published: β = 0.999, 32 of
 * 4096 kept, λ = 0.
 *
 * DisTrO differs in three ways, which `distro` sets together. Values travel as signs; what is taken out of δ is the
 * coefficient as it was, so the error of the sign is not fed back. The results of a round are applied by the merge of the
 * next one, so that their exchange has a whole round: they wait in the state as signs, where a late joiner finds them.
 * And because a peer's own contribution is under way meanwhile, it takes its gradient at θ − η·sign(δ), with what it has
 * just sent still in δ. Psyche runs: β = 0.999 or 0.995, 4 or 8 of 4096 kept, λ = 0.1.
 *
 * Weight decay is part of the merge and so of the replicated state. (In Psyche each client decays its own parameters
 * while it prepares its results; one whose training is cancelled misses it and drifts.)
 */
import { inParts } from '../core/index.ts'
import { normOf, type SparseAverage, sharesOf, sparseAdder } from './aggregate.ts'
import { TileTransform } from './dct.ts'
import { diverged } from './dense-update.ts'
import type { SyncMethod, TensorEntry, TensorLayout } from './method.ts'
import { sumsFor } from './outer-step.ts'
import {
  decodeSparse,
  encodeSparse,
  mostSparseBytes,
  type SparseTensor,
  sparseFormat,
} from './sparse-update.ts'
import { readState, requireSize, type StateFormat, stateFormatBytes, writeState } from './state-format.ts'
import { forEachTile, keptOf, tilingOf } from './tiles.ts'
import { allWithin, largestMagnitude, refuse, refusedLocal, refusedState } from './wire.ts'

export interface DemoOptions {
  /** β */
  readonly momentumDecay: number
  /** k: how many of 4096 coefficients are sent. */
  readonly kept: number
  readonly values: 'float16' | 'int8' | 'sign'
  readonly average: SparseAverage
  /** λ */
  readonly weightDecay: number
}

export interface DemoState {
  readonly layout: TensorLayout
  readonly parameters: Float32Array // θ, [totalSize]
  /** DisTrO: the signs that the next merge applies, [totalSize]. */
  readonly pending: Float32Array | undefined
}

export interface DemoLocal {
  readonly layout: TensorLayout
  readonly momentum: Float32Array // δ, [totalSize]
  /** DisTrO: what was sent last and is still in δ, [totalSize]. */
  readonly sent: Float32Array | undefined
  /** The η of the last step, for the look ahead. */
  readonly learningRate: number
}

export interface DemoUpdate {
  readonly tensors: readonly SparseTensor[] // one per layout entry, in coefficients
}

const version = 1

export const demo = (options: DemoOptions): SyncMethod<DemoState, DemoLocal, DemoUpdate> =>
  decoupledMomentum('demo', options)

export const distro = (options: Omit<DemoOptions, 'values'>): SyncMethod<DemoState, DemoLocal, DemoUpdate> =>
  decoupledMomentum('distro', { ...options, values: 'sign' })

function decoupledMomentum(
  method: 'demo' | 'distro',
  options: DemoOptions,
): SyncMethod<DemoState, DemoLocal, DemoUpdate> {
  const { momentumDecay, kept, values, average, weightDecay } = options
  const overlaps = method === 'distro'
  const format = sparseFormat({ method, version, values, kept })
  const arrays = overlaps ? 2 : 1
  const stateFormat: StateFormat = { magic: 'GSST', method, version, counters: 0, arrays }
  const localFormat: StateFormat = { magic: 'GSLO', method, version, counters: 1, arrays }
  const transform = new TileTransform()

  return {
    id: `${method}/${version}`,
    quantity: 'gradient',
    innerSteps: 1,
    overlapSteps: 0,
    replicated: true,
    maximumUpdateBytes: (layout) => mostSparseBytes(format, layout),
    stateBytes: (layout) => stateFormatBytes(stateFormat, layout),

    createState: (layout, parameters) => {
      requireSize(parameters, layout)
      const pending = overlaps ? new Float32Array(layout.totalSize) : undefined
      return { layout, parameters: parameters.slice(), pending }
    },
    parameters: (state) => state.parameters,
    createLocal: (layout) => ({
      layout,
      momentum: new Float32Array(layout.totalSize),
      sent: overlaps ? new Float32Array(layout.totalSize) : undefined,
      learningRate: 0,
    }),

    startRound: ({ parameters }, { momentum, learningRate }) =>
      overlaps ? parameters.map((value, i) => value - learningRate * Math.sign(momentum[i]!)) : parameters,

    encodeUpdate: inParts(function* ({ local, values: gradient, learningRate }, layout) {
      requireSize(gradient, layout)
      const momentum = new Float32Array(layout.totalSize)
      const sent = overlaps ? new Float32Array(layout.totalSize) : undefined
      let tensor: TensorMomentum | undefined
      const bytes = yield* encodeSparse(format, layout, {
        begin: ({ offset, size }) => {
          const of = (whole: Float32Array): Float32Array => whole.subarray(offset, offset + size)
          const before = { momentum: of(local.momentum), sent: local.sent && of(local.sent) }
          tensor = { before, gradient: of(gradient), momentum: of(momentum) }
          return 0
        },
        fill: (coefficients, offset, height, width, columns) => {
          const { tile } = transform
          const factors = { decay: momentumDecay, rate: learningRate }
          for (let row = 0; row < height; row++) {
            accumulate(tensor!, offset + row * columns, width, factors, tile, row * width)
          }
          transform.forward(height, width)
          for (let i = 0; i < height * width; i++) coefficients[i] = tile[i]!
        },
        sent: (entry, { places, values: read }, coefficients) => {
          const kept = { places, values: values === 'sign' ? coefficients : read, ofTile: format.kept }
          const { offset, size } = entry
          const target = sent === undefined ? tensor!.momentum : sent.subarray(offset, offset + size)
          inverseOfKept(transform, entry, kept, target, sent === undefined)
        },
      })
      return { bytes, local: { layout, momentum, sent, learningRate: Math.fround(learningRate) } }
    }),
    decodeUpdate: (bytes, layout) => ({ tensors: decodeSparse(format, layout, bytes) }),
    updateNorm: ({ tensors }) => normOf(tensors),

    merge: inParts(function* (state, contributions, context) {
      const { layout } = state
      const { learningRate } = context
      const shares = sharesOf(contributions)
      const keep = 1 - learningRate * weightDecay
      const parameters = new Float32Array(layout.totalSize)
      const pending = state.pending === undefined ? undefined : new Float32Array(layout.totalSize)
      const sums = sumsFor(layout.entries)
      for (const [index, entry] of layout.entries.entries()) {
        const { offset, size } = entry
        const sum = sums.subarray(0, size).fill(0)
        const tensors = contributions.map(({ update }) => update.tensors[index]!)
        sparseAdder(tensors, shares, average, context)(sum, 0, tensors[0]!.places.length)
        invert(transform, entry, sum)
        stepBySigns({ layout, parameters, pending }, state, offset, sum, { keep, learningRate })
        yield
      }
      return { layout, parameters, pending }
    }),

    serialiseState: ({ layout, parameters, pending }) =>
      writeState(stateFormat, layout, {
        counters: [],
        arrays: pending === undefined ? [parameters] : [parameters, pending],
      }),
    parseState: (bytes, layout) => {
      const [parameters, pending] = readState(bytes, stateFormat, layout).arrays
      if (pending !== undefined && !allWithin(pending, 1)) refuse(refusedState, 'holds signs beyond ±1')
      return { layout, parameters: parameters!, pending }
    },
    serialiseLocal: ({ layout, momentum, sent, learningRate }) =>
      writeState(localFormat, layout, {
        counters: [bitsOfFloat(learningRate)],
        arrays: sent === undefined ? [momentum] : [momentum, sent],
      }),
    parseLocal: (bytes, layout) => {
      const { counters, arrays } = readState(bytes, localFormat, layout)
      const [momentum, sent] = arrays
      const learningRate = floatOfBits(counters[0]!)
      if (!Number.isFinite(learningRate)) refuse(refusedLocal, 'holds a learning rate that is not finite')
      return { layout, momentum: momentum!, sent, learningRate }
    },
  }
}

/** θ ← θ (1 − ηλ) − η · sign, of one tensor: with the signs of `mean`, or those that waited while these wait now. */
function stepBySigns(
  next: DemoState,
  state: DemoState,
  offset: number,
  mean: Float64Array,
  { keep, learningRate }: { readonly keep: number; readonly learningRate: number },
): void {
  for (let i = 0; i < mean.length; i++) {
    const at = offset + i
    const fresh = Math.sign(mean[i]!)
    const applied = state.pending === undefined ? fresh : state.pending[at]!
    if (next.pending !== undefined) next.pending[at] = fresh
    next.parameters[at] = state.parameters[at]! * keep - learningRate * applied
  }
}

/** One tensor's part of what an update is made of. */
interface TensorMomentum {
  readonly before: { readonly momentum: Float32Array; readonly sent: Float32Array | undefined }
  readonly gradient: Float32Array
  readonly momentum: Float32Array
}

/**
 * δ ← β (δ − what was sent) + η g for `count` values from `start` on, which also go to `target` from `at` on.
 * @throws GroundswellError `sync/diverged`
 */
function accumulate(
  { before: { momentum: before, sent }, gradient, momentum }: TensorMomentum,
  start: number,
  count: number,
  { decay, rate }: { readonly decay: number; readonly rate: number },
  target: Float64Array,
  at: number,
): void {
  let largest = 0
  for (let i = 0; i < count; i++) {
    const from = start + i
    const rest = sent === undefined ? before[from]! : before[from]! - sent[from]!
    const value = decay * rest + rate * gradient[from]!
    largest = Math.max(largest, Math.abs(value)) // NaN, once there was one
    momentum[from] = value
    target[at + i] = Math.fround(value)
  }
  if (!(largest <= largestMagnitude)) throw diverged()
}

/**
 * What a tensor with no coefficients but the kept ones was: taken from `target`, or in its place. Places are those of one tile after
 * the other.
 */
function inverseOfKept(
  transform: TileTransform,
  entry: TensorEntry,
  {
    places,
    values,
    ofTile,
  }: { readonly places: Uint32Array; readonly values: Float32Array; readonly ofTile: number },
  target: Float32Array,
  takesAway: boolean,
): void {
  const tiling = tilingOf(entry)
  const { columns } = tiling
  const { tile } = transform
  let next = 0
  forEachTile(tiling, (offset, height, width) => {
    const size = height * width
    tile.fill(0, 0, size)
    for (const end = next + keptOf(size, ofTile); next < end; next++) {
      const place = places[next]! - offset
      const row = Math.floor(place / columns)
      tile[row * width + place - row * columns] = values[next]!
    }
    transform.inverse(height, width)
    for (let row = 0; row < height; row++) {
      const start = offset + row * columns
      const from = row * width
      if (takesAway) for (let i = 0; i < width; i++) target[start + i] = target[start + i]! - tile[from + i]!
      else for (let i = 0; i < width; i++) target[start + i] = tile[from + i]!
    }
  })
}

/** The inverse transform of a tensor of coefficients in its own place. */
function invert(transform: TileTransform, entry: TensorEntry, tensor: Float64Array): void {
  const tiling = tilingOf(entry)
  const { columns } = tiling
  const { tile } = transform
  forEachTile(tiling, (offset, height, width) => {
    for (let row = 0; row < height; row++) {
      const start = offset + row * columns
      for (let i = 0; i < width; i++) tile[row * width + i] = tensor[start + i]!
    }
    transform.inverse(height, width)
    for (let row = 0; row < height; row++) {
      const start = offset + row * columns
      for (let i = 0; i < width; i++) tensor[start + i] = tile[row * width + i]!
    }
  })
}

function bitsOfFloat(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0]!
}

function floatOfBits(bits: number): number {
  return new Float32Array(Uint32Array.of(bits).buffer)[0]!
}
