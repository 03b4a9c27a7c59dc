/**
 * The floors of the house: a room imports only rooms on floors below it, through their `index.ts`, and the rooms
 * that must run in a browser use nothing of Node.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, expect, test } from 'vitest'

const floors: Record<string, number> = {
  core: 0,
  tensor: 1,
  runtime: 1,
  model: 2,
  data: 2,
  train: 2,
  sync: 2,
  swarm: 3,
  run: 4,
  cli: 6,
}
/** On one floor a room may still use its neighbour where the frame says that one builds on the other. */
const neighbours: Record<string, string[]> = {
  runtime: ['tensor'],
  train: ['model', 'data'],
  data: ['model'],
  sync: ['train'],
}
const browserSafe = new Set(['core', 'tensor', 'runtime', 'model', 'data', 'train', 'sync'])

const root = join(import.meta.dirname, '..', 'src')
const files = readdirSync(root, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts'))
  .map((entry) => relative(root, join(entry.parentPath, entry.name)))

const importsOf = (file: string): string[] =>
  [...readFileSync(join(root, file), 'utf8').matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((m) => m[1]!)

describe('the floors of the house', () => {
  test.each(files)('%s imports only what lies below it', (file) => {
    const room = file.split('/')[0]!
    expect(floors, `room ${room} is not in the frame`).toHaveProperty(room)
    for (const specifier of importsOf(file)) {
      if (!specifier.startsWith('.')) {
        const browserOnly = browserSafe.has(room) || file === 'run/reducer.ts'
        if (browserOnly) expect(specifier, `${file} must run in a browser`).not.toMatch(/^node:/)
        continue
      }
      const target = relative(root, join(root, file, '..', specifier))
      const targetRoom = target.split('/')[0]!
      if (targetRoom === room) continue
      const allowed = floors[targetRoom]! < floors[room]! || neighbours[room]?.includes(targetRoom)
      expect(allowed, `${file} must not import ${target}`).toBe(true)
      expect(target, `${file} must use the public face of ${targetRoom}`).toBe(`${targetRoom}/index.ts`)
    }
  })
})
