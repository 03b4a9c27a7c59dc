import { expect, test } from 'vitest'
import { documentsOfJsonLines } from './json-lines.ts'

const lines = (...texts: string[]): string => texts.map((text) => JSON.stringify({ text })).join('\n')

test('a line cannot spell the token that ends a document, and is named if it tries', () => {
  const text = lines('one', 'two\0three')
  expect(text).not.toContain('\0') // the file itself looks like text
  expect(() => [...documentsOfJsonLines('data/a.jsonl', text, 'text')]).toThrow(
    expect.objectContaining({
      code: 'data/bad-line',
      message: 'The field “text” of “data/a.jsonl:2” is not text: character 3 is NUL.',
    }),
  )
})

test('other control characters, and NUL in other fields, are no reason to refuse a line', () => {
  const text = `${lines('tab\tbell\u0007')}\n${JSON.stringify({ text: 'plain', note: '\0' })}`
  expect([...documentsOfJsonLines('a.jsonl', text, 'text')].map((document) => document.text)).toEqual([
    'tab\tbell\u0007',
    'plain',
  ])
})
