/**
 * The demo's default text: what lies on every machine after the install, the Markdown and the TypeScript and
 * JavaScript sources under `node_modules`. The choice is the same wherever the same packages are installed: files
 * in the order of a hash of their path, with bounds on what one file and one package may give, so that neither a
 * bundle nor a large package drowns the rest.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'
import { GroundswellError, throwIfAborted } from '../../core/index.ts'

const limits = {
  fileBytes: 48_000,
  packageBytes: 160_000,
  /** A longer line is a sign of generated or minified code. */
  lineLength: 300,
} as const

const extensions = new Set(['.md', '.ts', '.mts', '.js', '.mjs'])

export interface CorpusFile {
  /** Relative to `node_modules`. */
  readonly path: string
  readonly text: string
}

/** The folder with the installed packages: beside the program's sources, or above it where it is a package itself. */
export async function findInstalledPackages(from: string): Promise<string> {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules')
    const found = await stat(candidate).catch(() => undefined)
    if (found?.isDirectory() === true) return candidate
    if (dirname(folder) === folder) {
      throw new GroundswellError('There is no node_modules folder to take the demo text from.', {
        code: 'demo/no-corpus',
        remedy: 'Run “npm ci”, or give a text of your own with --data.',
      })
    }
  }
}

/** At most `maxBytes` of text from the packages under `folder`, in a fixed order. */
export async function collectCorpus(
  folder: string,
  options: { maxBytes: number; signal?: AbortSignal },
): Promise<CorpusFile[]> {
  const candidates: { path: string; key: string }[] = []
  for (const name of await packageNames(folder)) {
    throwIfAborted(options.signal)
    for (const path of await textFiles(join(folder, name), name)) {
      candidates.push({ path, key: createHash('sha256').update(path).digest('hex') })
    }
  }
  candidates.sort((a, b) => (a.key < b.key ? -1 : 1))
  const chosen: CorpusFile[] = []
  const seen = new Set<string>()
  const perPackage = new Map<string, number>()
  let total = 0
  for (const { path } of candidates) {
    throwIfAborted(options.signal)
    const packageName = packageOf(path)
    const used = perPackage.get(packageName) ?? 0
    const bytes = await readFile(join(folder, path))
    if (bytes.byteLength > limits.fileBytes || bytes.byteLength < 200) continue
    if (used + bytes.byteLength > limits.packageBytes) continue
    const text = bytes.toString('utf8').replaceAll('\r\n', '\n')
    if (!isReadable(text)) continue
    // The same licence or readme lies in many packages; once is enough.
    const content = createHash('sha256').update(text).digest('hex')
    if (seen.has(content)) continue
    if (total + bytes.byteLength > options.maxBytes) break
    seen.add(content)
    perPackage.set(packageName, used + bytes.byteLength)
    total += bytes.byteLength
    chosen.push({ path, text })
  }
  return chosen
}

/** Installed packages, without those that differ from machine to machine. */
async function packageNames(folder: string): Promise<string[]> {
  const names: string[] = []
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name.startsWith('.')) continue
    if (!entry.name.startsWith('@')) {
      names.push(entry.name)
      continue
    }
    for (const inner of await readdir(join(folder, entry.name), { withFileTypes: true })) {
      if (inner.isDirectory()) names.push(`${entry.name}/${inner.name}`)
    }
  }
  const platform = /(^|[-/])(linux|darwin|win32|freebsd|android|wasm32|aix|sunos|openharmony)([-/]|$)/
  return names.filter((name) => !platform.test(name)).sort()
}

/** Paths of candidate files in a package, relative to `node_modules`, without packages inside it. */
async function textFiles(folder: string, prefix: string): Promise<string[]> {
  const found: string[] = []
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = `${prefix}/${entry.name}`
    if (entry.isDirectory()) {
      if (entry.name !== 'node_modules') found.push(...(await textFiles(join(folder, entry.name), path)))
    } else if (entry.isFile() && extensions.has(extname(entry.name)) && isSource(path)) {
      found.push(path)
    }
  }
  return found
}

/** Markdown, and the sources of a package rather than what was built from them. */
function isSource(path: string): boolean {
  if (path.endsWith('.md')) return true
  if (/\.d\.m?ts$|\.min\.|\.bundle\.|\.test\.|\.spec\./.test(path)) return false
  return /\/(src|lib)\//.test(path) && !/\/(dist|build|esm|cjs|umd)\//.test(path)
}

function isReadable(text: string): boolean {
  return (
    !text.includes('\u0000') &&
    !text.includes('\uFFFD') &&
    text.split('\n').every((line) => line.length <= limits.lineLength)
  )
}

function packageOf(path: string): string {
  const parts = path.split('/')
  return path.startsWith('@') ? `${parts[0]}/${parts[1]}` : parts[0]!
}
