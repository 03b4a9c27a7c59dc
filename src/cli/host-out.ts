/**
 * The folder that a host writes its last checkpoint to. A note in the home says what the host left there: a host that
 * is started again replaces its own checkpoint, and never anybody else's.
 */
import { join } from 'node:path'
import { z } from 'zod'
import type { Cid, Files, GroundswellError } from '../core/index.ts'
import { type CheckpointContent, safetensorsChunks, writeCheckpoint } from '../model/index.ts'
import { cidSchema } from '../run/index.ts'
import { trainingStateFile } from '../train/index.ts'
import { cidOfChunks, cidOfFile } from './disk.ts'
import { usageError } from './failures.ts'
import { readNote, writeNote } from './notes.ts'

const noteFile = 'out.json'
const weightsFile = 'model.safetensors'
const noteFormat = {
  schema: z.strictObject({ run: cidSchema, out: z.string(), weights: cidSchema }),
  maxBytes: 16_384,
}

export interface HostOut {
  readonly home: string
  readonly out: string
}

/**
 * The run of this home whose checkpoint lies in the folder, which is read to the end; undefined where the folder is free.
 * @throws GroundswellError `usage/out-occupied` where there is anything else
 */
export async function runLeftIn(files: Files, { home, out }: HostOut): Promise<Cid | undefined> {
  if (await isFree(files, out)) return undefined
  const note = await readNote(files, join(home, noteFile), noteFormat)
  if (note?.out !== out || !(await holdsAtMost(files, out, note.weights))) throw occupied(out)
  return note.run
}

/** @throws GroundswellError `usage/out-occupied` where what `runLeftIn` has found is not of this run */
export function requireOwn(left: Cid | undefined, { out, run }: { out: string; run: Cid }): void {
  if (left !== undefined && left !== run) throw occupied(out)
}

/**
 * Gives the name of the weights that it has written.
 * @throws GroundswellError `usage/out-occupied` when somebody else has used the folder meanwhile
 */
export async function putCheckpoint(
  files: Files,
  place: HostOut & { readonly run: Cid },
  content: CheckpointContent,
): Promise<Cid> {
  const { home, out, run } = place
  const weights = await cidOfChunks(safetensorsChunks(content.parameters))
  // A second host of the run may have put the same ones there.
  if (!(await files.exists(join(out, weightsFile))) || !(await holdsAtMost(files, out, weights))) {
    requireOwn(await runLeftIn(files, place), place)
  }
  // First the note: a host that is stopped half-way finds its own again.
  await writeNote(files, join(home, noteFile), { run, out, weights })
  await writeCheckpoint(files, out, content)
  return weights
}

/** The first of `folder`, `folder-2`, `folder-3` … with nothing in it. */
export async function freeFolder(files: Files, folder: string): Promise<string> {
  for (let number = 1; ; number++) {
    const path = number === 1 ? folder : `${folder}-${number}`
    if (await isFree(files, path)) return path
  }
}

export async function isFree(files: Files, path: string): Promise<boolean> {
  return !(await files.exists(path)) || (await files.list(path)).length === 0
}

/** Whether there are no weights but these, and no state of a lone run that belongs to others. */
async function holdsAtMost(files: Files, out: string, weights: Cid): Promise<boolean> {
  if (await files.exists(join(out, trainingStateFile))) return false
  const path = join(out, weightsFile)
  return !(await files.exists(path)) || (await cidOfFile(path)) === weights
}

function occupied(out: string): GroundswellError {
  return usageError(
    'out-occupied',
    `“${out}” holds something that this run did not leave there.`,
    'Choose another folder with --out, or empty that one.',
  )
}
