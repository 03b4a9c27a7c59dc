/**
 * Documents from a file or a folder: text of any kind as it is, one document per file, and JSON lines with one document
 * per line. Files are taken in the order of their paths, so that the same folder gives the same documents everywhere.
 * What would silently spoil a training run (binary files, broken lines, nothing at all) is an error that names the
 * file; what is merely superfluous (copies, empty and hidden files) is left out and counted.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { type FileEntry, type Files, GroundswellError, throwIfAborted } from '../core/index.ts'
import { documentsOfJsonLines } from './json-lines.ts'
import { decodeText } from './text.ts'

export interface Document {
  /** Where it came from; for a line of a file, `file:line`. */
  readonly path: string
  readonly text: string
}

export interface LoadOptions {
  /** Which field of a JSON line holds the text. Default `text`. */
  readonly field?: string
  /** Take only files with these endings, such as `.md`. Default: every file that is not hidden. */
  readonly extensions?: readonly string[]
  /** A further say in which files are taken. */
  readonly include?: (path: string) => boolean
  /** Larger files are left out and counted. Default: none are. */
  readonly maxFileBytes?: number
  /** Loading stops before the first file that would exceed this. Default: no limit. */
  readonly maxTotalBytes?: number
  /** What to do about a file that is not UTF-8 text. Default `error`. */
  readonly onBinary?: 'error' | 'skip'
  readonly signal?: AbortSignal
}

/** Files or documents that were left out, by reason. */
export interface LeftOut {
  /** Documents with the same text as an earlier one. */
  duplicates: number
  /** Documents of nothing but white space. */
  empty: number
  /** Files that are not UTF-8 text, with `onBinary: 'skip'`. */
  binary: number
  /** Files above `maxFileBytes`. */
  tooLarge: number
  /** Files behind `maxTotalBytes`. */
  overTotal: number
}

export interface Corpus {
  readonly documents: readonly Document[]
  /** Files that gave at least one document. */
  readonly files: number
  /** UTF-8 bytes of the documents' text. */
  readonly textBytes: number
  readonly leftOut: Readonly<LeftOut>
}

/** What one file may hold, so that its text fits into one string on every engine. */
export const largestFileBytes: number = 2 ** 28

/**
 * Loads one file, or all files below one folder or several.
 * @throws GroundswellError `data/not-found`, `data/empty`, `data/binary`, `data/bad-line`,
 *   `data/file-too-large`
 */
export async function loadDocuments(
  files: Files,
  path: string | readonly string[],
  options: LoadOptions = {},
): Promise<Corpus> {
  const roots = typeof path === 'string' ? [path] : path
  const named = roots.map((root) => `“${root}”`).join(', ')
  const leftOut: LeftOut = { duplicates: 0, empty: 0, binary: 0, tooLarge: 0, overTotal: 0 }
  const maxFileBytes = options.maxFileBytes ?? Number.POSITIVE_INFINITY
  const maxTotalBytes = options.maxTotalBytes ?? Number.POSITIVE_INFINITY
  const found = await findFiles(files, roots, options)
  const documents: Document[] = []
  const seen = new Set<string>()
  let usedFiles = 0
  let readBytes = 0
  let textBytes = 0
  for (const [index, file] of found.entries()) {
    throwIfAborted(options.signal)
    if (file.sizeBytes > maxFileBytes) {
      leftOut.tooLarge++
      continue
    }
    if (readBytes + file.sizeBytes > maxTotalBytes) {
      leftOut.overTotal += found.length - index
      break
    }
    if (file.sizeBytes > largestFileBytes) {
      throw new GroundswellError(`“${file.path}” has ${file.sizeBytes} bytes.`, {
        code: 'data/file-too-large',
        remedy: `Split it into files of at most ${largestFileBytes} bytes.`,
      })
    }
    const text = decodeText(await files.read(file.path), file.path, options.onBinary ?? 'error')
    if (text === undefined) {
      leftOut.binary++
      continue
    }
    readBytes += file.sizeBytes
    const before = documents.length
    for (const document of documentsOf(file.path, text, options.field)) {
      if (document.text.trim() === '') {
        leftOut.empty++
        continue
      }
      const bytes = new TextEncoder().encode(document.text)
      const key = keyOf(bytes)
      if (seen.has(key)) {
        leftOut.duplicates++
        continue
      }
      seen.add(key)
      textBytes += bytes.length
      documents.push(document)
    }
    if (documents.length > before) usedFiles++
  }
  if (documents.length === 0) throw nothingFound(named, found.length, leftOut, options)
  return { documents, files: usedFiles, textBytes, leftOut }
}

function documentsOf(path: string, text: string, field: string | undefined): Iterable<Document> {
  return /\.(jsonl|ndjson)$/i.test(path)
    ? documentsOfJsonLines(path, text, field ?? 'text')
    : [{ path, text }]
}

/** Files at or below the roots that the options ask for, each once, sorted by path. */
async function findFiles(files: Files, roots: readonly string[], options: LoadOptions): Promise<FileEntry[]> {
  const found = new Map<string, FileEntry>()
  for (const root of roots) {
    if (!(await files.exists(root))) {
      throw new GroundswellError(`There is no data at “${root}”.`, {
        code: 'data/not-found',
        remedy: 'Give the path of a text file or of a folder of text files.',
      })
    }
    for (const file of await files.list(root)) {
      // Whoever names a file means it, whatever it is called.
      const wanted = file.path === root || (isVisible(file.path, root) && isWanted(file.path, options))
      if (wanted) found.set(file.path, file)
    }
  }
  return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** Whether no folder or file below the root begins with a dot. */
function isVisible(path: string, root: string): boolean {
  // What is listed below “.” does not begin with it, but may with a dot of its own.
  const below = root !== '.' && path.startsWith(root) ? path.slice(root.length) : path
  return !below.split('/').some((part) => part.startsWith('.') && part !== '.' && part !== '..')
}

function isWanted(path: string, { extensions, include }: LoadOptions): boolean {
  const lower = path.toLowerCase()
  if (extensions !== undefined && !extensions.some((e) => lower.endsWith(e.toLowerCase()))) return false
  return include === undefined || include(path)
}

function nothingFound(
  named: string,
  files: number,
  leftOut: LeftOut,
  { extensions }: LoadOptions,
): GroundswellError {
  const reasons = [
    leftOut.empty > 0 ? `${leftOut.empty} empty` : '',
    leftOut.binary > 0 ? `${leftOut.binary} not text` : '',
    leftOut.tooLarge > 0 ? `${leftOut.tooLarge} too large` : '',
    leftOut.overTotal > 0 ? `${leftOut.overTotal} over the total` : '',
  ].filter((reason) => reason !== '')
  const kind = extensions === undefined ? 'files' : `files ending in ${extensions.join(', ')}`
  const what =
    files === 0
      ? `There are no ${kind} in ${named}.`
      : `There is no text in ${named}: ${reasons.join(', ')} of ${files} ${files === 1 ? 'file' : 'files'}.`
  return new GroundswellError(what, {
    code: 'data/empty',
    remedy: 'Give a file or folder with text (.txt, .md, source code, .jsonl).',
  })
}

/** 128 bits of the content's hash: enough to tell documents apart, at half the memory. */
function keyOf(bytes: Uint8Array): string {
  return String.fromCharCode(...sha256(bytes).subarray(0, 16))
}
