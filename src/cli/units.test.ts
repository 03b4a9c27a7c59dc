import { expect, test } from 'vitest'
import { parseBytes, parseRate } from './units.ts'

test('a small b is bits, a large one bytes', () => {
  expect(parseRate('10Mb/s')).toBe(1_250_000)
  expect(parseRate('2MB/s')).toBe(2_000_000)
  expect(parseRate('500 kB')).toBe(500_000)
  expect(parseRate('4096')).toBe(4096)
  expect(parseBytes('64MiB')).toBe(64 * 2 ** 20)
})

test('says so when nothing can be meant', () => {
  for (const text of ['', 'fast', '-1MB/s', '0', '1e999', '10 parsecs', '99999999TB']) {
    expect(parseRate(text), text).toBeUndefined()
  }
})
