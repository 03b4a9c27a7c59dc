/** Table 5: what it counts, and how it is shown; never how fast anything is. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { layoutOf } from '../../src/model/index.ts'
import { syncSettingsSchema } from '../../src/sync/index.ts'
import { codecsMarkdown, measureCodec } from './codecs.ts'
import { median, quartiles } from './markdown.ts'
import { RecentUpdates } from './recent-updates.ts'
import { byteModel } from './training-cell.ts'

const layout = layoutOf(byteModel('toy').config)
const from = { date: '2026-01-01T00:00Z', machine: 'a machine', commit: 'abc' }

describe('table-codecs with a toy', () => {
  const settings = syncSettingsSchema.parse({ method: 'diloco', encoding: 'float32' })
  const figures = measureCodec(settings, layout, 3)

  test('counts what is sent, and a billion parameters by the median', () => {
    // 32 bits each and a frame.
    expect(figures.bitsPerParameter).toBeCloseTo(32 + (8 * 12) / layout.totalSize, 9)
    for (const operation of ['encode', 'decode', 'merge'] as const) {
      const { lower, median: middle, upper } = figures.rates[operation]
      expect(lower).toBeLessThanOrEqual(middle)
      expect(middle).toBeLessThanOrEqual(upper)
      expect(figures.secondsAt1B[operation]).toBeCloseTo(4000 / middle, 9)
    }
  })

  test('shows a table for each model, and where it comes from', () => {
    const row = { model: 'toy', parameters: layout.totalSize, label: 'DiLoCo', settings, ...figures }
    const rates = { lower: 399.6, median: 400, upper: 410 }
    const fixed = { ...row, rates: { encode: rates, decode: { ...rates, median: 1e6 }, merge: rates } }
    const markdown = codecsMarkdown([fixed, { ...fixed, model: 'other' }], 3, from)
    expect(markdown.match(/## A Llama of/g)).toHaveLength(2)
    expect(markdown).toContain('| 400 (400–410) | > 100,000 | 400 (400–410) |')
    expect(markdown).toContain('Measured 2026-01-01T00:00Z on a machine, at commit abc.')
  })
})

test('quartiles lie between the least and the greatest, around the median', () => {
  expect(quartiles([5, 1, 3, 2, 4])).toEqual({ lower: 2, median: 3, upper: 4 })
  expect(quartiles([7])).toEqual({ lower: 7, median: 7, upper: 7 })
  fc.assert(
    fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
      const { lower, median: middle, upper } = quartiles(values)
      expect(middle).toBeCloseTo(median(values), 6)
      expect(lower).toBeGreaterThanOrEqual(Math.min(...values))
      expect(upper).toBeLessThanOrEqual(Math.max(...values))
    }),
  )
})

test('recent updates are the newest first, of the fragment that is due, and repeated while there are not enough', () => {
  const whole = new RecentUpdates<number>(3, syncSettingsSchema.parse({ method: 'diloco' }))
  const updatesOf = (recent: RecentUpdates<number>, round: number, count: number): number[] =>
    recent.contributions(round, count).map(({ update }) => update)
  whole.add(1, 1)
  expect(updatesOf(whole, 1, 2)).toEqual([1, 1])
  for (const round of [2, 3, 4]) whole.add(round, round)
  expect(updatesOf(whole, 4, 4)).toEqual([4, 3, 2, 4])
  const halves = new RecentUpdates<number>(3, syncSettingsSchema.parse({ method: 'streaming-diloco' }))
  for (const round of [1, 2, 3]) halves.add(round, round)
  expect(updatesOf(halves, 3, 3)).toEqual([3, 1, 3])
  expect(updatesOf(halves, 4, 1)).toEqual([2])
})
