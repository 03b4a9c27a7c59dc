/** Equal tokens, tables that go on where they were, charts, and the whole of Table 1 with a toy. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createSyncMethod } from '../../src/sync/index.ts'
import {
  cellsOf,
  defaultShape,
  keysOf,
  type LossOptions,
  measureLosses,
  missingReferences,
  quickShape,
} from './loss.ts'
import { lossCharts, lossMarkdown } from './loss-markdown.ts'
import { medianAndSpread } from './markdown.ts'
import { identityOf, ResultsFile } from './results.ts'
import { methodCase, methodNames } from './settings.ts'
import { lineChart, roundStep } from './svg.ts'
import {
  equalTokens,
  type RunShape,
  type TrainingKey,
  type TrainingValue,
  textSource,
} from './training-cell.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'groundswell-tables-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

describe('equal tokens', () => {
  const shape: RunShape = { ...defaultShape, batchSize: 8, sequenceLength: 128 }

  test('M replicas take as many steps as one, each on its part of the batch', () => {
    for (const name of methodNames) {
      const { innerSteps } = createSyncMethod(methodCase(name).sync)
      const shares = [1, 2, 4, 8].map((replicas) => ({
        replicas,
        ...equalTokens(shape, replicas, innerSteps),
      }))
      for (const { replicas, replicaBatch, steps, rounds, tokens } of shares) {
        expect(replicaBatch * replicas).toBe(8)
        expect(steps).toBe(rounds * innerSteps)
        expect(tokens).toBe(replicas * steps * replicaBatch * 128)
        expect({ steps, tokens }).toEqual({ steps: shares[0]!.steps, tokens: shares[0]!.tokens })
      }
    }
  })

  test('are what was asked for, to half a round', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 100_000, max: 1e9 }),
        fc.integer({ min: 1, max: 50 }),
        (tokens, innerSteps) => {
          const given = equalTokens({ ...shape, tokens }, 4, innerSteps).tokens
          expect(Math.abs(given - tokens)).toBeLessThanOrEqual((1024 * innerSteps) / 2)
        },
      ),
    )
  })

  test('are refused where the batch cannot be shared', () => {
    expect(() => equalTokens(shape, 3, 10)).toThrow('3 replicas cannot share')
  })
})

describe('a file of results', () => {
  const key = { method: 'diloco', seed: 1, optional: undefined as number | undefined }
  const provenance = { date: '2026-01-01T00:00Z', machine: 'a machine', commit: 'abc' }

  test('gives what was kept to whoever opens it next, and only for the same key', () => {
    const path = join(folder, 'table.json')
    new ResultsFile<typeof key, number>(path).put({ key, value: 3, provenance })
    const again = new ResultsFile<typeof key, number>(path)
    expect(again.find({ seed: 1, optional: undefined, method: 'diloco' })?.value).toBe(3)
    expect(again.find({ ...key, seed: 2 })).toBeUndefined()
    again.put({ key, value: 4, provenance })
    expect(again.all()).toHaveLength(1)
  })

  test('is empty where there is no file, and an error where it is no table', () => {
    const path = join(folder, 'table.json')
    expect(new ResultsFile(path).all()).toEqual([])
    writeFileSync(path, '{"cells"')
    expect(() => new ResultsFile(path)).toThrow(SyntaxError)
  })

  test('knows equal keys by their values, not by the order of their fields', () => {
    expect(identityOf({ a: 1, b: { c: [1, 2], d: 2 } })).toBe(identityOf({ b: { d: 2, c: [1, 2] }, a: 1 }))
    expect(identityOf({ a: [1, 2] })).not.toBe(identityOf({ a: [2, 1] }))
  })
})

describe('a chart', () => {
  const curves = [
    {
      label: 'one & only',
      points: [
        { x: 0, y: 5.1 },
        { x: 1_500_000, y: 2.2 },
      ],
    },
    { label: 'other', points: [{ x: 0, y: 4 }], dashed: true },
  ]

  test('holds every curve within its axes, and nothing that would break the markup', () => {
    const svg = lineChart({ title: 'a < b', xLabel: 'tokens', yLabel: 'loss', curves })
    expect(svg).toContain('a &lt; b')
    expect(svg).toContain('one &amp; only')
    const numbers = [...svg.matchAll(/ d="M([\d. L]+)" fill="none" stroke="#[0-9a-f]+" stroke-width/g)].map(
      (m) => m[1]!,
    )
    expect(numbers).toHaveLength(2)
    for (const [x, y] of numbers.flatMap((path) =>
      path.split('L').map((each) => each.split(' ').map(Number)),
    )) {
      expect(x).toBeGreaterThanOrEqual(64)
      expect(x).toBeLessThanOrEqual(540)
      expect(y).toBeGreaterThanOrEqual(44)
      expect(y).toBeLessThanOrEqual(344)
    }
  })

  test('shows what spans powers of ten on a logarithmic axis', () => {
    const spanning = [{ label: 'all', points: [10, 1000, 100_000].map((x) => ({ x, y: x })) }]
    const svg = lineChart({ title: '', xLabel: 's', yLabel: 'loss', curves: spanning, logarithmicX: true })
    expect(svg).toMatch(/ d="M64 [\d.]+L302 [\d.]+L540 [\d.]+"/)
    for (const tick of ['10', '100', '1k', '10k', '100k']) expect(svg).toContain(`>${tick}<`)
  })

  test('draws a single point and equal values, and refuses nothing at all', () => {
    const flat = [
      {
        label: 'flat',
        points: [
          { x: 1, y: 2 },
          { x: 1, y: 2 },
        ],
      },
    ]
    expect(lineChart({ title: '', xLabel: '', yLabel: '', curves: flat })).not.toContain('NaN')
    expect(() => lineChart({ title: '', xLabel: '', yLabel: '', curves: [] })).toThrow(RangeError)
  })

  test('counts in ones, twos and fives', () => {
    expect([0.3, 1, 1.1, 2.5, 5.01, 70].map(roundStep)).toEqual([0.5, 1, 2, 5, 10, 100])
  })
})

test('a median says how far the others lie from it', () => {
  expect(medianAndSpread([2])).toBe('2.000')
  expect(medianAndSpread([3, 1, 2])).toBe('2.000 (1.000–3.000)')
})

describe('table-loss with a toy', () => {
  async function toyOptions(said: string[]): Promise<LossOptions> {
    const words = Array.from(
      { length: 400 },
      (_, i) => `${'ground swell wave shore'.split(' ')[i % 4]} ${i % 7}`,
    )
    writeFileSync(join(folder, 'text.txt'), words.join(' ').repeat(8))
    return {
      ...{
        methods: ['data-parallel', 'diloco'],
        replicas: [1, 2],
        seeds: [1],
        rateFactors: [1],
        model: 'toy',
      },
      shape: { ...defaultShape, ...quickShape, tokens: 5120, measurements: 2 },
      text: await textSource(join(folder, 'text.txt')),
      results: openResults(),
      ...{ threads: 1, minutes: Number.POSITIVE_INFINITY },
      say: (text) => said.push(text),
    }
  }
  const openResults = (): ResultsFile<TrainingKey, TrainingValue> =>
    new ResultsFile(join(folder, 'table-loss.json'))

  test('measures each cell once, goes on where it was, and shows it', async () => {
    const said: string[] = []
    const options = await toyOptions(said)
    expect(await measureLosses(options)).toBe(true)
    const cells = cellsOf(options)
    expect(cells).toHaveLength(3) // data parallelism once, whatever the replicas
    for (const { value } of cells) {
      expect(value.losses.at(-1)!.tokens).toBe(5120)
      expect(value.losses.at(-1)!.loss).toBeLessThan(value.losses[0]!.loss)
    }
    const [parallel, one, two] = cells.map(({ value }) => value)
    // 20 steps with four bytes per parameter, against 2 rounds with about two (so small a model is mostly codebooks).
    expect(parallel!.bytesPerPeer).toBeGreaterThan(10 * one!.bytesPerPeer)
    expect(two!.bytesPerPeer).toBe(one!.bytesPerPeer)

    const path = join(folder, 'table-loss.json')
    const kept = readFileSync(path, 'utf8')
    const resumed = { ...options, results: openResults() }
    expect(await measureLosses(resumed)).toBe(true)
    expect(readFileSync(path, 'utf8')).toBe(kept)
    expect(said.at(-1)).toContain('3 cells, 3 of them measured before')

    const more = { ...resumed, seeds: [1, 2], minutes: 0 }
    expect(keysOf(more)).toHaveLength(6)
    expect(await measureLosses({ ...more, minutes: -1 })).toBe(false)
    expect(said.at(-1)).toContain('3 cells are left')

    const markdown = lossMarkdown(cells, options)
    expect(markdown).toContain('| diloco | 10 | 0.4 | 0.6 | 2 |')
    expect(markdown).toContain('Fewer than three')
    expect(markdown).toContain('All 3 cells are there')
    expect([...lossCharts(cells).keys()]).toEqual(['data-parallel', 'diloco'])
  })

  test('shows a method that is asked for alone beside all that is there, and measures what it is compared with', async () => {
    const said: string[] = []
    const options = { ...(await toyOptions(said)), replicas: [2] }
    const alone = { ...options, methods: ['diloco'] }
    expect(missingReferences(alone).map(({ method, seed }) => [method, seed])).toEqual([['data-parallel', 1]])
    expect(missingReferences(options)).toEqual([]) // asked for anyway
    expect(await measureLosses(alone)).toBe(true)
    expect(said[0]).toContain('data parallelism, which is not there yet for seed 1: it is measured too')
    const other = { ...alone, methods: ['noloco'], results: openResults() }
    expect(missingReferences(other)).toEqual([])
    expect(await measureLosses(other)).toBe(true)
    const cells = cellsOf(other)
    expect(cells.map(({ key }) => key.method)).toEqual(['data-parallel', 'diloco', 'noloco'])
    expect(lossMarkdown(cells, other)).toMatch(/^\| noloco \| 10 \| 0.7 \| 0.5 \| 2 \| [\d.]+ \| [+−]/m)
  })
})
