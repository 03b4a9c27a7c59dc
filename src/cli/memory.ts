/**
 * Looking at the memory before a model is made: one that cannot fit would otherwise take all of the machine, for
 * minutes in which nothing can stop it. Only what is certain counts, without activations, copies and the data.
 */
import { totalmem } from 'node:os'
import { GroundswellError } from '../core/index.ts'
import { type BackendName, isGraphics } from '../runtime/index.ts'
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
  refuseIfMore(parameters, { numbers: 1, holding: 'the parameters alone', memoryBytes })
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
  // Muon keeps one moment of a matrix, AdamW two.
  const moments = training.optimiser.kind === 'muon' ? 1 : 2
  const numbers = 2 + moments
  if (numbers * bytesPerNumber * parameters <= memoryBytes) return
  const backend = runtime.backend === 'auto' ? await fastest() : runtime.backend
  if (isGraphics(backend)) return
  const holding = `parameters, gradients and ${moments === 1 ? 'one moment' : 'two moments'}`
  refuseIfMore(parameters, { numbers, holding, memoryBytes })
}

function refuseIfMore(
  parameters: number,
  need: { readonly numbers: number; readonly holding: string; readonly memoryBytes: number },
): void {
  const bytesEach = need.numbers * bytesPerNumber
  if (bytesEach * parameters <= need.memoryBytes) return
  throw new GroundswellError(
    `A model of ${formatCount(parameters)} parameters needs ${formatBytes(bytesEach * parameters)} of memory ` +
      `(${bytesEach} bytes each: ${need.holding}), and this machine has ${formatBytes(need.memoryBytes)}.`,
    {
      code: 'model/too-large',
      remedy: 'Make the model smaller, as with model.layers and model.hiddenSize, or use a larger machine.',
    },
  )
}
