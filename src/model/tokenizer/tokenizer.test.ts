import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { inTurns } from '../../core/index.ts'
import {
  byteTokenizer,
  endOfText,
  parseTokenizerJson,
  tokenizerToJson,
  trainBytePairEncoding,
} from './index.ts'
import { Merger } from './merge.ts'

const corpus = [
  'the cat sat on the mat, and the other cat sat on the other mat',
  "it's 1234 o'clock; they're late.\n\n  def f(x):\n    return x\n".repeat(4),
  'ein Käse für fünf, 中文中文中文, 😀😀 ',
]
const trained = trainBytePairEncoding(corpus, { vocabularySize: 320 })
const anyText = fc.string({
  unit: fc.oneof(fc.constantFrom(' ', '\n', "'s", 'the', '中', '😀'), fc.string({ unit: 'binary' })),
})

describe('encoding and decoding', () => {
  test.each([
    { name: 'trained', tokenizer: trained },
    { name: 'bytes', tokenizer: byteTokenizer() },
  ])('any text comes back ($name)', ({ tokenizer }) => {
    fc.assert(
      fc.property(anyText, (text) => {
        const ids = tokenizer.encode(text)
        expect(tokenizer.decode(ids)).toBe(text)
        expect(ids.every((id) => id >= 0 && id < tokenizer.vocabularySize)).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  test('text that arrives token by token is the same, and no character appears in halves', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const stream = trained.decodeStream()
        const parts = [...trained.encode(text)].map((id) => stream.push(id))
        expect(parts.join('') + stream.end()).toBe(text)
        expect(parts.every((part) => part.isWellFormed())).toBe(true)
      }),
    )
    const stream = byteTokenizer().decodeStream()
    expect([0xe4, 0xb8].map((byte) => stream.push(byte))).toEqual(['', ''])
    expect(stream.end()).toBe('\ufffd')
  })

  test('a byte order mark is a character like others', () => {
    expect(trained.decode(trained.encode('\ufeffx'))).toBe('\ufeffx')
  })

  test('a lone surrogate, which is no character, counts as U+FFFD', () => {
    expect(trained.encode('a\ud800b')).toEqual(trained.encode('a\ufffdb'))
  })

  test('text cannot smuggle in a special token unless the caller asks for it', () => {
    const text = `a${endOfText}b`
    expect(trained.encode(text)).not.toContain(trained.endOfTextId)
    expect(trained.decode(trained.encode(text))).toBe(text)
    expect(trained.encode(text, { specialTokens: 'parse' })).toContain(trained.endOfTextId)
    expect(trained.decode(trained.encode(text, { specialTokens: 'parse' }))).toBe('ab')
  })

  test('ids without a token are left out', () => {
    expect(trained.decode([...trained.encode('ab'), 100_000, -1])).toBe('ab')
    expect(trained.tokenBytes(100_000)).toEqual(new Uint8Array())
  })

  test('more distinct words than the cache holds change nothing', () => {
    const words = Array.from({ length: 150_000 }, (_, i) => ` ${((i * 2654435761) >>> 0).toString(26)}`).join(
      '',
    )
    const fresh = parseTokenizerJson(tokenizerToJson(trained))
    const all = fresh.encode(words)
    const tail = words.slice(-4000)
    expect(fresh.decode(all)).toBe(words)
    expect(all.slice(-fresh.encode(tail).length)).toEqual(fresh.encode(tail))
  })
})

describe('merging', () => {
  test('a long word merges like a short one: lowest rank first, then leftmost', () => {
    // The definition itself, one merge at a time.
    const slowly = (tokens: number[], merges: number[][]): number[] => {
      for (;;) {
        let best = -1
        let rank = merges.length
        for (let i = 0; i + 1 < tokens.length; i++) {
          const found = merges.findIndex(([left, right]) => left === tokens[i] && right === tokens[i + 1])
          if (found >= 0 && found < rank) [best, rank] = [i, found]
        }
        if (best < 0) return tokens
        tokens.splice(best, 2, merges[rank]![2]!)
      }
    }
    const token = fc.nat(5)
    const merges = fc.uniqueArray(fc.tuple(token, token, token), {
      selector: ([a, b]) => a * 6 + b,
      maxLength: 12,
    })
    fc.assert(
      fc.property(fc.array(token, { maxLength: 150, size: 'max' }), merges, (word, rows) => {
        const tokens = Int32Array.from([9, ...word])
        const length = new Merger(Int32Array.from(rows.flat())).merge(tokens, 1, word.length)
        expect([...tokens.slice(1, 1 + length)]).toEqual(slowly([...word], rows))
      }),
      { numRuns: 300 },
    )
  })

  test('two hundred thousand letters without a space are one word and no trouble', () => {
    const text = 'the'.repeat(70_000)
    expect(trained.decode(trained.encode(text))).toBe(text)
  })
})

describe('training', () => {
  test('ids are special tokens, bytes, merges; the vocabulary has the size asked for', () => {
    expect(trained.vocabularySize).toBe(320)
    expect(trained.endOfTextId).toBe(0)
    expect([...trained.specialTokens]).toEqual([[endOfText, 0]])
    expect(trained.definition.merges.length / 3).toBe(320 - 257)
  })

  test('text that runs out of pairs gives a smaller vocabulary', () => {
    expect(trainBytePairEncoding(['ab ab'], { vocabularySize: 400 }).vocabularySize).toBe(259)
    expect(trainBytePairEncoding([], { vocabularySize: 400 }).vocabularySize).toBe(257)
  })

  test('part by part it learns the same, with a turn for others after every merge and megabyte', async () => {
    const long = [...corpus, 'some words and more of them. '.repeat(100_000)]
    let turns = 0
    const pause = async (): Promise<void> => {
      turns++
    }
    const inParts = await inTurns(pause, trainBytePairEncoding, long, { vocabularySize: 300 })
    expect(tokenizerToJson(inParts)).toBe(
      tokenizerToJson(trainBytePairEncoding(long, { vocabularySize: 300 })),
    )
    expect(turns).toBe(2 + 300 - 257)
  })

  test('a vocabulary without room for the bytes is refused', () => {
    expect(() => trainBytePairEncoding(['a'], { vocabularySize: 256 })).toThrow(/256 has no room/)
  })
})
