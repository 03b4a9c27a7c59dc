/**
 * Whether the folder of a run holds a state to go on from. It does if every setting that decides the bits of the next
 * step is the one that the state was saved under; what else lies in the folder is never overwritten.
 */
import { resolve } from 'node:path'
import { type Files, GroundswellError } from '../core/index.ts'
import { safetensorsChunks } from '../model/index.ts'
import { firstDifference, loadTrainingState, type TrainerSnapshot } from '../train/index.ts'
import type { DataShare } from './command-lines.ts'
import { cidOfChunks } from './disk.ts'
import { usageError } from './failures.ts'
import type { PreparedRun } from './prepare.ts'
import type { RunFile } from './run-file-schema.ts'

/**
 * What has to be the same for a saved state to go on: the model and where it started, its batches, and how a gradient
 * becomes a step. Not the number of steps: a run may go on for longer.
 */
export async function identityOf(
  run: RunFile,
  prepared: PreparedRun,
  { share, out }: { readonly share: DataShare; readonly out: string },
): Promise<Record<string, string>> {
  const { batchSize, sequenceLength, gradientAccumulation, optimiser, schedule } = run.training
  const { headSize, ...shape } = prepared.config
  const settings: [string, unknown][] = [
    ['checkpoint', await startOf(run, prepared, out)],
    ...Object.entries(shape),
    ['headSize', headSize], // follows from others, which are to be named first
    ...Object.entries({ batchSize, sequenceLength, gradientAccumulation }),
    ...within('optimiser', optimiser),
    ...within('schedule', schedule),
    ['seed', run.seed],
    ['data', prepared.built.manifestCid],
    ['share', `${share.replica + 1}/${share.replicas}`],
  ]
  return Object.fromEntries(settings.map(([name, value]) => [name, String(value)]))
}

/** A state that is damaged, or of another version: only here is it known how to do without it. */
function unreadable(thrown: unknown): unknown {
  if (!(thrown instanceof GroundswellError)) return thrown
  const { code, message } = thrown
  if (!code.startsWith('safetensors/') && code !== 'train/state-format') return thrown
  return new GroundswellError(message, {
    code,
    remedy: 'Put it back from a copy if there is one, or begin again with --restart.',
    cause: thrown,
  })
}

/** Where the parameters came from. Those of a checkpoint go by their content: its folder may move. */
async function startOf({ model }: RunFile, { parameters }: PreparedRun, out: string): Promise<string> {
  if (model.checkpoint === undefined) return 'none' // new ones follow from the seed
  // Overwritten by the run's own first checkpoint.
  if (resolve(model.checkpoint) === resolve(out)) return 'the one in this folder'
  return cidOfChunks(safetensorsChunks(parameters))
}

function within(section: string, settings: object): [string, unknown][] {
  return Object.entries(settings).map(([name, value]) => [`${section}.${name}`, value])
}

export interface SavedRun {
  readonly snapshot: TrainerSnapshot
  /** How long the run was to be; unknown if an earlier version saved it. */
  readonly steps: number | undefined
  /** Settings that an earlier version did not note, so that nobody knows whether they are the same. */
  readonly unchecked: readonly string[]
}

/**
 * The state to go on from, if there is one.
 * @throws GroundswellError `usage/out-occupied` when the folder holds something else
 */
export async function findSavedRun(
  files: Files,
  out: string,
  identity: Readonly<Record<string, string>>,
): Promise<SavedRun | undefined> {
  const found = await loadTrainingState(files, out).catch((thrown: unknown) => {
    throw unreadable(thrown)
  })
  if (found === undefined) {
    if (await files.exists(`${out}/config.json`)) {
      throw usageError(
        'out-occupied',
        `“${out}” holds a checkpoint that no training run left there.`,
        'Choose another folder with --out, or replace it with --restart.',
      )
    }
    return undefined
  }
  const { snapshot, progress } = found
  const difference = firstDifference(progress.identity, identity)
  if (difference !== undefined) {
    throw usageError(
      'out-occupied',
      `“${out}” holds another run: its ${difference.name} is ${difference.was}, this one’s ${difference.is}.`,
      'Give the setting its old value, choose another folder with --out, or begin again with --restart.',
    )
  }
  const unchecked = Object.keys(identity).filter((name) => !Object.hasOwn(progress.identity, name))
  return { snapshot, steps: progress.steps, unchecked }
}
