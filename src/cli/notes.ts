/** Small files in which a command notes something in a home folder, for the next one that is given the same folder. */
import type { z } from 'zod'
import { type Files, GroundswellError } from '../core/index.ts'

export interface NoteFormat<T> {
  readonly schema: z.ZodType<T>
  /** A longer file is none of ours. */
  readonly maxBytes: number
}

export async function writeNote(files: Files, path: string, note: object): Promise<void> {
  await files.write(path, [new TextEncoder().encode(`${JSON.stringify(note)}\n`)])
}

/** Undefined where there is none, or none that can be read: a note saves work, and its loss costs no more than that. */
export async function readNote<T>(
  files: Files,
  path: string,
  { schema, maxBytes }: NoteFormat<T>,
): Promise<T | undefined> {
  if (!(await files.exists(path))) return undefined
  try {
    const bytes = await files.read(path, { offset: 0, length: maxBytes + 1 })
    if (bytes.byteLength > maxBytes) return undefined
    return schema.safeParse(JSON.parse(new TextDecoder().decode(bytes))).data
  } catch (thrown) {
    if (thrown instanceof GroundswellError || thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}
