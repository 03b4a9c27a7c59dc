/**
 * What a round costs: bytes that travel and time that is spent on anything but inner steps. Sizes come from the
 * method itself where there is one; times are proportional to the number of parameters that are gone through.
 */
import { countParameters, layoutOf, llamaConfig } from '../../model/index.ts'
import type { SyncMethod, TensorLayout } from '../../sync/index.ts'

export interface CostModel {
  /** Of one peer's update. */
  readonly updateBytes: number
  /** Whether a peer merges everybody's updates, or only that of the one it was paired with. */
  readonly pairwise: boolean
  /** Of the state that a newcomer fetches, or whoever missed too much. */
  readonly stateBytes: number
  /** What a newcomer fetches once: tokenizer, programs, its part of the data. */
  readonly setupBytes: number
  /** Compiling the step and measuring it, once per session. */
  readonly setupMs: number
  /** A peer makes its update. */
  readonly encodeMs: number
  /** Decoding an update and looking at its values, as the host does before it counts. */
  readonly checkMs: number
  /** Adding up one that is decoded. */
  readonly addMs: number
  /** The outer step, whatever the number of updates, and hashing the new state. */
  readonly outerStepMs: number
}

/** Parameters per second of one core, as measured for DiLoCo with int8; other methods differ by a factor of two or so. */
const codecSpeeds = { encode: 38e6, check: 500e6, add: 450e6, outerStep: 55e6 } as const

/** Costs of a method on a model. */
export function costsOf(method: SyncMethod, layout: TensorLayout): CostModel {
  return costsOfSizes({
    parameters: layout.totalSize,
    updateBytes: method.maximumUpdateBytes(layout),
    stateBytes: method.stateBytes(layout),
    pairwise: !method.replicated,
  })
}

/** Costs of a method on a Llama of about so many parameters, in proportion. */
export function costsOfParameters(method: SyncMethod, parameters: number): CostModel {
  const layout = llamaOfSize(parameters)
  const scale = parameters / layout.totalSize
  const { updateBytes, stateBytes, pairwise } = costsOf(method, layout)
  return costsOfSizes({
    parameters,
    updateBytes: Math.ceil(updateBytes * scale),
    stateBytes: Math.ceil(stateBytes * scale),
    pairwise,
  })
}

/** The smallest with at least so many parameters, in the proportions of published ones: a layer for 64 of its width. */
function llamaOfSize(parameters: number): TensorLayout {
  for (let width = 64; ; width += 64) {
    const config = llamaConfig({
      vocabularySize: 256,
      hiddenSize: width,
      intermediateSize: 64 * Math.ceil(width / 24),
      layers: Math.max(4, width / 64),
      attentionHeads: width / 64,
    })
    if (countParameters(config) >= parameters) return layoutOf(config)
  }
}

/** Costs from sizes alone, for models and methods that need not exist. */
export function costsOfSizes(sizes: {
  readonly parameters: number
  readonly updateBytes: number
  readonly stateBytes: number
  readonly pairwise?: boolean
}): CostModel {
  const { parameters, updateBytes, stateBytes, pairwise = false } = sizes
  return {
    updateBytes,
    pairwise,
    stateBytes,
    setupBytes: 2_000_000,
    setupMs: 2000,
    encodeMs: (1000 * parameters) / codecSpeeds.encode,
    checkMs: (1000 * parameters) / codecSpeeds.check,
    addMs: (1000 * parameters) / codecSpeeds.add,
    outerStepMs: (1000 * parameters) / codecSpeeds.outerStep,
  }
}
