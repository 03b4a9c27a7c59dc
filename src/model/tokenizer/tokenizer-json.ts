/**
 * `tokenizer.json`, the file of Hugging Face's `tokenizers` (https://github.com/huggingface/tokenizers), for byte-level
 * BPE: GPT-2's, Llama 3's, SmolLM's and the ones trained here. A file that would give other ids here than there
 * is refused, with the name of what is not supported. `truncation` and `padding` shape batches rather than text and are
 * passed over, as `transformers` overrides them in every call.
 */
import { z } from 'zod'
import { GroundswellError } from '../../core/index.ts'
import { byteCharacters } from './byte-alphabet.ts'
import type { AddedToken, DigitSplit, TokenizerDefinition } from './definition.ts'
import { expressionOfPattern, patternOfExpression, type WordPattern } from './pretokenise.ts'
import { BytePairTokenizer } from './tokenizer.ts'

/** Highest id that a file may bring: the largest published vocabularies reach a quarter of it. */
const maxTokenId = 2 ** 20
const maxAddedTokens = 2 ** 14

const id = z.int().nonnegative().max(maxTokenId)
const typed = z.looseObject({
  type: z.string(),
  add_prefix_space: z.boolean().default(true),
  use_regex: z.boolean().default(true),
  individual_digits: z.boolean().default(false),
  pretokenizers: z.unknown().optional(),
  processors: z.unknown().optional(),
})
type Typed = z.infer<typeof typed>

const addedTokenSchema = z.looseObject({
  id,
  content: z.string().min(1),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  normalized: z.boolean().optional(),
  special: z.boolean().default(false),
})

const fileSchema = z.looseObject({
  added_tokens: z.array(addedTokenSchema).max(maxAddedTokens).default([]),
  normalizer: typed.nullish(),
  pre_tokenizer: typed.nullish(),
  post_processor: typed.nullish(),
  decoder: typed.nullish(),
  model: z.looseObject({
    type: z.string().optional(),
    dropout: z.number().nullish(),
    unk_token: z.string().nullish(),
    continuing_subword_prefix: z.string().nullish(),
    end_of_word_suffix: z.string().nullish(),
    byte_fallback: z.boolean().nullish(),
    ignore_merges: z.boolean().nullish(),
    vocab: z.unknown().optional(),
    merges: z.unknown().optional(),
  }),
})

const mergesSchema = z.array(z.union([z.string(), z.tuple([z.string(), z.string()])]))

/** Writes the file; equal tokenizers give equal text. */
export function tokenizerToJson(tokenizer: BytePairTokenizer): string {
  const { definition } = tokenizer
  const contentOf = new Map<number, string>()
  for (const [token, tokenId] of definition.tokens) contentOf.set(tokenId, token)
  const merges: string[] = []
  for (let row = 0; row < definition.merges.length; row += 3) {
    merges.push(`${contentOf.get(definition.merges[row]!)!} ${contentOf.get(definition.merges[row + 1]!)!}`)
  }
  const file = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [...definition.addedTokens]
      .sort((a, b) => a.id - b.id)
      .map((token) => ({
        id: token.id,
        content: token.content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: token.normalized,
        special: token.special,
      })),
    normalizer: null,
    pre_tokenizer: preTokenizerToJson(definition),
    post_processor: postProcessorToJson(definition),
    decoder: byteLevel(true),
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: definition.ignoreMerges,
      vocab: Object.fromEntries([...definition.tokens].sort((a, b) => a[1] - b[1])),
      merges,
    },
  }
  return `${JSON.stringify(file, null, 2)}\n`
}

const byteLevel = (useRegex: boolean): object => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
})

function preTokenizerToJson({ pattern, digits }: TokenizerDefinition): object {
  const steps: object[] = []
  if (digits !== 'together') steps.push({ type: 'Digits', individual_digits: digits === 'one-by-one' })
  if (pattern === 'gpt2') {
    steps.push(byteLevel(true))
  } else {
    const split = { Regex: expressionOfPattern(pattern) }
    steps.push({ type: 'Split', pattern: split, behavior: 'Isolated', invert: false }, byteLevel(false))
  }
  return steps.length === 1 ? steps[0]! : { type: 'Sequence', pretokenizers: steps }
}

function postProcessorToJson({ addedTokens, prefix, suffix }: TokenizerDefinition): object {
  if (prefix.length + suffix.length === 0) return byteLevel(true)
  const contentOf = new Map(addedTokens.map((token) => [token.id, token.content]))
  const special = (tokenId: number): object => ({
    SpecialToken: { id: contentOf.get(tokenId)!, type_id: 0 },
  })
  const sequence = (name: string): object => ({ Sequence: { id: name, type_id: 0 } })
  const around = (name: string): object[] => [...prefix.map(special), sequence(name), ...suffix.map(special)]
  return {
    type: 'TemplateProcessing',
    single: around('A'),
    pair: [...around('A'), ...around('B')],
    special_tokens: Object.fromEntries(
      [...new Set([...prefix, ...suffix])].map((tokenId) => {
        const content = contentOf.get(tokenId)!
        return [content, { id: content, ids: [tokenId], tokens: [content] }]
      }),
    ),
  }
}

/**
 * Reads the file's text.
 * @param source what to call it in errors
 * @throws GroundswellError `tokenizer/malformed` when it is not such a file, `tokenizer/unsupported` when it is but
 *   describes a tokenizer of another kind
 */
export function parseTokenizerJson(text: string, source = 'tokenizer.json'): BytePairTokenizer {
  const file = check(fileSchema, parseJson(text, source), source)
  refuseUnless(file.normalizer == null, source, `the normalizer ${describe(file.normalizer)}`)
  const decoder = file.decoder
  refuseUnless(decoder?.type === 'ByteLevel', source, `the decoder ${describe(decoder)}`)
  const addedTokens = readAddedTokens(file.added_tokens, source)
  return new BytePairTokenizer({
    ...readModel(file.model, source),
    ...readPreTokenizer(file.pre_tokenizer, source),
    ...readPostProcessor(file.post_processor, source),
    addedTokens,
  })
}

function readModel(
  model: z.infer<typeof fileSchema>['model'],
  source: string,
): Pick<TokenizerDefinition, 'tokens' | 'merges' | 'ignoreMerges'> {
  refuseUnless((model.type ?? 'BPE') === 'BPE', source, `the model ${model.type}`)
  refuseUnless((model.dropout ?? 0) === 0, source, `dropout ${model.dropout}`)
  refuseUnless(model.byte_fallback !== true, source, 'byte_fallback (a SentencePiece vocabulary)')
  refuseUnless(!model.continuing_subword_prefix, source, 'a continuing_subword_prefix')
  refuseUnless(!model.end_of_word_suffix, source, 'an end_of_word_suffix')
  const tokens = readVocabulary(model.vocab, source)
  for (const character of byteCharacters) {
    refuseUnless(tokens.has(character), source, `a vocabulary without the byte token “${character}”`)
  }
  if (new Set(tokens.values()).size !== tokens.size) {
    throw malformed(source, 'two tokens have the same id')
  }
  // Of a pair that occurs twice the last rank counts.
  const ranked = new Map<string, [number, number, number]>()
  for (const merge of check(mergesSchema, model.merges, source)) {
    const [left, right, ...more] = typeof merge === 'string' ? merge.split(' ') : merge
    const row = [left, right, `${left}${right}`].map((token) => tokens.get(token ?? ''))
    const [leftId, rightId, result] = row
    if (more.length > 0 || leftId === undefined || rightId === undefined || result === undefined) {
      throw malformed(source, `the merge ${JSON.stringify(merge)} does not join two tokens into a third`)
    }
    const key = `${leftId} ${rightId}`
    ranked.delete(key)
    ranked.set(key, [leftId, rightId, result])
  }
  return {
    tokens,
    merges: Int32Array.from([...ranked.values()].flat()),
    ignoreMerges: model.ignore_merges ?? false,
  }
}

/** By hand: hundreds of thousands of entries, of which `__proto__` may be one. */
function readVocabulary(vocabulary: unknown, source: string): Map<string, number> {
  if (typeof vocabulary !== 'object' || vocabulary === null || Array.isArray(vocabulary)) {
    throw malformed(source, 'model.vocab is not a table of tokens')
  }
  const tokens = new Map<string, number>()
  for (const [token, tokenId] of Object.entries(vocabulary) as [string, unknown][]) {
    if (typeof tokenId !== 'number' || !Number.isInteger(tokenId) || tokenId < 0 || tokenId > maxTokenId) {
      throw malformed(source, `the token ${JSON.stringify(token)} has the id ${JSON.stringify(tokenId)}`)
    }
    tokens.set(token, tokenId)
  }
  return tokens
}

function readAddedTokens(tokens: z.infer<typeof addedTokenSchema>[], source: string): AddedToken[] {
  return tokens.map((token) => {
    const odd = (['single_word', 'lstrip', 'rstrip'] as const).find((flag) => token[flag])
    refuseUnless(odd === undefined, source, `the added token “${token.content}” with ${odd}`)
    const normalized = token.normalized ?? !token.special
    return { id: token.id, content: token.content, special: token.special, normalized }
  })
}

const splitSchema = z.looseObject({
  pattern: z.looseObject({ Regex: z.string().optional() }),
  behavior: z.string(),
  invert: z.boolean().default(false),
})

function readPreTokenizer(
  preTokenizer: Typed | null | undefined,
  source: string,
): Pick<TokenizerDefinition, 'pattern' | 'digits'> {
  const steps =
    preTokenizer?.type === 'Sequence'
      ? check(z.array(typed), preTokenizer.pretokenizers, source)
      : [preTokenizer]
  let digits: DigitSplit = 'together'
  let pattern: WordPattern | undefined
  const rest = [...steps]
  if (rest[0]?.type === 'Digits') digits = rest.shift()!.individual_digits ? 'one-by-one' : 'apart'
  if (rest[0]?.type === 'Split') {
    const split = check(splitSchema, rest.shift(), source)
    const expression = split.pattern.Regex
    pattern = expression === undefined ? undefined : patternOfExpression.get(expression)
    const known = pattern !== undefined && split.behavior === 'Isolated' && !split.invert
    refuseUnless(known, source, `the pre-tokenizer Split by ${JSON.stringify(split.pattern)}`)
  }
  const last = rest.shift()
  const unknown = last?.type === 'ByteLevel' ? rest[0] : last
  const ends = last?.type === 'ByteLevel' && rest.length === 0
  refuseUnless(ends, source, `the pre-tokenizer ${describe(unknown)}`)
  refuseUnless(last?.add_prefix_space === false, source, 'the pre-tokenizer ByteLevel with add_prefix_space')
  const splitsItself = last?.use_regex !== false
  refuseUnless(
    splitsItself === (pattern === undefined),
    source,
    'ByteLevel with both or neither of two patterns',
  )
  return { pattern: pattern ?? 'gpt2', digits }
}

const templateSchema = z.looseObject({
  single: z.array(
    z.looseObject({
      SpecialToken: z.looseObject({ id: z.string() }).optional(),
      Sequence: z.looseObject({ id: z.string() }).optional(),
    }),
  ),
  special_tokens: z.record(z.string(), z.looseObject({ ids: z.array(id) })),
})

function readPostProcessor(
  processor: Typed | null | undefined,
  source: string,
): Pick<TokenizerDefinition, 'prefix' | 'suffix'> {
  const steps =
    processor?.type === 'Sequence' ? check(z.array(typed), processor.processors, source) : [processor]
  const prefix: number[] = []
  const suffix: number[] = []
  for (const step of steps) {
    if (step == null || step.type === 'ByteLevel') continue // changes offsets, not ids
    refuseUnless(step.type === 'TemplateProcessing', source, `the post-processor ${describe(step)}`)
    const template = check(templateSchema, step, source)
    let text = 0
    const before: number[] = []
    const after: number[] = []
    for (const piece of template.single) {
      if (piece.SpecialToken === undefined) {
        text++
        continue
      }
      const ids = template.special_tokens[piece.SpecialToken.id]?.ids
      if (ids === undefined) throw malformed(source, `nothing is known of ${piece.SpecialToken.id}`)
      ;(text === 0 ? before : after).push(...ids)
    }
    refuseUnless(text === 1, source, 'a template that does not hold its text once')
    prefix.unshift(...before)
    suffix.push(...after)
  }
  return { prefix, suffix }
}

function parseJson(text: string, source: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw malformed(source, 'it is not JSON', cause)
  }
}

function check<T>(schema: z.ZodType<T>, value: unknown, source: string): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw malformed(source, `${issue?.path.join('.') || 'content'}: ${issue?.message}`, parsed.error)
}

function malformed(source: string, what: string, cause?: unknown): GroundswellError {
  return new GroundswellError(`${source} is not a usable tokenizer file: ${what}.`, {
    code: 'tokenizer/malformed',
    remedy: 'Take the file again from where it came from.',
    cause,
  })
}

function refuseUnless(condition: boolean, source: string, what: string): asserts condition {
  if (condition) return
  throw new GroundswellError(`${source} uses ${what}, which is not supported.`, {
    code: 'tokenizer/unsupported',
    remedy: 'Use a byte-level BPE tokenizer such as that of GPT-2, Llama 3 or SmolLM.',
  })
}

function describe(step: Typed | null | undefined): string {
  return step == null ? '(none)' : step.type
}
