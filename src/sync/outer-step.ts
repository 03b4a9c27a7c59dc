/**
 * DiLoCo's outer step, Nesterov's momentum in PyTorch's form, with the averaged pseudo-gradient Δ in the place of a
 * gradient:
 *
 *   m ← μ m + Δ,   θ ← θ − η (Δ + μ m)
 *
 * Δ arrives in float64 and is rounded to float32 once; m and θ are computed in float64 and rounded once each.
 */

export interface OuterStepOptions {
  /** η */
  readonly outerLearningRate: number
  /** μ; 0 leaves plain averaging with the outer rate. */
  readonly outerMomentum: number
}

export interface OuterState {
  readonly parameters: Float32Array // θ, [totalSize]
  readonly momentum: Float32Array // m, [totalSize]
}

/** Steps the tensor that begins at `offset`, from `state` into `next`. */
export function nesterovStep(
  next: OuterState,
  state: OuterState,
  { offset, size }: { readonly offset: number; readonly size: number },
  delta: Float64Array,
  { outerLearningRate: rate, outerMomentum: mu }: OuterStepOptions,
): void {
  for (let i = 0; i < size; i++) {
    const at = offset + i
    const rounded = Math.fround(delta[i]!)
    const nextMomentum = Math.fround(mu * state.momentum[at]! + rounded)
    next.momentum[at] = nextMomentum
    next.parameters[at] = state.parameters[at]! - rate * (rounded + mu * nextMomentum)
  }
}

/** Room for the sums of the largest tensor. */
export function sumsFor(entries: readonly { readonly size: number }[]): Float64Array {
  return new Float64Array(entries.reduce((largest, { size }) => Math.max(largest, size), 0))
}
