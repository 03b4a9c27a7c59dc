/**
 * A byte-level byte-pair tokenizer as Hugging Face's `tokenizers` runs it: added tokens are cut out, the rest is cut
 * into words, and the bytes of each word merge. Every string has ids and comes back from them; a lone surrogate, which
 * is no character and which the Python library refuses, counts as U+FFFD.
 */
import { addedTokenFinder, type Piece } from './added-tokens.ts'
import { byteCharacters, bytesOfToken } from './byte-alphabet.ts'
import { endOfText, type TokenizerDefinition } from './definition.ts'
import { growInt32, growUint8 } from './grow.ts'
import { Merger } from './merge.ts'
import { wordScanner } from './pretokenise.ts'
import { digitScanner } from './split-digits.ts'
import { WordTable } from './word-table.ts'

export interface EncodeOptions {
  /**
   * What special tokens spelled out in the text mean. `text` (the default): nothing, they are characters like others,
   * so that whoever supplies the text cannot end a document or speak for somebody else; so does Python's library after
   * `tokenizer.encode_special_tokens = True`. `parse`: they become their ids, as in Python's library by default.
   */
  readonly specialTokens?: 'text' | 'parse'
  /** Whether the ids that the tokenizer file puts around every text are added. Default true, as in Python's library. */
  readonly addSpecialTokens?: boolean
}

export interface DecodeOptions {
  /** Default true, as in Python's library. */
  readonly skipSpecialTokens?: boolean
}

/** Text that grows as tokens arrive; a character whose bytes are not all there yet is held back. */
export interface DecodeStream {
  push(id: number): string
  /** What was held back: U+FFFD for an unfinished character, else nothing. */
  end(): string
}

export interface Tokenizer {
  /** One more than the highest id. */
  readonly vocabularySize: number
  /**
   * The token that begins and ends documents: a special token if there is one with a usual name, else the byte 0, which
   * text does not contain.
   */
  readonly endOfTextId: number
  /** Ids of special tokens by their content. */
  readonly specialTokens: ReadonlyMap<string, number>
  encode(text: string, options?: EncodeOptions): Int32Array
  /** Ids without a token are left out, incomplete UTF-8 becomes U+FFFD. */
  decode(ids: Iterable<number>, options?: DecodeOptions): string
  decodeStream(options?: DecodeOptions): DecodeStream
  /** The bytes that a token stands for; none for an id without a token. */
  tokenBytes(id: number): Uint8Array
}

/** Names under which tokenizers of this kind know the end of a text, in the order in which they are looked for. */
const endOfTextNames = [endOfText, '<|end_of_text|>', '</s>', '<eos>', '<|im_end|>', '<|eot_id|>']

/** The word cache: at most this many words and bytes (6 MiB in all); when it is full it is emptied. */
const cacheWords = 2 ** 16
const cacheBytes = 2 ** 20
/** Longer words are rare and would crowd out others. */
const cacheWordBytes = 64

export class BytePairTokenizer implements Tokenizer {
  readonly definition: TokenizerDefinition
  readonly vocabularySize: number
  readonly endOfTextId: number
  readonly specialTokens: ReadonlyMap<string, number>
  private readonly bytesById: (Uint8Array | undefined)[]
  private readonly specialIds: ReadonlySet<number>
  private readonly encoder: WordEncoder
  private readonly splitAdded: (text: string, parseSpecial: boolean) => Piece[]

  constructor(definition: TokenizerDefinition) {
    this.definition = definition
    const special = definition.addedTokens.filter((token) => token.special)
    this.specialTokens = new Map(special.map((token) => [token.content, token.id]))
    this.specialIds = new Set(special.map((token) => token.id))
    this.bytesById = []
    const utf8 = new TextEncoder()
    const named = [...definition.tokens, ...definition.addedTokens.map((t) => [t.content, t.id] as const)]
    for (const [token, id] of named) this.bytesById[id] = bytesOfToken(token) ?? utf8.encode(token)
    this.vocabularySize = this.bytesById.length
    this.endOfTextId =
      endOfTextNames.map((name) => this.specialTokens.get(name)).find((id) => id !== undefined) ??
      definition.tokens.get(byteCharacters[0]!)!
    this.encoder = new WordEncoder(definition)
    this.splitAdded = addedTokenFinder(definition.addedTokens)
  }

  encode(text: string, options: EncodeOptions = {}): Int32Array {
    const { prefix, suffix } = this.definition
    const around = options.addSpecialTokens ?? true
    const out = new IdBuffer()
    if (around) for (const id of prefix) out.push(id)
    for (const piece of this.splitAdded(text, options.specialTokens === 'parse')) {
      if (typeof piece === 'number') out.push(piece)
      else this.encoder.encode(piece, out)
    }
    if (around) for (const id of suffix) out.push(id)
    return out.ids()
  }

  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    let bytes: Uint8Array = new Uint8Array(64)
    let length = 0
    for (const id of ids) {
      const token = this.bytesToShow(id, options)
      if (token === undefined) continue
      bytes = growUint8(bytes, length + token.length)
      bytes.set(token, length)
      length += token.length
    }
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(0, length))
  }

  decodeStream(options: DecodeOptions = {}): DecodeStream {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
    return {
      push: (id) => {
        const bytes = this.bytesToShow(id, options)
        return bytes === undefined ? '' : decoder.decode(bytes, { stream: true })
      },
      end: () => decoder.decode(),
    }
  }

  tokenBytes(id: number): Uint8Array {
    return this.bytesById[id]?.slice() ?? new Uint8Array()
  }

  private bytesToShow(id: number, options: DecodeOptions): Uint8Array | undefined {
    const hidden = (options.skipSpecialTokens ?? true) && this.specialIds.has(id)
    return hidden ? undefined : this.bytesById[id]
  }
}

/** Ids as they are produced. */
class IdBuffer {
  array: Int32Array = new Int32Array(64)
  length = 0

  push(id: number): void {
    this.reserve(1)
    this.array[this.length++] = id
  }

  reserve(more: number): void {
    this.array = growInt32(this.array, this.length + more)
  }

  ids(): Int32Array {
    return this.array.slice(0, this.length)
  }
}

/** Encodes text free of added tokens, remembering the words it has seen. */
class WordEncoder {
  private readonly definition: TokenizerDefinition
  private readonly idOfByte: Int32Array
  private readonly merger: Merger
  private cache: WordCache | undefined

  constructor(definition: TokenizerDefinition) {
    this.definition = definition
    this.idOfByte = Int32Array.from(byteCharacters, (character) => definition.tokens.get(character)!)
    this.merger = new Merger(definition.merges)
  }

  encode(text: string, out: IdBuffer): void {
    const { pattern, digits } = this.definition
    const bytes = new TextEncoder().encode(text)
    out.reserve(bytes.length >> 1)
    const scanWord = wordScanner(pattern)
    const scanSegment = digitScanner(digits)
    for (let start = 0; start < bytes.length; ) {
      const segmentEnd = scanSegment(bytes, start, bytes.length)
      while (start < segmentEnd) {
        const end = scanWord(bytes, start, segmentEnd)
        this.encodeWord(bytes, start, end, out)
        start = end
      }
    }
  }

  private encodeWord(bytes: Uint8Array, start: number, end: number, out: IdBuffer): void {
    if (end - start === 1) {
      out.push(this.idOfByte[bytes[start]!]!)
    } else if (end - start > cacheWordBytes) {
      this.mergeWord(bytes, start, end, out)
    } else {
      this.cache ??= new WordCache()
      if (this.cache.copy(bytes, start, end, out)) return
      const before = out.length
      this.mergeWord(bytes, start, end, out)
      this.cache.store(out.array, before, out.length)
    }
  }

  private mergeWord(bytes: Uint8Array, start: number, end: number, out: IdBuffer): void {
    out.reserve(end - start)
    if (this.definition.ignoreMerges) {
      let token = ''
      for (let i = start; i < end; i++) token += byteCharacters[bytes[i]!]!
      const whole = this.definition.tokens.get(token)
      if (whole !== undefined) {
        out.push(whole)
        return
      }
    }
    for (let i = start; i < end; i++) out.array[out.length + i - start] = this.idOfByte[bytes[i]!]!
    out.length += this.merger.merge(out.array, out.length, end - start)
  }
}

/** Ids of words seen before. A word has no more tokens than bytes, so the two arenas share their offsets. */
class WordCache {
  private readonly words = new WordTable(cacheWords, cacheBytes)
  private readonly ids = new Int32Array(cacheBytes)
  /** Tokens of each word; 0 while they are not yet known. */
  private readonly counts = new Uint8Array(cacheWords)

  /** Appends the word's ids to `out`, or makes room for them and returns false: then `store` must follow. */
  copy(bytes: Uint8Array, start: number, end: number, out: IdBuffer): boolean {
    const { words } = this
    const known = words.size
    if (known === cacheWords || words.offsets[known]! + end - start > cacheBytes) {
      words.clear()
      return this.copy(bytes, start, end, out)
    }
    const word = words.add(bytes, start, end)
    if (word === known) return false
    const offset = words.offsets[word]!
    const count = this.counts[word]!
    out.reserve(count)
    for (let i = 0; i < count; i++) out.array[out.length + i] = this.ids[offset + i]!
    out.length += count
    return true
  }

  /** Keeps `ids[start … end)` as those of the newest word. */
  store(ids: Int32Array, start: number, end: number): void {
    const word = this.words.size - 1
    const offset = this.words.offsets[word]!
    for (let i = start; i < end; i++) this.ids[offset + i - start] = ids[i]!
    this.counts[word] = end - start
  }
}
