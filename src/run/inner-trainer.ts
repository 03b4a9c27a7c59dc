/**
 * What a peer computes with, whatever the model and the machine: the seam between a run and an engine. `workload.ts`
 * makes it from a run's manifest; tests bring their own.
 */
import type { Cid } from '../core/index.ts'
import type { TensorLayout } from '../sync/index.ts'
import type { Manifest } from './manifest.ts'

export interface StepOptions {
  /** Where in the run's schedule this step stands, from 0. */
  readonly scheduleStep: number
  /** What the schedule's learning rate is multiplied with. */
  readonly rateScale: number
}

export interface InnerTrainer {
  /** One optimiser step with the tokens of one batch. @throws GroundswellError `train/diverged` */
  step(tokens: Int32Array, options: StepOptions): Promise<{ loss: number; tokens: number }>
  /** The mean gradient of a batch at the parameters as they are, flat, and no step. Only where gradients are exchanged. */
  gradient(tokens: Int32Array): Promise<{ loss: number; tokens: number; gradient: Float32Array }>
  /** The parameters, flat in the order of the model's layout. */
  parameters(): Promise<Float32Array>
  /** Replaces the parameters and keeps the optimiser's state. The array is not to be written to. */
  setParameters(flat: Float32Array): Promise<void>
  /** Forgets the optimiser's state. */
  reset(): Promise<void>
}

/** An inner trainer with the data it learns from. */
export interface Workload {
  readonly trainer: InnerTrainer
  /** The tokens of one numbered batch, which is one inner step. */
  batch(number: number): Int32Array | Promise<Int32Array>
}

/** What a workload is made from. Everything fetched here is checked against its CID. */
export interface PrepareContext {
  readonly manifest: Manifest
  readonly layout: TensorLayout
  fetchBlob(cid: Cid): Promise<Uint8Array>
  fetchArtifact(root: Cid, options: { maxBytes: number }): Promise<Uint8Array>
  readonly signal: AbortSignal
}
