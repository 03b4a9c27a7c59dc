/**
 * The run file: one YAML document that says what to train, on what, and with whom. It is checked whole before
 * anything starts; an error names the key, its line and column, and the nearest key that exists.
 */
import { type Document, isNode, isPair, isScalar, LineCounter, parseDocument } from 'yaml'
import { z } from 'zod'
import { GroundswellError } from '../core/index.ts'
import { nearestKey } from './nearest-key.ts'
import { type RunFile, runFileSchema } from './run-file-schema.ts'

/** Values of the command line that count instead of the file's. */
export interface RunOverrides {
  readonly data?: string | undefined
  readonly steps?: number | undefined
  readonly batchSize?: number | undefined
  readonly sequenceLength?: number | undefined
  readonly backend?: string | undefined
  readonly threads?: number | undefined
  readonly out?: string | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly listen?: readonly string[] | undefined
  readonly announce?: readonly string[] | undefined
  readonly relay?: readonly string[] | undefined
  readonly also?: readonly string[] | undefined
  readonly up?: string | undefined
  readonly down?: string | undefined
  readonly metrics?: string | undefined
  readonly log?: string | undefined
  readonly owner?: readonly string[] | undefined
}

/** Every value at its default. */
export function defaultRunFile(): RunFile {
  return runFileSchema.parse({})
}

/**
 * Reads a run file.
 * @param name what to call it in errors
 * @throws GroundswellError `run-file/syntax`, `run-file/unknown-key` or `run-file/invalid`
 */
export function parseRunFile(text: string, name: string, overrides: RunOverrides = {}): RunFile {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  const broken = document.errors[0] ?? document.warnings[0]
  if (broken !== undefined) {
    const { line, col } = lines.linePos(broken.pos[0])
    throw new GroundswellError(
      `${name}:${line}:${col} is not valid YAML: ${broken.message.replace(/\.$/, '')}.`,
      {
        code: 'run-file/syntax',
        remedy: 'Correct that line; “groundswell init” writes an example.',
      },
    )
  }
  let content: unknown
  try {
    content = document.toJS({ maxAliasCount: 100 }) ?? {}
  } catch (cause) {
    throw new GroundswellError(`${name} refers to itself or repeats too much through aliases.`, {
      code: 'run-file/syntax',
      remedy: 'Write the values out.',
      cause,
    })
  }
  if (typeof content !== 'object' || Array.isArray(content)) {
    throw new GroundswellError(`${name} does not hold the sections of a run file.`, {
      code: 'run-file/invalid',
      remedy: '“groundswell init” writes an example.',
    })
  }
  const whole = withOverrides(content as Record<string, unknown>, overrides)
  const parsed = runFileSchema.safeParse(whole)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues.find((one) => one.code === 'unrecognized_keys') ?? parsed.error.issues[0]!
  throw explain(issue, whole, { name, document, lines, overrides })
}

/**
 * The content with the command line's values in their places, the one sync method that need not be named, and what goes
 * without saying of the optimiser.
 */
function withOverrides(content: Record<string, unknown>, overrides: RunOverrides): Record<string, unknown> {
  const result = { ...content }
  const sync = content.sync ?? {}
  if (isSection(sync)) {
    result.sync = { method: 'diloco', ...sync }
    if (sync.method === 'muloco') result.training = withMuon(content.training ?? {})
    if (sync.method === 'data-parallel') result.sync = withOptimiserOf(content.training ?? {}, sync)
  }
  for (const [option, path] of Object.entries(overridePaths)) {
    const value = overrides[option as keyof RunOverrides]
    if (value === undefined) continue
    const [section, key] = path as [string, string?]
    if (key === undefined) {
      result[section] = value
      continue
    }
    const held = result[section] ?? {}
    // What is no section stays as it is, so that the check names it.
    if (isSection(held)) result[section] = { ...held, [key]: value }
  }
  return result
}

function withMuon(training: unknown): unknown {
  if (!isSection(training)) return training
  const { optimiser = {} } = training
  return isSection(optimiser) ? { ...training, optimiser: { kind: 'muon', ...optimiser } } : training
}

/** The step of data parallelism is the run's own optimiser's, so what is not said in its section is as in `training`. */
function withOptimiserOf(training: unknown, sync: Record<string, unknown>): Record<string, unknown> {
  const { optimiser = {} } = sync
  const inner = isSection(training) ? training.optimiser : undefined
  if (!isSection(inner) || !isSection(optimiser)) return sync
  const { kind: _, ...settings } = inner
  return { ...sync, optimiser: { ...settings, ...optimiser } }
}

function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const overridePaths: Record<keyof RunOverrides, readonly string[]> = {
  data: ['data', 'path'],
  steps: ['training', 'steps'],
  batchSize: ['training', 'batchSize'],
  sequenceLength: ['training', 'sequenceLength'],
  backend: ['runtime', 'backend'],
  threads: ['runtime', 'threads'],
  out: ['out'],
  host: ['run', 'host'],
  port: ['run', 'port'],
  listen: ['run', 'listen'],
  announce: ['run', 'announce'],
  relay: ['run', 'relays'],
  also: ['run', 'also'],
  up: ['run', 'up'],
  down: ['run', 'down'],
  metrics: ['run', 'metrics'],
  log: ['run', 'log'],
  owner: ['run', 'owners'],
}

type Issue = z.core.$ZodIssue

/** Where the content came from. */
interface Source {
  readonly name: string
  readonly document: Document
  readonly lines: LineCounter
  readonly overrides: RunOverrides
}

function explain(issue: Issue, content: Record<string, unknown>, from: Source): GroundswellError {
  const { name, document, lines, overrides } = from
  const path = issue.path.map(String)
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0]!
    const where = position([...path, key], document, lines)
    const section = path.length === 0 ? 'a run file' : `“${path.join('.')}”`
    const known = knownKeys(content)
    const near = nearestKey([...path, key], known)
    return new GroundswellError(`${name}${where}: ${section} has no key “${key}”.`, {
      code: 'run-file/unknown-key',
      remedy:
        near === undefined
          ? `Remove it; the keys here are ${keysAt(path, known).join(', ')}.`
          : `Did you mean “${near}”?`,
    })
  }
  const at = path.join('.')
  const option = Object.entries(overridePaths).find(
    ([, key]) => at.replace(/\.\d+$/, '') === key.join('.'),
  )?.[0]
  const fromOption = option !== undefined && overrides[option as keyof RunOverrides] !== undefined
  const flag = option?.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  const where = fromOption ? `--${flag}` : `${name}${position(path, document, lines)}`
  const reason = issue.message
    .replace(/^Invalid input: /, '')
    .replace(/^Invalid (option: |discriminator value\. )/, '')
    .replace(/^Too (small|big): expected /, 'expected ')
    .replace(/^./, (letter) => letter.toLowerCase())
  // What “init” writes are the settings of one method.
  const reference =
    path[0] === 'sync'
      ? 'docs/methods.md has the settings of each method'
      : '“groundswell init” writes every key with its meaning and default'
  return new GroundswellError(`${where}: “${path.join('.')}” cannot be so: ${reason}.`, {
    code: 'run-file/invalid',
    remedy: `Change that value; ${reference}.`,
  })
}

/** `:line:column` of a key, or of the nearest thing around it that is written in the file. */
function position(path: string[], document: Document, lines: LineCounter): string {
  for (let depth = path.length; depth > 0; depth--) {
    const parent = depth === 1 ? document.contents : document.getIn(path.slice(0, depth - 1), true)
    if (!isNode(parent) || !('items' in parent)) continue
    for (const item of parent.items) {
      if (!isPair(item) || !isScalar(item.key) || String(item.key.value) !== path[depth - 1]) continue
      const start = item.key.range?.[0]
      if (start === undefined) continue
      const { line, col } = lines.linePos(start)
      return `:${line}:${col}`
    }
  }
  return ''
}

/** Paths of all keys that fit this content, read off the schema itself: of the kinds of a section, the one it names. */
function knownKeys(content: unknown): string[][] {
  const found: string[][] = []
  const walk = (schema: JsonSchema, path: string[], held: unknown): void => {
    if (typeof schema !== 'object') return
    const variants = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]
    const named = variants.filter((variant) => isNamed(variant, held))
    for (const variant of named.length > 0 ? named : variants) walk(variant, path, held)
    for (const [key, value] of Object.entries(schema.properties ?? {})) {
      found.push([...path, key])
      walk(value, [...path, key], isSection(held) ? held[key] : undefined)
    }
  }
  walk(z.toJSONSchema(runFileSchema, { io: 'input' }), [], content)
  return found
}

type JsonSchema = z.core.JSONSchema._JSONSchema

/** Whether a section has the value that sets this kind apart from the others, such as its `method`. */
function isNamed(variant: JsonSchema, held: unknown): boolean {
  if (typeof variant !== 'object' || !isSection(held)) return false
  const [key, named] = Object.entries(variant.properties ?? {})[0] ?? []
  return key !== undefined && typeof named === 'object' && named.const === held[key]
}

function keysAt(path: string[], known: string[][]): string[] {
  return known
    .filter((key) => key.length === path.length + 1 && path.every((part, depth) => key[depth] === part))
    .map((key) => key.at(-1)!)
}
