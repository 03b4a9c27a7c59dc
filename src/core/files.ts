/**
 * What the browser-safe rooms need of a file system, so that checkpoints and corpora can live on a disk, in memory
 * or in a tab's private storage. Paths are strings with forward slashes.
 */
import { GroundswellError } from './errors.ts'

export interface FileEntry {
  /** Path as it can be given back to `Files`. */
  readonly path: string
  readonly sizeBytes: number
}

export interface WriteOptions {
  /**
   * Whether the write survives a power failure: true unless given. Without it nothing is flushed: the end of the process,
   * however sudden, leaves the old content or the new one, but a power failure may leave neither.
   */
  readonly durable?: boolean
}

export interface Files {
  /** All regular files at or below `path`, sorted by path; a single entry when `path` is a file. */
  list(path: string): Promise<FileEntry[]>
  /** Bytes [offset, offset + length) of a file, or all of it. */
  read(path: string, range?: { offset: number; length: number }): Promise<Uint8Array>
  /** Replaces a file as a whole: either the old content or all of the new one is there, also after a crash. */
  write(path: string, chunks: Iterable<Uint8Array>, options?: WriteOptions): Promise<void>
  exists(path: string): Promise<boolean>
  remove(path: string): Promise<void>
}

/** Files in memory, for tests and for tabs. */
export function memoryFiles(initial: Record<string, Uint8Array | string> = {}): Files {
  const encoder = new TextEncoder()
  const held = new Map<string, Uint8Array>(
    Object.entries(initial).map(([path, content]) => [
      path,
      typeof content === 'string' ? encoder.encode(content) : content,
    ]),
  )
  const need = (path: string): Uint8Array => {
    const bytes = held.get(path)
    if (bytes === undefined) throw fileNotFound(path)
    return bytes
  }
  return {
    list: async (path) => {
      const prefix = path.endsWith('/') ? path : `${path}/`
      return [...held]
        .filter(([name]) => name === path || name.startsWith(prefix) || path === '.')
        .map(([name, bytes]) => ({ path: name, sizeBytes: bytes.byteLength }))
        .sort((a, b) => (a.path < b.path ? -1 : 1))
    },
    read: async (path, range) => {
      const bytes = need(path)
      return range === undefined ? bytes.slice() : bytes.slice(range.offset, range.offset + range.length)
    },
    write: async (path, chunks) => {
      const parts = [...chunks]
      const whole = new Uint8Array(parts.reduce((total, part) => total + part.byteLength, 0))
      let offset = 0
      for (const part of parts) {
        whole.set(part, offset)
        offset += part.byteLength
      }
      held.set(path, whole)
    },
    exists: async (path) =>
      path === '.' || held.has(path) || [...held.keys()].some((name) => name.startsWith(`${path}/`)),
    remove: async (path) => {
      for (const name of [...held.keys()]) if (name === path || name.startsWith(`${path}/`)) held.delete(name)
    },
  }
}

/** The error for a path that is not there. */
export function fileNotFound(path: string, cause?: unknown): GroundswellError {
  return new GroundswellError(`There is no file or folder “${path}”.`, {
    code: 'file/not-found',
    remedy: 'Check the path.',
    cause,
  })
}
