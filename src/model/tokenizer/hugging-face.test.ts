/**
 * Against Hugging Face's `tokenizers`: `test/vectors/tokenizer.py` wrote down what that library does with awkward text.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { byteTokenizer, parseTokenizerJson, tokenizerToJson, trainBytePairEncoding } from './index.ts'

interface Vectors {
  texts: string[]
  corpus: string[]
  tokenizers: {
    kind: string
    file: unknown
    asText: number[][]
    parsed: number[][]
    pointDigests: string[]
    decoded: { ids: number[]; text: string; all: string }[]
  }[]
  trainings: {
    texts: string[]
    vocabularySize: number
    specialTokens: string[]
    minimumFrequency: number
    merges: string[]
  }[]
}

const vectors = JSON.parse(
  readFileSync(new URL('../../../test/vectors/tokenizer.json', import.meta.url), 'utf8'),
) as Vectors

const digest = (ids: Int32Array): string =>
  createHash('sha256').update(new Uint8Array(ids.buffer)).digest('hex')

/** The same context around every character as in the script. */
const inContext = (points: number[]): string =>
  points
    .map((point) => String.fromCodePoint(point))
    .map((c) => `a${c}1${c} ${c}${c}!${c}\n`)
    .join('')

describe.each(vectors.tokenizers)('a tokenizer file of the kind $kind', (expected) => {
  const tokenizer = parseTokenizerJson(JSON.stringify(expected.file))
  const rewritten = parseTokenizerJson(tokenizerToJson(tokenizer))

  test('gives the same ids as the library that wrote it, also after we have written it again', () => {
    for (const [i, text] of vectors.texts.entries()) {
      expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(expected.asText[i])
      expect([...tokenizer.encode(text, { specialTokens: 'parse' })]).toEqual(expected.parsed[i])
      expect([...rewritten.encode(text, { specialTokens: 'parse' })]).toEqual(expected.parsed[i])
    }
  })

  test('takes every character of Unicode for the same class', () => {
    const points = Array.from({ length: 0x39000 }, (_, i) => i).filter((c) => c < 0xd800 || c > 0xdfff)
    for (const [i, expectedDigest] of expected.pointDigests.entries()) {
      const block = points.slice(i * 0x8000, (i + 1) * 0x8000)
      expect(digest(tokenizer.encode(inContext(block))), `block ${i}`).toBe(expectedDigest)
    }
  })

  test('turns any ids into the same text, valid UTF-8 or not', () => {
    for (const { ids, text, all } of expected.decoded) {
      expect(tokenizer.decode(ids)).toBe(text)
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(all)
    }
  })
})

describe('training', () => {
  test.each(vectors.trainings.map((training, i) => ({ i, ...training })))(
    'learns the merges of the library, ties and all (corpus $i)',
    ({ texts, merges, vocabularySize, specialTokens, minimumFrequency }) => {
      const options = { vocabularySize, specialTokens, minimumFrequency }
      const learned = JSON.parse(tokenizerToJson(trainBytePairEncoding(texts, options)))
      expect(learned.model.merges).toEqual(merges)
    },
  )

  test('gives the very vocabulary of the library', () => {
    const { file } = vectors.tokenizers.find(({ kind }) => kind === 'gpt2')! as {
      file: { model: { vocab: object } }
    }
    const ours = JSON.parse(tokenizerToJson(trainBytePairEncoding(vectors.corpus, { vocabularySize: 380 })))
    expect(ours.model.vocab).toEqual(file.model.vocab)
  })
})

test('the byte tokenizer gives the bytes of UTF-8', () => {
  const bytes = byteTokenizer()
  for (const text of vectors.texts)
    expect([...bytes.encode(text)]).toEqual([...new TextEncoder().encode(text)])
})
