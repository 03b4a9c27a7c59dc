/**
 * `Files` of core on a disk. A write goes to a temporary file beside its target, is flushed if it must be durable, and
 * takes the target's name in one step: a crash, a full disk or Ctrl-C leaves the old content or the new one, never half.
 */
import type { Stats } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname, sep } from 'node:path'
import { type FileEntry, type Files, fileNotFound, GroundswellError, messageOf } from '../core/index.ts'
import { partOf, removeLeftParts } from './part-files.ts'

/** Files of this machine. Relative paths start at the working directory. */
export function nodeFiles(): Files {
  return {
    list: (path) => withFileErrors(path, () => listFiles(path)),
    read: (path, range) => withFileErrors(path, () => readBytes(path, range)),
    write: (path, chunks, { durable = true } = {}) =>
      withFileErrors(path, () => replaceFile(path, chunks, durable)),
    exists: (path) =>
      withFileErrors(path, () =>
        stat(path).then(
          () => true,
          (thrown: unknown) => {
            if (isAbsence(thrown)) return false
            throw thrown
          },
        ),
      ),
    remove: (path) => withFileErrors(path, () => rm(path, { recursive: true, force: true })),
  }
}

/** Every regular file below `path`, hidden ones and the targets of links included, each folder visited once. */
async function listFiles(path: string): Promise<FileEntry[]> {
  const top = await stat(path)
  if (top.isFile()) return [{ path, sizeBytes: top.size }]
  if (!top.isDirectory()) {
    throw new GroundswellError(`“${path}” is neither a file nor a folder.`, {
      code: 'file/not-regular',
      remedy: 'Name a file or a folder.',
    })
  }
  const found: FileEntry[] = []
  const visited = new Set<string>() // links can make a folder its own ancestor
  const visit = async (folder: string): Promise<void> => {
    const real = await realpath(folder)
    if (visited.has(real)) return
    visited.add(real)
    const names = await withFileErrors(folder, () => readdir(folder))
    const entries = await Promise.all(
      names.map(async (name) => {
        const entry = folder === '.' ? name : `${folder.replace(/\/$/, '')}/${name}`
        return { entry, stats: await statOrNothing(entry) }
      }),
    )
    for (const { entry, stats } of entries) {
      if (stats?.isFile()) found.push({ path: entry, sizeBytes: stats.size })
      else if (stats?.isDirectory()) await visit(entry)
    }
  }
  await visit(withSlashes(path))
  return found.sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** Nothing for what was removed meanwhile, and for links that lead nowhere. */
async function statOrNothing(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path)
  } catch (thrown) {
    if (isAbsence(thrown) || codeOf(thrown) === 'ELOOP') return undefined
    throw thrown
  }
}

async function readBytes(path: string, range?: { offset: number; length: number }): Promise<Uint8Array> {
  await using file = await open(path, 'r')
  const stats = await file.stat()
  // The length comes from a caller who may have it from a damaged file: never allocate more than there is.
  const offset = range?.offset ?? 0
  const wanted = Math.min(range?.length ?? stats.size, Math.max(0, stats.size - offset))
  const bytes = new Uint8Array(wanted)
  let done = 0
  while (done < wanted) {
    const { bytesRead } = await file.read(bytes, done, Math.min(wanted - done, 1 << 30), offset + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done === wanted ? bytes : bytes.slice(0, done)
}

async function replaceFile(path: string, chunks: Iterable<Uint8Array>, durable: boolean): Promise<void> {
  const folder = dirname(path)
  await makeFolder(folder)
  await removeLeftParts(path)
  const temporary = partOf(path)
  try {
    await using file = await open(temporary, 'wx')
    for (const chunk of chunks) await writeAll(file, chunk)
    if (durable) await file.sync()
    await file.close()
    await rename(temporary, path)
  } catch (thrown) {
    await rm(temporary, { force: true })
    throw thrown
  }
  if (durable) await syncFolder(folder)
}

/**
 * Makes a folder and those above it, and gives the first that was not there. Node's own recursive mkdir never ends
 * where the system says of a folder that is there that it is not, as in /proc.
 */
export async function makeFolder(path: string): Promise<string | undefined> {
  const attempt = async (): Promise<string | undefined> => {
    try {
      await mkdir(path)
      return path
    } catch (thrown) {
      if ((await stat(path).catch(() => undefined))?.isDirectory() === true) return undefined
      throw thrown
    }
  }
  try {
    return await attempt()
  } catch (thrown) {
    const parent = dirname(path)
    if (codeOf(thrown) !== 'ENOENT' || parent === path) throw thrown
    const first = await makeFolder(parent)
    const made = await attempt()
    return first ?? made
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(bytes.byteLength - done, 1 << 30))
    done += bytesWritten
  }
}

/** A rename is durable once its folder is; where folders cannot be flushed (Windows) the system does it in its time. */
async function syncFolder(folder: string): Promise<void> {
  try {
    await using handle = await open(folder, 'r')
    await handle.sync()
  } catch (thrown) {
    if (!['EISDIR', 'EPERM', 'EACCES', 'EINVAL'].includes(codeOf(thrown) ?? '')) throw thrown
  }
}

function withSlashes(path: string): string {
  return sep === '/' ? path : path.replaceAll(sep, '/')
}

/** Lets what the system says of a path be said as an error that names it and the way out. */
export async function withFileErrors<Result>(path: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (thrown) {
    throw fileError(path, thrown)
  }
}

function isAbsence(thrown: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes(codeOf(thrown) ?? '')
}

function codeOf(thrown: unknown): string | undefined {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string'
    ? thrown.code
    : undefined
}

/** What the system said, as an error that names the path and the way out. */
function fileError(path: string, cause: unknown): unknown {
  if (cause instanceof GroundswellError) return cause
  const say = (what: string, message: string, remedy: string): GroundswellError =>
    new GroundswellError(message, { code: `file/${what}`, remedy, cause })
  switch (codeOf(cause)) {
    case 'ENOENT':
      return fileNotFound(path, cause)
    case 'EEXIST': // a folder was to be made
    case 'ENOTDIR':
      return say('not-found', `A part of the path “${path}” is a file, not a folder.`, 'Check the path.')
    case 'EISDIR':
      return say('is-folder', `“${path}” is a folder, not a file.`, 'Name a file.')
    case 'EACCES':
    case 'EPERM':
      return say(
        'not-permitted',
        `You may not use “${path}”.`,
        'Change its permissions or choose another path.',
      )
    case 'EROFS':
      return say('not-permitted', `“${path}” is on a read-only disk.`, 'Choose another path.')
    case 'ENOSPC':
    case 'EDQUOT':
      return say(
        'disk-full',
        `The disk is full: “${path}” was not written.`,
        'Free some space and try again.',
      )
    case 'EFBIG':
      return say('too-large', `“${path}” is too large for its disk or your limits.`, 'Choose another disk.')
    case 'EMFILE':
    case 'ENFILE':
      return say(
        'too-many-open',
        `Too many files are open to use “${path}”.`,
        'Raise the limit: ulimit -n 4096.',
      )
    case 'ENAMETOOLONG':
      return say('name-too-long', `The name of “${path.slice(0, 80)}…” is too long.`, 'Choose a shorter one.')
    case 'EIO':
      return say('unreadable', `The disk failed on “${path}”: ${messageOf(cause)}.`, 'Check the disk.')
    default:
      return cause
  }
}
