/** The small JSON files of a checkpoint, read with a bound on their size and written the same way every time. */
import { type Files, fileNotFound, GroundswellError } from '../core/index.ts'

/**
 * Reads and parses a JSON file.
 * @throws GroundswellError `file/not-found`, or `checkpoint/malformed` when it is too large or not JSON
 */
export async function readJson(files: Files, path: string, maxBytes: number): Promise<unknown> {
  const text = await readText(files, path, maxBytes)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new GroundswellError(`“${path}” is not JSON.`, { code: 'checkpoint/malformed', remedy, cause })
  }
}

/** Reads a UTF-8 file of at most `maxBytes`. */
export async function readText(files: Files, path: string, maxBytes: number): Promise<string> {
  const sizeBytes = (await files.list(path))[0]?.sizeBytes
  if (sizeBytes === undefined) throw fileNotFound(path)
  if (sizeBytes > maxBytes) {
    throw new GroundswellError(`“${path}” has ${sizeBytes} bytes, above the limit of ${maxBytes}.`, {
      code: 'checkpoint/malformed',
      remedy,
    })
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await files.read(path))
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause
    throw new GroundswellError(`“${path}” is not UTF-8 text.`, {
      code: 'checkpoint/malformed',
      remedy,
      cause,
    })
  }
}

/** Indented as Hugging Face's libraries do it. */
export function jsonBytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, undefined, 2)}\n`)
}

const remedy = 'Copy or download the checkpoint again.'
