/** Rows named many times: the right sum, and the same bits every time however many threads there are. */
import { describe, expect, test } from 'vitest'
import { seededRandom } from '../../core/index.ts'
import { type Dialect, gather, grad, mul, parameter, scatterAdd, sum, zeros } from '../index.ts'
import { distance, normalNumbers, programOf, type RunOptions, runOnnx, runReference } from '../testing.ts'

describe.each([
  { rows: 16, count: 700, width: 64 },
  { rows: 600, count: 700, width: 64 },
  { rows: 600, count: 40, width: 8 },
])('$count rows added to a table of $rows', ({ rows, count, width }) => {
  const indices = parameter('indices', [count], 'int32')
  const updates = parameter('updates', [count, width])
  const base = parameter('base', [rows, width])
  const program = programOf(
    {
      ontoZeros: scatterAdd(zeros([rows, width]), indices, updates),
      ontoBase: scatterAdd(base, indices, updates),
    },
    [indices, updates, base],
  )
  const random = seededRandom('scatter', rows)
  const feed = {
    // a few rows are named very often, as words of a language are
    indices: {
      shape: [count],
      data: Int32Array.from({ length: count }, () => rows * random.nextFloat() ** 4),
    },
    updates: normalNumbers([count, width], 'updates'),
    base: normalNumbers([rows, width], 'base'),
  }
  const expected = runReference(program, feed)
  const ways: (RunOptions & { dialect: Dialect })[] = [
    { build: 'native', threads: 1, dialect: 'cpu' },
    { build: 'native', threads: 2, dialect: 'cpu' },
    { build: 'wasm', threads: 1, dialect: 'portable' },
  ]

  test.each(ways)('$build, $threads thread(s)', async ({ dialect, ...options }) => {
    const first = await runOnnx(program, feed, dialect, options)
    for (const name of Object.keys(expected)) {
      expect(distance(first[name]!.data, expected[name]!.data)).toBeLessThan(1e-5)
    }
    for (let repeat = 0; repeat < 5; repeat++) {
      expect(await runOnnx(program, feed, dialect, options)).toEqual(first)
    }
  })

  test('as the gradient of an embedding', async () => {
    const [gradient] = grad(sum(mul(gather(base, indices), updates)), [base])
    const embedding = programOf({ gradient: gradient! }, [indices, updates, base])
    const actual = (await runOnnx(embedding, feed, 'cpu', { threads: 2 })).gradient!
    expect(distance(actual.data, expected.ontoZeros!.data)).toBeLessThan(1e-5)
  })
})
