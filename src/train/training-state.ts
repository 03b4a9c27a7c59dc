/**
 * A stopped run on disk. One safetensors file beside the checkpoint holds the resident tensors, and in its metadata
 * the step, the place in the data and what the run is: one file, so that it is replaced as a whole or not at all,
 * and step and moments can never disagree.
 */
import { z } from 'zod'
import { type Files, GroundswellError } from '../core/index.ts'
import { readSafetensors, writeSafetensors } from '../model/index.ts'
import type { HostTensor } from '../runtime/index.ts'
import type { TrainerSnapshot } from './trainer.ts'

export const trainingStateFile = 'training_state.safetensors'

const format = 'groundswell-training-state/1'

/** What else a run must remember; batches are a pure function of these and the step. */
export interface TrainingProgress {
  readonly step: number
  readonly seed: number
  readonly replica: number
  readonly replicas: number
  /** CID of the data manifest. */
  readonly data: string
  /** Settings that decide the bits of the next step, by name; compared on resume. */
  readonly identity: Readonly<Record<string, string>>
  /** How long the run was to be, which may change; absent from states of earlier versions. */
  readonly steps?: number | undefined
  readonly tokensSeen: number
}

const count = z.int().nonnegative()
const progressSchema: z.ZodType<TrainingProgress> = z.strictObject({
  step: count,
  seed: count,
  replica: count,
  replicas: count,
  data: z.string().max(200),
  identity: z.record(z.string(), z.string()),
  steps: count.optional(),
  tokensSeen: count,
})

export async function saveTrainingState(
  files: Files,
  folder: string,
  state: { snapshot: TrainerSnapshot; progress: TrainingProgress },
): Promise<void> {
  const tensors = Object.fromEntries(
    Object.entries(state.snapshot.state).map(([name, { shape, dtype, data }]) => {
      if (!(data instanceof Float32Array)) throw new TypeError(`training state “${name}” is ${dtype}`)
      return [name, { shape, data }]
    }),
  )
  await writeSafetensors(files, `${folder}/${trainingStateFile}`, tensors, {
    format,
    progress: JSON.stringify(state.progress),
  })
}

/** The saved state, or nothing where there is none. */
export async function loadTrainingState(
  files: Files,
  folder: string,
): Promise<{ snapshot: TrainerSnapshot; progress: TrainingProgress } | undefined> {
  const path = `${folder}/${trainingStateFile}`
  if (!(await files.exists(path))) return undefined
  const { tensors, metadata } = await readSafetensors(files, path)
  const progress = metadata.format === format ? parseProgress(metadata.progress) : undefined
  if (progress === undefined) {
    throw new GroundswellError(`“${path}” is not a training state that this version reads.`, {
      code: 'train/state-format',
      remedy: 'Begin again in another folder.',
    })
  }
  const state: Record<string, HostTensor> = {}
  for (const [name, { shape, data }] of Object.entries(tensors))
    state[name] = { dtype: 'float32', shape, data }
  return { snapshot: { step: progress.step, state }, progress }
}

function parseProgress(text: string | undefined): TrainingProgress | undefined {
  if (text === undefined) return undefined
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return undefined // not written by us: the caller says so
  }
  return progressSchema.safeParse(json).data
}

/**
 * The first setting in which a run differs from the saved one, for the sentence that refuses to mix them. What the
 * saved one lacks is not compared: an earlier version did not note it.
 */
export function firstDifference(
  saved: Readonly<Record<string, string>>,
  current: Readonly<Record<string, string>>,
): { name: string; was: string; is: string } | undefined {
  for (const [name, was] of Object.entries(saved)) {
    if (current[name] !== was) return { name, was, is: current[name] ?? 'absent' }
  }
  return undefined
}
