/**
 * Looking at the disk before the work rather than after it, and naming files by their content.
 */
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { rm, rmdir, statfs, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { type Cid, cidOfDigest, GroundswellError, takingTurns } from '../core/index.ts'
import { makeFolder, withFileErrors } from '../run/index.ts'
import { formatBytes } from './format.ts'

/**
 * Makes a folder and tries to write into it, so that hours of work do not end where they cannot be put. What was made
 * for it goes again at the end if nothing came to lie there.
 * @param folder an absolute path
 * @throws GroundswellError of `file/`
 */
export async function claimFolder(folder: string): Promise<AsyncDisposable> {
  const first = await withFileErrors(folder, () => makeFolder(folder))
  const removeEmpty = async (): Promise<void> => {
    if (first === undefined) return
    for (let at = folder; ; at = dirname(at)) {
      const removed = await rmdir(at).then(
        () => true,
        () => false, // it holds something
      )
      if (!removed || at === first) return
    }
  }
  try {
    const probe = join(folder, `.probe.${randomUUID().slice(0, 8)}.part`)
    await withFileErrors(folder, async () => {
      try {
        await writeFile(probe, '?', { flag: 'wx' })
      } finally {
        await rm(probe, { force: true })
      }
    })
  } catch (thrown) {
    await removeEmpty()
    throw thrown
  }
  return { [Symbol.asyncDispose]: removeEmpty }
}

/**
 * Refuses to begin what could not be saved.
 * @param option of the command line that names the folder
 * @throws GroundswellError `file/disk-full`
 */
export async function checkRoom(folder: string, neededBytes: number, option = '--out'): Promise<void> {
  const free = await freeBytes(resolve(folder))
  if (free === undefined || free >= neededBytes) return
  throw new GroundswellError(
    `The disk is full: “${folder}” has ${formatBytes(free)} free of the ${formatBytes(neededBytes)} needed.`,
    { code: 'file/disk-full', remedy: `Free some space, or choose another place with ${option}.` },
  )
}

/** Room for this user where the folder lies or will lie; nothing where the system does not say. */
async function freeBytes(folder: string): Promise<number | undefined> {
  for (let at = folder; ; at = dirname(at)) {
    const found = await statfs(at).catch(() => undefined)
    if (found !== undefined) return found.bavail * found.bsize
    if (dirname(at) === at) return undefined
  }
}

/** The name of a file's content, read in pieces. */
export async function cidOfFile(path: string): Promise<Cid> {
  return cidOfChunks(createReadStream(path) as AsyncIterable<Uint8Array>)
}

/** The name that a file of these pieces would have. */
export async function cidOfChunks(chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<Cid> {
  const hash = createHash('sha256')
  const pause = takingTurns()
  for await (const chunk of chunks) {
    await pause()
    hash.update(chunk)
  }
  return cidOfDigest(new Uint8Array(hash.digest()))
}
