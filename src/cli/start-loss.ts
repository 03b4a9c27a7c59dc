/**
 * The validation loss that a run began with. It is kept in the home folder: a host that goes on with the run measures
 * the checkpoints from there on only.
 */
import { join } from 'node:path'
import { z } from 'zod'
import type { Cid, Files } from '../core/index.ts'
import { cidSchema } from '../run/index.ts'
import { readNote, writeNote } from './notes.ts'

const fileName = 'start-loss.json'
const format = { schema: z.strictObject({ run: cidSchema, loss: z.number() }), maxBytes: 4096 }

interface Place {
  readonly home: string
  readonly run: Cid
}

export async function keepStartLoss(files: Files, { home, run }: Place, loss: number): Promise<void> {
  await writeNote(files, join(home, fileName), { run, loss })
}

/** Nothing where no host of this home has measured it. */
export async function startLossOf(files: Files, { home, run }: Place): Promise<number | undefined> {
  const kept = await readNote(files, join(home, fileName), format)
  return kept?.run === run ? kept.loss : undefined
}
