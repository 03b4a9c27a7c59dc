/** Which cells stand in Table 1, which are missed in it, and how rows are told apart. */
import { describe, expect, test } from 'vitest'
import { defaultShape } from './loss.ts'
import {
  absentCells,
  changedSince,
  comparableCells,
  deviations,
  referencesOf,
  type TrainingCell,
} from './loss-cells.ts'
import { lossMarkdown } from './loss-markdown.ts'
import { methodCase } from './settings.ts'
import { type TrainingKey, trainingKey } from './training-cell.ts'

const scope = { model: '0.4M', text: 'a text', shape: defaultShape }

function cell(method: string, changes: Partial<TrainingKey> = {}, date = '2026-01-01T00:00Z'): TrainingCell {
  const key = trainingKey(methodCase(method), { ...scope, replicas: 1, seed: 1 })
  return {
    key: { ...key, ...changes },
    value: {
      losses: [{ tokens: 327_680, loss: 2 }],
      ...{ parameters: 400_000, rounds: 64, steps: 640, seconds: 1 },
      ...{ bytesPerParameterPerRound: 1, bytesPerPeer: 1e6 },
    },
    provenance: { date, machine: 'a machine', commit: 'abc' },
  }
}

const nothing = { methods: [], replicas: [], seeds: [] }

describe('the cells of table 1', () => {
  test('are all of one text, model and shape, in the order of the settings', () => {
    const cells = [
      cell('diloco', { replicas: 8 }),
      cell('diloco', { replicas: 2, seed: 2 }),
      cell('diloco', { replicas: 2 }),
      cell('diloco', { text: 'another text' }),
      cell('diloco', { shape: { ...defaultShape, tokens: 1000 } }),
      cell('data-parallel'),
      cell('diloco', { model: '3.3M' }),
    ]
    const there = comparableCells(cells, scope).map(({ key }) => [key.method, key.replicas, key.seed])
    expect(there).toEqual([
      ['data-parallel', 1, 1],
      ['diloco', 2, 1],
      ['diloco', 2, 2],
      ['diloco', 8, 1],
    ])
  })

  test('are of today’s code where there is one, else the newest, which is then named', () => {
    const [old, older] = [
      cell('diloco', { bits: 'old' }, '2026-01-03T00:00Z'),
      cell('diloco', { bits: 'older' }, '2026-01-02T00:00Z'),
    ]
    expect(comparableCells([old, older], scope)).toEqual([old])
    expect(changedSince([old])).toEqual(['diloco'])
    const today = cell('diloco')
    expect(comparableCells([old, today, older], scope)).toEqual([today])
    expect(changedSince([today])).toEqual([])
    expect(lossMarkdown([old], nothing)).toContain('The code of all methods has changed since')
    const beside = comparableCells([old, cell('data-parallel')], scope)
    expect(lossMarkdown(beside, nothing)).toContain('The code of diloco has changed since')
  })

  test('are the same cells where a setting with a default came later', () => {
    const { sync } = cell('sparse-loco').key
    if (sync.method !== 'sparse-loco') throw new TypeError(sync.method)
    const { average: _default, ...before } = sync
    const old = cell('sparse-loco', { sync: before as typeof sync, bits: 'old' })
    const today = cell('sparse-loco', { seed: 2 })
    expect(deviations(old)).toEqual([])
    expect(comparableCells([old, cell('sparse-loco')], scope)).toHaveLength(1)
    expect(lossMarkdown([old, today], nothing).match(/^\| sparse-loco/gm)).toHaveLength(1)
  })

  test('are compared with data parallelism of today’s settings', () => {
    const own = cell('data-parallel')
    const { optimiser } = own.key
    const other = cell('data-parallel', { optimiser: { ...optimiser, learningRate: 1 } })
    expect(referencesOf([other, own])).toEqual([own])
  })

  test('that are absent are named by method, replicas and seeds', () => {
    const cells = [
      ...[1, 2].map((seed) => cell('data-parallel', { seed })),
      ...[1, 2].map((seed) => cell('diloco', { seed })),
      cell('diloco', { replicas: 4, seed: 2 }),
      cell('noloco', { replicas: 4 }),
    ]
    expect(absentCells(cells, nothing)).toEqual({
      ...{ of: 10, absent: 4 },
      words: [
        'diloco with 4 replicas (seed 1)',
        'noloco with 1 replica (seeds 1, 2), with 4 replicas (seed 2)',
      ],
    })
    // Of what was asked for everything counts, whether there is any of it or not.
    const asked = absentCells(cells.slice(0, 1), { methods: ['distro'], replicas: [2], seeds: [3] })
    expect(absentCells([], { methods: ['diloco'], replicas: [1, 2], seeds: [1] }).words).toEqual([
      'diloco with 1, 2 replicas (seed 1)',
    ])
    expect(asked.words).toEqual([
      'data-parallel with 1 replica (seed 3)',
      'distro with 2 replicas (seeds 1, 3)',
    ])
    expect(lossMarkdown(cells, nothing)).toMatch(
      /6 of 10 cells are there with .*\. Not measured: diloco with 4/,
    )
  })
})

describe('the rows of table 1', () => {
  const own = cell('sparse-loco')
  const { sync, optimiser } = own.key
  const rows = (...cells: TrainingCell[]): string[] =>
    lossMarkdown(cells, nothing)
      .split('\n')
      .filter((line) => line.startsWith('| sparse-loco'))

  test('show H, outer rate and momentum of methods that have them', () => {
    expect(rows(own)[0]).toContain('| sparse-loco | 10 | 1 | – | 1 |')
    const more = comparableCells([cell('demo'), cell('streaming-diloco')], scope)
    const text = lossMarkdown(more, nothing)
    expect(text).toMatch(/^\| streaming-diloco \| 64 \| 0.7 \| 0.6 \| 1 \|/m)
    expect(text).toMatch(/^\| demo \| – \| – \| – \| 1 \|/m)
  })

  test('tell settings apart that have no column', () => {
    if (sync.method !== 'sparse-loco') throw new TypeError(sync.method)
    const other = cell('sparse-loco', { sync: { ...sync, kept: 32, outerLearningRate: 0.5 } })
    expect(deviations(other).map(([name]) => name)).toEqual(['kept', 'outerLearningRate'])
    expect(rows(own, other)).toHaveLength(2)
    expect(rows(own, other)[1]).toContain('| sparse-loco (kept 32) | 10 | 0.5 | – |')
    const slower = cell('sparse-loco', { optimiser: { ...optimiser, learningRate: 1e-3 } })
    expect(rows(own, slower).map((row) => row.slice(0, 24))).toEqual([
      '| sparse-loco | 0.0090 |',
      '| sparse-loco | 0.0010 |',
    ])
  })
})
