/**
 * The validation loss that a run began with. It is kept in the home folder: a host that goes on with the run measures
 * the checkpoints from there on only.
 */
import { join } from 'node:path'
import { z } from 'zod'
import { type Cid, type Files, GroundswellError } from '../core/index.ts'
import { cidSchema } from '../run/index.ts'

const fileName = 'start-loss.json'
const maxFileBytes = 4096
const schema = z.strictObject({ run: cidSchema, loss: z.number() })

interface Place {
  readonly home: string
  readonly run: Cid
}

export async function keepStartLoss(files: Files, { home, run }: Place, loss: number): Promise<void> {
  const text = `${JSON.stringify({ run, loss })}\n`
  await files.write(join(home, fileName), [new TextEncoder().encode(text)])
}

/** Nothing where no host of this home has measured it. */
export async function startLossOf(files: Files, { home, run }: Place): Promise<number | undefined> {
  const path = join(home, fileName)
  if (!(await files.exists(path))) return undefined
  try {
    const bytes = await files.read(path, { offset: 0, length: maxFileBytes })
    const kept = schema.safeParse(JSON.parse(new TextDecoder().decode(bytes))).data
    return kept?.run === run ? kept.loss : undefined
  } catch (thrown) {
    if (thrown instanceof GroundswellError || thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}
