import { expect, test } from 'vitest'
import {
  asWords,
  counted,
  formatBytes,
  formatCount,
  formatDuration,
  formatTable,
  printable,
} from './format.ts'

test('counts', () => {
  expect([0, 999, 9999, 12_345, 3_413_248, 2.5e9].map(formatCount)).toEqual([
    '0',
    '999',
    '9,999',
    '12.3k',
    '3.4M',
    '2.5G',
  ])
})

test('one of a thing is not several', () => {
  expect([0, 1, 2, 12_345].map((count) => counted(count, 'step'))).toEqual([
    '0 steps',
    '1 step',
    '2 steps',
    '12.3k steps',
  ])
})

test('bytes', () => {
  expect([0, 999, 1000, 12_345, 999_999, 3.4e6, 5e12].map(formatBytes)).toEqual([
    '0 B',
    '999 B',
    '1.00 kB',
    '12.3 kB',
    '1.00 MB',
    '3.40 MB',
    '5.00 TB',
  ])
})

test('durations', () => {
  expect([0.4, 59.4, 60, 200, 7500].map(formatDuration)).toEqual([
    '0 s',
    '59 s',
    '1 min',
    '3 min 20 s',
    '2 h 5 min',
  ])
})

test('tables align text to the left and numbers to the right', () => {
  expect(
    formatTable(
      [
        ['peer', 'loss'],
        ['a', '12.3'],
        ['bcdef', '–'],
      ],
      new Set([1]),
    ),
  ).toEqual(['peer   loss', 'a      12.3', 'bcdef     –'])
})

test('control characters of a model or a peer never reach the terminal', () => {
  expect(printable('a\u001b[2Jb\tc\nd\u009b')).toBe('a�[2Jb\tc\nd�')
})

test('phases are shown as words', () => {
  expect(['training', 'coolingDown', 'warmingUp'].map(asWords)).toEqual([
    'training',
    'cooling down',
    'warming up',
  ])
})
