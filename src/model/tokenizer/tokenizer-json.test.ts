import { describe, expect, test } from 'vitest'
import { GroundswellError } from '../../core/index.ts'
import { byteTokenizer, parseTokenizerJson, tokenizerToJson, trainBytePairEncoding } from './index.ts'

const written = tokenizerToJson(trainBytePairEncoding(['some text, some more text'], { vocabularySize: 270 }))

/** The file with some of its fields replaced. */
const withFields = (fields: object, model: object = {}): string => {
  const file = JSON.parse(written)
  return JSON.stringify({ ...file, ...fields, model: { ...file.model, ...model } })
}

const codeOf = (text: string): string | undefined => {
  try {
    parseTokenizerJson(text)
    return undefined
  } catch (thrown) {
    return thrown instanceof GroundswellError ? thrown.code : String(thrown)
  }
}

describe('tokenizer.json', () => {
  test('reads back as what was written, byte for byte', () => {
    expect(tokenizerToJson(parseTokenizerJson(written))).toBe(written)
    const bytes = tokenizerToJson(byteTokenizer())
    expect(tokenizerToJson(parseTokenizerJson(bytes))).toBe(bytes)
    expect(parseTokenizerJson(bytes).endOfTextId).toBe(0)
  })

  test.each([
    ['a Unigram model', withFields({}, { type: 'Unigram' })],
    ['a WordPiece model', withFields({}, { type: 'WordPiece' })],
    ['byte fallback', withFields({}, { byte_fallback: true })],
    ['dropout', withFields({}, { dropout: 0.1 })],
    ['a prefix of subwords', withFields({}, { continuing_subword_prefix: '##' })],
    ['a normalizer', withFields({ normalizer: { type: 'NFC' } })],
    ['another pre-tokenizer', withFields({ pre_tokenizer: { type: 'Metaspace', replacement: '▁' } })],
    ['no pre-tokenizer', withFields({ pre_tokenizer: null })],
    ['a space put in front', withFields({ pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } })],
    [
      'an unknown expression',
      withFields({
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: [
            { type: 'Split', pattern: { Regex: '\\w+' }, behavior: 'Isolated', invert: false },
            { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
          ],
        },
      }),
    ],
    ['another post-processor', withFields({ post_processor: { type: 'BertProcessing' } })],
    ['another decoder', withFields({ decoder: { type: 'WordPiece' } })],
    [
      'an added token that eats spaces',
      withFields({ added_tokens: [{ id: 0, content: 'x', lstrip: true }] }),
    ],
    ['a vocabulary without all bytes', withFields({}, { vocab: { a: 0 } })],
  ])('refuses %s by name', (_what, text) => {
    expect(codeOf(text)).toBe('tokenizer/unsupported')
  })

  test.each([
    ['no JSON', '{'],
    ['another file', '{"architectures": ["LlamaForCausalLM"]}'],
    ['an id that is no number', withFields({}, { vocab: { a: 'b' } })],
    ['an id beyond all bounds', withFields({}, { vocab: { a: 2 ** 40 } })],
    ['a merge of unknown tokens', withFields({}, { merges: ['zz yy'] })],
    ['a merge of three', withFields({}, { merges: ['a b c'] })],
  ])('refuses %s as malformed', (_what, text) => {
    expect(codeOf(text)).toBe('tokenizer/malformed')
  })

  test('says which file, what it uses, and what to do', () => {
    const read = (): unknown =>
      parseTokenizerJson(withFields({ normalizer: { type: 'NFC' } }), 'model/tokenizer.json')
    expect(read).toThrow('model/tokenizer.json uses the normalizer NFC, which is not supported.')
  })
})
