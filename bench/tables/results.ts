/**
 * Results that survive an interruption: one JSON file per table with a cell for everything that was measured, written
 * after each cell. A cell is known by all that it depends on, the numbers that its method's code comes to included; one that is
 * there already is not measured again, and one whose method gives other numbers since is.
 */

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { dirname } from 'node:path'

/** Where and from what a cell was measured. */
export interface Provenance {
  /** ISO 8601, to the minute. */
  readonly date: string
  readonly machine: string
  readonly commit: string
}

export interface Cell<Key, Value> {
  readonly key: Key
  readonly value: Value
  readonly provenance: Provenance
}

export class ResultsFile<Key, Value> {
  readonly path: string
  private readonly cells: Map<string, Cell<Key, Value>>

  constructor(path: string) {
    this.path = path
    this.cells = new Map(readCells<Key, Value>(path).map((cell) => [identityOf(cell.key), cell]))
  }

  find(key: Key): Cell<Key, Value> | undefined {
    return this.cells.get(identityOf(key))
  }

  /** All of them, in the order in which they were first measured. */
  all(): readonly Cell<Key, Value>[] {
    return [...this.cells.values()]
  }

  /** Keeps a cell on the disk before it returns. */
  put(cell: Cell<Key, Value>): void {
    this.cells.set(identityOf(cell.key), cell)
    writeWhole(this.path, `${JSON.stringify({ cells: this.all() }, null, 1)}\n`)
  }
}

function readCells<Key, Value>(path: string): readonly Cell<Key, Value>[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  return (JSON.parse(text) as { cells: readonly Cell<Key, Value>[] }).cells
}

/** A whole file or none. */
export function writeWhole(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(`${path}.tmp`, text)
  renameSync(`${path}.tmp`, path)
}

/** The same for equal values, whatever the order of their fields. */
export function identityOf(value: unknown): string {
  const sorted = (each: unknown): unknown => {
    if (Array.isArray(each)) return each.map(sorted)
    if (typeof each !== 'object' || each === null) return each
    const fields = Object.entries(each).filter(([, field]) => field !== undefined)
    return Object.fromEntries(fields.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, sorted(v)]))
  }
  return createHash('sha256')
    .update(JSON.stringify(sorted(value)))
    .digest('hex')
    .slice(0, 24)
}

export function provenance(): Provenance {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor'
  const git = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' })
  return {
    date: `${new Date().toISOString().slice(0, 16)}Z`,
    machine: `${availableParallelism()} shared cores (${model}), Node ${process.version}`,
    commit: git.status === 0 ? git.stdout.trim() : 'unknown',
  }
}
