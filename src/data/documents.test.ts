import { describe, expect, test } from 'vitest'
import { GroundswellError, memoryFiles } from '../core/index.ts'
import { type LoadOptions, loadDocuments } from './index.ts'

const load = (files: Record<string, string | Uint8Array>, options: LoadOptions = {}, path = 'data') =>
  loadDocuments(memoryFiles(files), path, options)

const failure = async (
  files: Record<string, string | Uint8Array>,
  options: LoadOptions = {},
  path = 'data',
) => {
  const thrown = await load(files, options, path).catch((error: unknown) => error)
  if (!(thrown instanceof GroundswellError)) throw new Error(`no GroundswellError: ${String(thrown)}`)
  return thrown
}

describe('loadDocuments', () => {
  test('takes every file of a folder, by path, whatever order they were written in', async () => {
    const corpus = await load({
      'data/b.md': 'two',
      'data/a.txt': 'one',
      'data/sub/c.ts': 'thrée',
      'other.txt': 'no',
    })
    expect(corpus.documents).toEqual([
      { path: 'data/a.txt', text: 'one' },
      { path: 'data/b.md', text: 'two' },
      { path: 'data/sub/c.ts', text: 'thrée' },
    ])
    expect(corpus).toMatchObject({ files: 3, textBytes: 12 })
  })

  test('takes a single file, even a hidden one, and several folders without taking a file twice', async () => {
    const files = { '../data/.notes': 'hidden', '../data/a.txt': 'a', '../more/b.txt': 'b' }
    expect((await load(files, {}, '../data/.notes')).documents).toHaveLength(1)
    const both = await loadDocuments(memoryFiles(files), ['../data', '../more', '../data/a.txt'])
    expect(both.documents.map(({ path }) => path)).toEqual(['../data/a.txt', '../more/b.txt'])
  })

  test('leaves out what is superfluous, and counts it', async () => {
    const corpus = await load({
      'data/a.txt': 'same',
      'data/b.txt': 'same',
      'data/c.txt': ' \n',
      'data/.git/d.txt': 'hidden',
      'data/.DS_Store': new Uint8Array([0, 1]),
    })
    expect(corpus.documents).toHaveLength(1)
    expect(corpus.leftOut).toEqual({ duplicates: 1, empty: 1, binary: 0, tooLarge: 0, overTotal: 0 })
  })

  test('leaves out what is hidden in the folder that it is in, too', async () => {
    const corpus = await load({ '.env': 'secret', '.git/HEAD': 'ref', 'a.txt': 'one' }, {}, '.')
    expect(corpus.documents.map(({ text }) => text)).toEqual(['one'])
  })

  test('chooses by endings, by a predicate, by size and up to a total', async () => {
    const files = {
      'data/a.md': '1234',
      'data/b.MD': '123456789',
      'data/c.ts': '12',
      'data/d.md': '567',
      'data/e.md': '8',
    }
    const corpus = await load(files, { extensions: ['.md'], maxFileBytes: 8, maxTotalBytes: 6 })
    expect(corpus.documents.map(({ path }) => path)).toEqual(['data/a.md'])
    expect(corpus.leftOut).toMatchObject({ tooLarge: 1, overTotal: 2 })
    const chosen = await load(files, { include: (path) => path < 'data/b' })
    expect(chosen.documents).toHaveLength(1)
  })

  test('a byte order mark is no part of the text', async () => {
    expect((await load({ 'data/a.txt': '\ufefftext' })).documents[0]!.text).toBe('text')
  })

  test('reads JSON lines by field, blank lines and Windows line ends included', async () => {
    const content = '{"text":"one","n":1}\r\n\r\n{"text":"two"}'
    expect((await load({ 'data.jsonl': content }, {}, 'data.jsonl')).documents).toEqual([
      { path: 'data.jsonl:1', text: 'one' },
      { path: 'data.jsonl:3', text: 'two' },
    ])
    const named = await load({ 'data/x.ndjson': '{"question":"why?"}' }, { field: 'question' })
    expect(named.documents[0]!.text).toBe('why?')
  })
})

describe('what loadDocuments refuses', () => {
  test('a path where nothing is', async () => {
    expect(await failure({})).toMatchObject({
      code: 'data/not-found',
      message: 'There is no data at “data”.',
    })
  })

  test('a folder without text, saying why', async () => {
    expect(await failure({ 'data/a.txt': '', 'data/b.txt': '\n' })).toMatchObject({
      code: 'data/empty',
      message: 'There is no text in “data”: 2 empty of 2 files.',
    })
    expect(await failure({ 'data/a.txt': 'text' }, { extensions: ['.md'] })).toMatchObject({
      message: 'There are no files ending in .md in “data”.',
    })
  })

  test.each([
    ['NUL bytes', new Uint8Array([0x89, 0x50, 0, 0]), '“data/b.png” is not a text file: byte 2 is NUL.'],
    [
      'bytes that are not UTF-8',
      new Uint8Array([0x66, 0xfc, 0x72]),
      '“data/b.png” is not a text file: it is not valid UTF-8.',
    ],
  ])('a file with %s among text, unless it may be skipped', async (_what, bytes, message) => {
    const files = { 'data/a.txt': 'text', 'data/b.png': bytes }
    const error = await failure(files)
    expect(error).toMatchObject({ code: 'data/binary', message })
    expect(error.remedy).toMatch(/Move it out/)
    expect(await load(files, { onBinary: 'skip' })).toMatchObject({ files: 1, leftOut: { binary: 1 } })
    expect(await failure({ 'data/b.png': bytes }, { onBinary: 'skip' })).toMatchObject({ code: 'data/empty' })
  })

  test.each([
    ['a broken line', '{"text":"a"}\n{"text":', /“data\/a.jsonl:2” is not JSON/],
    ['a line that is no object', '["a"]', /“data\/a.jsonl:1” is not a JSON object/],
    [
      'a line without the field',
      '{"body":"a","id":1}',
      /“data\/a.jsonl:1” has no field “text”; it has “body”, “id”/,
    ],
    ['a field that is no text', '{"text":7}', /The field “text” of “data\/a.jsonl:1” is not text/],
  ])('%s, with file and line', async (_what, content, message) => {
    const error = await failure({ 'data/a.jsonl': content })
    expect(error.code).toBe('data/bad-line')
    expect(error.message).toMatch(message)
  })
})
