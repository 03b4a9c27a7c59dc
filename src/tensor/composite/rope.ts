/**
 * Rotary position embedding (Su et al., https://arxiv.org/abs/2104.09864) as Llama in `transformers` computes
 * it: the first and the second half of a head are the two coordinates that are turned, by an angle of
 * position·θ^(−2i/d).
 */
import { cast, cos, mul, sin } from '../operations/elementwise.ts'
import { gather } from '../operations/indexing.ts'
import { constant, iota } from '../operations/leaves.ts'
import { rotate } from '../operations/rotate.ts'
import { reshape } from '../operations/shape.ts'
import { normaliseAxis, requireDType, shapeError } from '../rules.ts'
import type { Tensor } from '../tensor.ts'

export interface RopeOptions {
  /** Base of the angles; Llama's `rope_theta`. */
  readonly theta?: number
  /** Angles per position, headDim/2 of them, in place of those that follow from `theta` (scaled variants). */
  readonly frequencies?: readonly number[]
  /**
   * The axis of positions: −2 for [batch, heads, sequence, headDim], −3 for [batch, sequence, heads,
   * headDim].
   */
  readonly sequenceAxis?: number
  /** int32 [sequence], if the positions are not 0, 1, 2 … */
  readonly positions?: Tensor
  /**
   * One more than the largest of `positions`. With it the angles are read from a table that is made when the
   * program is loaded; without it sine and cosine are computed at every run, which on a GPU costs four
   * digits.
   */
  readonly maxPositions?: number
}

/** Turns the last axis of `x` by its position. */
export function rope(x: Tensor, options: RopeOptions = {}): Tensor {
  const { cosine, sine } = ropeAngles(x, options)
  return rotate(x, cosine, sine)
}

/** Cosine and sine for `x`, shaped to broadcast against one half of its last axis. */
function ropeAngles(x: Tensor, options: RopeOptions): { cosine: Tensor; sine: Tensor } {
  const rank = x.shape.length
  const headDim = x.shape.at(-1)
  if (headDim === undefined || headDim % 2 !== 0)
    throw shapeError('rope', 'needs a last axis of even length', [x])
  const axis = normaliseAxis('rope', options.sequenceAxis ?? -2, x)
  if (axis === rank - 1) throw shapeError('rope', 'the axis of positions cannot be the last', [x])
  const length = x.shape[axis]!
  const { positions, maxPositions } = options
  if (positions !== undefined) requireDType('rope', [positions], 'int32')
  if (positions !== undefined && (positions.shape.length !== 1 || positions.shape[0] !== length)) {
    throw shapeError('rope', `needs one position for each of the ${length} along axis ${axis}`, [
      x,
      positions,
    ])
  }
  const frequencies = options.frequencies ?? ropeFrequencies(headDim, options.theta ?? 10_000)
  if (frequencies.length !== headDim / 2) {
    throw shapeError('rope', `${frequencies.length} frequencies for ${headDim / 2} pairs`, [x])
  }
  const anglesAt = (rows: Tensor): Tensor =>
    mul(reshape(cast(rows, 'float32'), [-1, 1]), constant(frequencies, [1, headDim / 2]))
  const shape = [length, ...x.shape.slice(axis + 1, -1).map(() => 1), headDim / 2]
  const [cosine, sine] = [cos, sin].map((curve) => {
    if (positions === undefined) return reshape(curve(anglesAt(iota(length))), shape)
    if (maxPositions === undefined) return reshape(curve(anglesAt(positions)), shape)
    return reshape(gather(curve(anglesAt(iota(maxPositions))), positions), shape)
  }) as [Tensor, Tensor]
  return { cosine, sine }
}

/** θ^(−2i/d) for i = 0 … d/2−1, rounded to float32. */
export function ropeFrequencies(headDim: number, theta: number): number[] {
  const step = naturalLogarithm(theta) / headDim
  return Array.from({ length: headDim / 2 }, (_, i) => Math.fround(exponential(-2 * i * step)))
}

/*
 * The frequencies become bytes of the program, and JavaScript leaves the last bit of Math.exp, Math.log and
 * ** to the engine. These two use only operations that IEEE 754 fixes, so the program has one CID everywhere.
 */

/** eˣ: the Taylor series of x/2¹⁰, squared ten times. */
function exponential(x: number): number {
  const reduced = x / 1024
  let term = 1
  let total = 1
  for (let n = 1; n <= 14; n++) {
    term *= reduced / n
    total += term
  }
  for (let i = 0; i < 10; i++) total *= total
  return total
}

/** ln x = 2ᵏ·2·artanh((r−1)/(r+1)) with r the 2ᵏ-th root of x that is close to 1. */
function naturalLogarithm(x: number): number {
  let root = x
  let scale = 2
  while (root > 1.25 || root < 0.8) {
    root = Math.sqrt(root)
    scale *= 2
  }
  const ratio = (root - 1) / (root + 1)
  let power = ratio
  let total = 0
  for (let n = 1; n < 40; n += 2) {
    total += power / n
    power *= ratio * ratio
  }
  return scale * total
}
