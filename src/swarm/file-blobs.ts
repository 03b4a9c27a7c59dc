/**
 * Blobs as files, `blobs/<aa>/<cid>` with the last two characters of the CID as `aa` (the first ones are the same for
 * all). A blob is written under another name, flushed to the disk and renamed, so a file with a CID for a name is
 * whole, also after the power failed; it is checked against its name all the same when it is read. One process owns
 * a folder.
 */
import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Cid, GroundswellError, matchesCid, parseCid } from '../core/index.ts'
import { type Blobs, maxBlobBytes, nameOfBlob, quotaExceeded } from './blobs.ts'

export interface FileBlobsInit {
  /** Bytes that all blobs together may take. */
  readonly quotaBytes?: number
  /**
   * Whether a blob that was put survives a power failure: true unless given. Without it nothing is flushed, which is
   * many times faster; a file that was cut short counts as damaged when it is read, so no wrong byte is ever given out.
   */
  readonly durable?: boolean
  /** Told of a file that was damaged on the disk; it is deleted and counts as not there. */
  readonly onDamaged?: (cid: Cid) => void
  /** Writes the content of an open file; to be replaced where a disk has to fail. */
  readonly writeFile?: (file: FileHandle, bytes: Uint8Array) => Promise<void>
}

/** Opens the store in a folder, which is made if need be; what an interrupted `put` left behind is removed. */
export async function fileBlobs(folder: string, init: FileBlobsInit = {}): Promise<Blobs> {
  const { quotaBytes = Number.POSITIVE_INFINITY, durable = true, onDamaged } = init
  const writeFile = init.writeFile ?? ((file, bytes) => file.writeFile(bytes))
  const unfinished = join(folder, 'unfinished')
  await diskErrors(folder, async () => {
    await mkdir(folder, { recursive: true })
    await rm(unfinished, { recursive: true, force: true })
    await mkdir(unfinished)
  })
  let usedBytes = (await listFiles(folder)).reduce((total, { sizeBytes }) => total + sizeBytes, 0)
  const folderOf = (cid: Cid): string => join(folder, parseCid(cid).slice(-2))
  const pathOf = (cid: Cid): string => join(folderOf(cid), cid)
  const discard = async (cid: Cid): Promise<void> => {
    const sizeBytes = (await ignoreMissing(stat(pathOf(cid))))?.size ?? 0
    await rm(pathOf(cid), { force: true })
    usedBytes -= sizeBytes
  }
  /** The same blob put twice at a time is written once. */
  const writing = new Map<Cid, Promise<void>>()
  const write = async (cid: Cid, bytes: Uint8Array): Promise<void> => {
    const found = await ignoreMissing(stat(pathOf(cid)))
    if (found?.size === bytes.byteLength) return
    if (found !== undefined) await discard(cid) // cut short by a power failure
    if (usedBytes + bytes.byteLength > quotaBytes) throw quotaExceeded(quotaBytes)
    usedBytes += bytes.byteLength // at once, so that puts side by side cannot exceed the quota together
    const temporary = join(unfinished, randomUUID())
    try {
      await diskErrors(folder, async () => {
        await writeWhole(temporary, bytes, { writeFile, durable })
        await mkdir(folderOf(cid), { recursive: true })
        await rename(temporary, pathOf(cid))
        if (durable) await syncFolder(folderOf(cid))
      })
    } catch (thrown) {
      usedBytes -= bytes.byteLength
      await rm(temporary, { force: true })
      throw thrown
    }
  }

  return {
    put: async (bytes, options) => {
      const cid = await nameOfBlob(bytes, options)
      const before = writing.get(cid)
      if (before !== undefined) {
        await before
        return cid
      }
      const written = write(cid, bytes).finally(() => writing.delete(cid))
      writing.set(cid, written)
      await written
      return cid
    },
    get: async (cid) => {
      const path = pathOf(cid)
      const found = await ignoreMissing(stat(path))
      if (found === undefined) return undefined
      if (found.size <= maxBlobBytes) {
        const bytes = await ignoreMissing(readFile(path))
        if (bytes === undefined) return undefined
        const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
        if (await matchesCid(plain, cid)) return plain
      }
      await discard(cid)
      onDamaged?.(cid)
      return undefined
    },
    has: async (cid) => (await ignoreMissing(stat(pathOf(cid)))) !== undefined,
    delete: discard,
    list: () => listFiles(folder),
  }
}

async function writeWhole(
  path: string,
  bytes: Uint8Array,
  { writeFile, durable }: Required<Pick<FileBlobsInit, 'writeFile' | 'durable'>>,
): Promise<void> {
  await using file = await open(path, 'wx')
  await writeFile(file, bytes)
  if (durable) await file.sync()
}

/** Makes a rename last through a power failure. Windows cannot open folders, and needs not. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  await using handle: FileHandle = await open(folder, 'r')
  await handle.sync()
}

async function listFiles(folder: string): Promise<{ cid: Cid; sizeBytes: number }[]> {
  const found: { cid: Cid; sizeBytes: number }[] = []
  for (const shard of (await readdir(folder)).filter((name) => name.length === 2)) {
    for (const name of await readdir(join(folder, shard))) {
      const entry = await ignoreMissing(stat(join(folder, shard, name)))
      if (entry?.isFile() && isCid(name)) found.push({ cid: name, sizeBytes: entry.size })
    }
  }
  return found
}

function isCid(name: string): name is Cid {
  try {
    parseCid(name)
    return true
  } catch {
    return false // a file that somebody else put there
  }
}

/** Undefined instead of an error for a file that is not there. */
async function ignoreMissing<Result>(reading: Promise<Result>): Promise<Result | undefined> {
  try {
    return await reading
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return undefined
    throw thrown
  }
}

/** Says in words what a disk refused. */
async function diskErrors(folder: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (cause) {
    const code = codeOf(cause)
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      throw new GroundswellError(`The disk that holds “${folder}” is full.`, {
        code: 'blob/disk-full',
        remedy: 'Free some space; what is there is intact and the work continues where it stopped.',
        cause,
      })
    }
    if (
      code === 'EACCES' ||
      code === 'EPERM' ||
      code === 'EROFS' ||
      code === 'ENOTDIR' ||
      code === 'EEXIST'
    ) {
      throw new GroundswellError(`Cannot write to “${folder}”.`, {
        code: 'blob/not-writable',
        remedy: 'Choose a folder that this user may write to.',
        cause,
      })
    }
    throw cause
  }
}

function codeOf(thrown: unknown): string | undefined {
  return thrown instanceof Error && 'code' in thrown ? String(thrown.code) : undefined
}
