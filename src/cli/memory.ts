/**
 * Looking at the memory before a model is made or fetched: one that cannot fit would otherwise take all of the machine,
 * for minutes in which nothing can stop it. Only what is certain counts, without activations, copies and the data.
 */
import { totalmem } from 'node:os'
import { GroundswellError } from '../core/index.ts'
import { countParameters, type LlamaConfig, layoutOf } from '../model/index.ts'
import type { Manifest } from '../run/index.ts'
import { type BackendName, isGraphics } from '../runtime/index.ts'
import { createSyncMethod, type SyncMethod } from '../sync/index.ts'
import type { OptimiserSettings } from '../train/index.ts'
import { formatBytes, formatCount } from './format.ts'
import type { RunFile } from './run-file-schema.ts'

const bytesPerNumber = 4

/** What this machine has, or what a container may use of it. */
export function machineMemory(): number {
  const limit = process.constrainedMemory()
  return limit > 0 && limit < totalmem() ? limit : totalmem()
}

/**
 * Refuses a model that is larger than the memory even without anything beside it.
 * @throws GroundswellError `model/too-large`
 */
export function checkHolding(parameters: number, memoryBytes: number = machineMemory()): void {
  const needs = [{ bytes: bytesPerNumber * parameters, what: 'the parameters alone' }]
  refuseIfMore(needs, { parameters, memoryBytes, remedy: smallerModel })
}

/**
 * Refuses to train what cannot fit. A graphics backend has a memory of its own; `fastest` says whether `auto` would
 * open one, and is asked only where that decides.
 * @throws GroundswellError `model/too-large`
 */
export async function checkTraining(
  parameters: number,
  { runtime, training }: Pick<RunFile, 'runtime' | 'training'>,
  fastest: () => Promise<BackendName>,
  memoryBytes: number = machineMemory(),
): Promise<void> {
  checkHolding(parameters, memoryBytes) // they are made here in any case
  const need = trainingNeed(parameters, training.optimiser)
  if (need.bytes <= memoryBytes) return
  const backend = runtime.backend === 'auto' ? await fastest() : runtime.backend
  if (isGraphics(backend)) return
  refuseIfMore([need], { parameters, memoryBytes, remedy: smallerModel })
}

/**
 * Refuses to host a run whose merged state does not fit beside the parameters that it begins with.
 * @throws GroundswellError `model/too-large`
 */
export function checkHosting(
  { model, sync }: Pick<Manifest, 'model' | 'sync'>,
  memoryBytes: number = machineMemory(),
): void {
  const parameters = countParameters(model)
  const first = { bytes: bytesPerNumber * parameters, what: 'the parameters' }
  refuseIfMore([first, stateNeed(createSyncMethod(sync), model)], {
    parameters,
    memoryBytes,
    remedy: smallerModel,
  })
}

/**
 * Refuses to take part in a run whose model cannot fit: beside what trains, a peer holds the merged state of the run's
 * method, which is no backend's. Methods that exchange gradients have their moments there.
 * @throws GroundswellError `model/too-large`
 */
export function checkJoining(
  { model, sync, inner }: Pick<Manifest, 'model' | 'sync' | 'inner'>,
  backend: BackendName,
  memoryBytes: number = machineMemory(),
): void {
  const parameters = countParameters(model)
  const method = createSyncMethod(sync)
  const state = stateNeed(method, model)
  const training =
    method.quantity === 'gradient'
      ? { bytes: 2 * bytesPerNumber * parameters, what: 'parameters and gradients' }
      : trainingNeed(parameters, inner.optimiser)
  const needs = isGraphics(backend) ? [state] : [training, state]
  const remedy = isGraphics(backend)
    ? 'Join from a machine with more memory.'
    : 'Join from a machine with more memory, or let a graphics card hold what trains, with --backend cuda or webgpu.'
  refuseIfMore(needs, { parameters, memoryBytes, remedy })
}

interface Need {
  readonly bytes: number
  /** In words. */
  readonly what: string
}

const smallerModel =
  'Make the model smaller, as with model.layers and model.hiddenSize, or use a larger machine.'

function stateNeed(method: SyncMethod, model: LlamaConfig): Need {
  return { bytes: method.stateBytes(layoutOf(model)), what: `the merged state of ${method.id}` }
}

function trainingNeed(parameters: number, { kind }: OptimiserSettings): Need {
  const moments = kind === 'muon' ? 1 : 2 // Muon keeps one of a matrix, AdamW two
  const what = `parameters, gradients and ${moments === 1 ? 'one moment' : 'two moments'}`
  return { bytes: (2 + moments) * bytesPerNumber * parameters, what }
}

function refuseIfMore(
  needs: readonly Need[],
  run: { readonly parameters: number; readonly memoryBytes: number; readonly remedy: string },
): void {
  const { parameters, memoryBytes, remedy } = run
  const needed = needs.reduce((sum, { bytes }) => sum + bytes, 0)
  if (needed <= memoryBytes) return
  const each = needs.map(({ bytes, what }) => `${Math.round(bytes / parameters)} bytes each: ${what}`)
  throw new GroundswellError(
    `A model of ${formatCount(parameters)} parameters needs ${formatBytes(needed)} of memory ` +
      `(${each.join('; ')}), and this machine has ${formatBytes(memoryBytes)}.`,
    { code: 'model/too-large', remedy },
  )
}
