/**
 * The two-dimensional orthonormal cosine transform (DCT-II) of small tiles and its inverse, for methods that pick the
 * largest coefficients of a momentum rather than its largest values. Every operation is one that IEEE 754 fixes, so that
 * peers agree on the signs of what comes back.
 *
 * One transform is Lee's recursion (IEEE ASSP 32(6), 1984), which halves even lengths: with αᵢ = xᵢ + xₙ₋₁₋ᵢ and
 * βᵢ = (xᵢ − xₙ₋₁₋ᵢ)/(2 cos(π(2i+1)/2n)), the even coefficients are the transform of α, the odd ones neighbours' sums of
 * that of β. An odd rest is multiplied out. It runs over all columns of a tile at once; where there is WebAssembly, most
 * tiles go through dct-kernels.ts instead, with the same results.
 */
import { type LengthConstants, lengthConstants, rowScales } from './dct-constants.ts'
import { TileKernels } from './dct-kernels.ts'
import { wholeTile } from './tiles.ts'

export class TileTransform {
  /** [4096]; what is to be transformed is put here, and taken from here. */
  readonly tile: Float64Array
  private readonly kernels: TileKernels | null
  private readonly lengths = new Map<number, LengthConstants>()
  private readonly spare = new Float64Array(wholeTile)
  private readonly turned = new Float64Array(wholeTile)

  /** @param kernels what does it for tiles that it fits; null for nothing but this class */
  constructor(kernels: TileKernels | null = kernelsIfAny()) {
    this.kernels = kernels
    this.tile = kernels?.tile ?? new Float64Array(wholeTile)
  }

  /** Of `tile` as [height, width]. */
  forward(height: number, width: number): void {
    const { kernels, tile, spare, turned } = this
    if (kernels?.fits(height, width)) {
      kernels.run('forward', height, width)
      return
    }
    this.forwardAxis(tile, spare, 0, height, width)
    scaleRows(tile, height, width)
    transpose(tile, turned, height, width)
    this.forwardAxis(turned, spare, 0, width, height)
    scaleRows(turned, width, height)
    transpose(turned, tile, width, height)
  }

  /** Of `tile` as [height, width]. */
  inverse(height: number, width: number): void {
    const { kernels, tile, spare, turned } = this
    if (kernels?.fits(height, width)) {
      kernels.run('inverse', height, width)
      return
    }
    scaleRows(tile, height, width)
    this.inverseAxis(tile, spare, 0, height, width)
    transpose(tile, turned, height, width)
    scaleRows(turned, width, height)
    this.inverseAxis(turned, spare, 0, width, height)
    transpose(turned, tile, width, height)
  }

  /** Rows [from, from + n) become Σᵢ xᵢ cos(π(2i+1)k/2n); those of `spare` are overwritten. */
  private forwardAxis(rows: Float64Array, spare: Float64Array, from: number, n: number, width: number): void {
    if (n === 1) return
    if (n % 2 === 1) {
      this.multiplyOut(rows, spare, from, n, width, false)
      return
    }
    if (n === 4) {
      this.forwardFour(rows, from, width)
      return
    }
    const { factors } = this.length(n)
    const half = n / 2
    for (let i = 0; i < half; i++) {
      const a = (from + i) * width
      const b = (from + n - 1 - i) * width
      const odd = (from + half + i) * width
      const factor = factors[i]!
      for (let c = 0; c < width; c++) {
        const x = rows[a + c]!
        const y = rows[b + c]!
        spare[a + c] = x + y
        spare[odd + c] = (x - y) * factor
      }
    }
    this.forwardAxis(spare, rows, from, half, width)
    this.forwardAxis(spare, rows, from + half, half, width)
    for (let i = 0; i < half; i++) {
      const even = (from + i) * width
      const odd = (from + half + i) * width
      const target = (from + 2 * i) * width
      const last = i + 1 === half
      for (let c = 0; c < width; c++) {
        rows[target + c] = spare[even + c]!
        rows[target + width + c] = last ? spare[odd + c]! : spare[odd + c]! + spare[odd + width + c]!
      }
    }
  }

  /** Rows [from, from + n) become Σₖ xₖ cos(π(2i+1)k/2n); those of `spare` are overwritten. */
  private inverseAxis(rows: Float64Array, spare: Float64Array, from: number, n: number, width: number): void {
    if (n === 1) return
    if (n % 2 === 1) {
      this.multiplyOut(rows, spare, from, n, width, true)
      return
    }
    if (n === 4) {
      this.inverseFour(rows, from, width)
      return
    }
    const { factors } = this.length(n)
    const half = n / 2
    for (let i = 0; i < half; i++) {
      const even = (from + 2 * i) * width
      const odd = even + width
      const alpha = (from + i) * width
      const beta = (from + half + i) * width
      for (let c = 0; c < width; c++) {
        spare[alpha + c] = rows[even + c]!
        spare[beta + c] = i === 0 ? rows[odd + c]! : rows[odd + c]! + rows[odd - 2 * width + c]!
      }
    }
    this.inverseAxis(spare, rows, from, half, width)
    this.inverseAxis(spare, rows, from + half, half, width)
    for (let i = 0; i < half; i++) {
      const alpha = (from + i) * width
      const beta = (from + half + i) * width
      const mirrored = (from + n - 1 - i) * width
      const factor = factors[i]!
      for (let c = 0; c < width; c++) {
        const x = spare[alpha + c]!
        const y = spare[beta + c]! * factor
        rows[alpha + c] = x + y
        rows[mirrored + c] = x - y
      }
    }
  }

  /** The recursion for four rows without its passes over memory: the same operations in the same order. */
  private forwardFour(rows: Float64Array, from: number, width: number): void {
    const { factors } = this.length(4)
    const outer = factors[0]!
    const inner = factors[1]!
    const last = this.length(2).factors[0]!
    const first = from * width
    for (let at = first; at < first + width; at++) {
      const x0 = rows[at]!
      const x1 = rows[at + width]!
      const x2 = rows[at + 2 * width]!
      const x3 = rows[at + 3 * width]!
      const a0 = x0 + x3
      const a1 = x1 + x2
      const b0 = (x0 - x3) * outer
      const b1 = (x1 - x2) * inner
      const odd = (b0 - b1) * last
      rows[at] = a0 + a1
      rows[at + width] = b0 + b1 + odd
      rows[at + 2 * width] = (a0 - a1) * last
      rows[at + 3 * width] = odd
    }
  }

  private inverseFour(rows: Float64Array, from: number, width: number): void {
    const { factors } = this.length(4)
    const outer = factors[0]!
    const inner = factors[1]!
    const last = this.length(2).factors[0]!
    const first = from * width
    for (let at = first; at < first + width; at++) {
      const x0 = rows[at]!
      const x1 = rows[at + width]!
      const x2 = rows[at + 2 * width]!
      const x3 = rows[at + 3 * width]!
      const even = x2 * last
      const odd = (x3 + x1) * last
      const a0 = x0 + even
      const a1 = x0 - even
      const b0 = (x1 + odd) * outer
      const b1 = (x1 - odd) * inner
      rows[at] = a0 + b0
      rows[at + width] = a1 + b1
      rows[at + 2 * width] = a1 - b1
      rows[at + 3 * width] = a0 - b0
    }
  }

  private multiplyOut(
    rows: Float64Array,
    spare: Float64Array,
    from: number,
    n: number,
    width: number,
    transposed: boolean,
  ): void {
    const { cosines } = this.length(n)
    for (let out = 0; out < n; out++) {
      const target = (from + out) * width
      spare.fill(0, target, target + width)
      for (let i = 0; i < n; i++) {
        const factor = transposed ? cosines[i * n + out]! : cosines[out * n + i]!
        const source = (from + i) * width
        for (let c = 0; c < width; c++) spare[target + c] = spare[target + c]! + factor * rows[source + c]!
      }
    }
    rows.set(spare.subarray(from * width, (from + n) * width), from * width)
  }

  private length(n: number): LengthConstants {
    let length = this.lengths.get(n)
    if (length === undefined) {
      length = lengthConstants(n)
      this.lengths.set(n, length)
    }
    return length
  }
}

/** A page may forbid WebAssembly, and old engines lack its vectors. */
function kernelsIfAny(): TileKernels | null {
  try {
    return new TileKernels()
  } catch {
    return null
  }
}

function scaleRows(rows: Float64Array, n: number, width: number): void {
  const { first, others } = rowScales(n)
  for (let c = 0; c < width; c++) rows[c] = rows[c]! * first
  for (let i = width; i < n * width; i++) rows[i] = rows[i]! * others
}

function transpose(source: Float64Array, target: Float64Array, height: number, width: number): void {
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      target[column * height + row] = source[row * width + column]!
    }
  }
}
