/**
 * Training of byte-level byte-pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909), with the choices
 * of Hugging Face's `BpeTrainer` so that both learn the same merges from the same text: the most frequent pair first,
 * of equally frequent ones that with the lowest ids; special tokens take the first ids, then the 256 bytes in the order
 * of their characters, then the merges. Words are counted once; a merge visits only the words that hold its pair, and
 * counts are kept up to date rather than taken anew.
 */
import { GroundswellError, inParts, type Parts } from '../../core/index.ts'
import { byteCharacters, bytesOfToken } from './byte-alphabet.ts'
import { endOfText } from './definition.ts'
import { growFloat64, growInt32 } from './grow.ts'
import { PairTable } from './pair-table.ts'
import { type WordPattern, wordScanner } from './pretokenise.ts'
import { BytePairTokenizer } from './tokenizer.ts'
import { WordTable } from './word-table.ts'

export interface TrainOptions {
  /** Special tokens, bytes and merges together. A small corpus may run out of pairs before it is reached. */
  readonly vocabularySize: number
  /** First ids of the vocabulary. Default: only `<|endoftext|>`, which begins and ends documents. */
  readonly specialTokens?: readonly string[]
  /** Pairs that occur less often are not merged. Default 1. */
  readonly minimumFrequency?: number
  /** Default `gpt2`. */
  readonly pattern?: WordPattern
}

/**
 * Learns a vocabulary from texts; `inTurns` does it part by part.
 * @throws GroundswellError `tokenizer/vocabulary-too-small` when the bytes and the special tokens do not fit
 */
export const trainBytePairEncoding: (texts: Iterable<string>, options: TrainOptions) => BytePairTokenizer =
  inParts(learnVocabulary)

function* learnVocabulary(texts: Iterable<string>, options: TrainOptions): Parts<BytePairTokenizer> {
  const specialTokens = [...new Set(options.specialTokens ?? [endOfText])]
  const alphabet = [...byteCharacters].sort()
  const tokens = [...specialTokens, ...alphabet]
  if (!Number.isInteger(options.vocabularySize) || options.vocabularySize < tokens.length) {
    throw new GroundswellError(
      `A vocabulary of ${options.vocabularySize} has no room for the 256 bytes and ${specialTokens.length} special tokens.`,
      { code: 'tokenizer/vocabulary-too-small', remedy: `Choose a vocabulary of at least ${tokens.length}.` },
    )
  }
  const pattern = options.pattern ?? 'gpt2'
  const idOfByte = new Int32Array(256)
  for (const [i, character] of alphabet.entries()) {
    idOfByte[bytesOfToken(character)![0]!] = specialTokens.length + i
  }
  const words = yield* countWords(texts, pattern)
  const learner = new MergeLearner(words, idOfByte, options.vocabularySize)
  yield* learner.enterWords()
  const merges = yield* learner.learn(tokens, options.vocabularySize, options.minimumFrequency ?? 1)
  return new BytePairTokenizer({
    tokens: new Map(tokens.map((token, id) => [token, id])),
    merges,
    pattern,
    digits: 'together',
    ignoreMerges: false,
    addedTokens: specialTokens.map((content, id) => ({ content, id, special: true, normalized: false })),
    prefix: [],
    suffix: [],
  })
}

interface WordCounts {
  readonly words: WordTable
  readonly counts: Float64Array
}

/** Bytes of text, or distinct words, between two turns: some milliseconds. */
const bytesPerPart = 1 << 20
const wordsPerPart = 1 << 16

function* countWords(texts: Iterable<string>, pattern: WordPattern): Parts<WordCounts> {
  const words = new WordTable(1 << 14, 1 << 17)
  let counts: Float64Array = new Float64Array(1 << 14)
  const scan = wordScanner(pattern)
  const encoder = new TextEncoder()
  /** Counts the words that begin before `limit`; returns where the next one begins. */
  const countPart = (bytes: Uint8Array, from: number, limit: number): number => {
    let start = from
    while (start < limit) {
      const end = scan(bytes, start, bytes.length)
      const word = words.add(bytes, start, end)
      counts = growFloat64(counts, word + 1)
      counts[word]!++
      start = end
    }
    return start
  }
  let room = bytesPerPart
  for (const text of texts) {
    const bytes = encoder.encode(text)
    for (let start = 0; start < bytes.length; ) {
      const next = countPart(bytes, start, Math.min(bytes.length, start + room))
      room -= next - start
      start = next
      if (room > 0) continue
      room = bytesPerPart
      yield
    }
  }
  return { words, counts }
}

/**
 * The state of learning: every distinct word as a shrinking row of tokens, the count of every pair, and a heap of
 * candidates, each with the words in which its pair arose.
 */
class MergeLearner {
  /** Tokens of word i: `symbols[offsets[i] … offsets[i] + lengths[i])`. */
  private readonly symbols: Int32Array
  private readonly offsets: Int32Array
  private readonly lengths: Int32Array
  private readonly wordCounts: Float64Array
  private readonly pairs = new PairTable(1 << 16)
  private pairCounts: Float64Array = new Float64Array(1 << 16)

  // Candidates: a pair, its count when it was entered, and the head of its list of words.
  private candidates = 0
  private candidatePair: Int32Array = new Int32Array(1 << 12)
  private candidateCount: Float64Array = new Float64Array(1 << 12)
  private candidateWords: Int32Array = new Int32Array(1 << 12)
  private heap: Int32Array = new Int32Array(1 << 12)
  private heapSize = 0

  // Lists of words: cells that point on; 0 ends a list.
  private cells = 1
  private cellWord: Int32Array = new Int32Array(1 << 16)
  private cellNext: Int32Array = new Int32Array(1 << 16)

  // The pairs (token, new) and (new, token) that the current merge makes, by token: head of the list of their words.
  private readonly arisenBefore: Int32Array
  private readonly arisenAfter: Int32Array
  private readonly touched: number[] = []

  constructor({ words, counts }: WordCounts, idOfByte: Int32Array, vocabularySize: number) {
    const total = words.offsets[words.size]!
    this.symbols = new Int32Array(total)
    for (let i = 0; i < total; i++) this.symbols[i] = idOfByte[words.arena[i]!]!
    this.offsets = words.offsets
    this.lengths = new Int32Array(words.size)
    this.wordCounts = counts
    this.arisenBefore = new Int32Array(vocabularySize)
    this.arisenAfter = new Int32Array(vocabularySize)
    for (let word = 0; word < words.size; word++) {
      this.lengths[word] = words.offsets[word + 1]! - words.offsets[word]!
    }
  }

  /** Counts the pairs of all words, which are the first candidates. */
  *enterWords(): Parts<void> {
    const heads: number[] = []
    for (let word = 0; word < this.lengths.length; word++) {
      const start = this.offsets[word]!
      const end = start + this.lengths[word]!
      for (let i = start; i + 1 < end; i++) {
        const pair = this.addToPair(this.symbols[i]!, this.symbols[i + 1]!, this.wordCounts[word]!)
        heads[pair] = this.prependWord(heads[pair] ?? 0, word)
      }
      if (word % wordsPerPart === wordsPerPart - 1) yield
    }
    for (let pair = 0; pair < heads.length; pair++) this.push(pair, heads[pair]!)
  }

  /** Extends `tokens` and returns the merges as rows of left, right and result, in order of their rank. */
  *learn(tokens: string[], vocabularySize: number, minimumFrequency: number): Parts<Int32Array> {
    const ids = new Map(tokens.map((token, id) => [token, id]))
    const learned: [number, number, number][] = []
    while (tokens.length < vocabularySize && this.heapSize > 0) {
      const candidate = this.pop()
      const pair = this.candidatePair[candidate]!
      const count = this.pairCounts[pair]!
      if (this.candidateCount[candidate] !== count) {
        // Other merges have consumed some of these pairs since the candidate was entered.
        this.candidateCount[candidate] = count
        this.heapPush(candidate)
        continue
      }
      if (count < Math.max(1, minimumFrequency)) break
      const left = this.pairs.left[pair]!
      const right = this.pairs.right[pair]!
      const token = tokens[left]! + tokens[right]!
      // ab+c and a+bc may both be frequent: they make one and the same token.
      let id = ids.get(token)
      if (id === undefined) {
        id = tokens.length
        ids.set(token, id)
        tokens.push(token)
      }
      learned.push([left, right, id])
      this.merge(left, right, id, this.candidateWords[candidate]!)
      yield
    }
    return withoutRepeats(learned)
  }

  /** Merges the pair in the listed words and enters the pairs that arise. */
  private merge(left: number, right: number, merged: number, words: number): void {
    for (let cell = words; cell !== 0; cell = this.cellNext[cell]!) {
      this.mergeWord(this.cellWord[cell]!, left, right, merged)
    }
    for (const token of this.touched) {
      const before = this.arisenBefore[token]!
      const after = this.arisenAfter[token]!
      this.arisenBefore[token] = 0
      this.arisenAfter[token] = 0
      if (before !== 0) this.pushIfAny(this.pairs.find(token, merged), before)
      if (after !== 0) this.pushIfAny(this.pairs.find(merged, token), after)
    }
    this.touched.length = 0
  }

  private mergeWord(word: number, left: number, right: number, merged: number): void {
    const { symbols } = this
    const start = this.offsets[word]!
    const end = start + this.lengths[word]!
    const count = this.wordCounts[word]!
    let write = start
    for (let read = start; read < end; ) {
      if (symbols[read] !== left || read + 1 >= end || symbols[read + 1] !== right) {
        symbols[write++] = symbols[read++]!
        continue
      }
      if (write > start) {
        const previous = symbols[write - 1]!
        this.addToPair(previous, left, -count)
        this.addToPair(previous, merged, count)
        this.note(this.arisenBefore, previous, word)
      }
      symbols[write++] = merged
      read += 2
      if (read < end) {
        const next = symbols[read]!
        this.addToPair(right, next, -count)
        this.addToPair(merged, next, count)
        // The pair of the new token with itself arises from either side; it must not be entered twice.
        this.note(next === merged ? this.arisenBefore : this.arisenAfter, next, word)
      }
    }
    this.lengths[word] = write - start
  }

  private note(arisen: Int32Array, token: number, word: number): void {
    if (this.arisenBefore[token] === 0 && this.arisenAfter[token] === 0) this.touched.push(token)
    arisen[token] = this.prependWord(arisen[token]!, word)
  }

  private addToPair(left: number, right: number, count: number): number {
    const pair = this.pairs.add(left, right)
    this.pairCounts = growFloat64(this.pairCounts, pair + 1)
    this.pairCounts[pair]! += count
    return pair
  }

  /** Words come one after the other, so that a repetition can only be at the head. */
  private prependWord(head: number, word: number): number {
    if (head !== 0 && this.cellWord[head] === word) return head
    const cell = this.cells++
    this.cellWord = growInt32(this.cellWord, this.cells)
    this.cellNext = growInt32(this.cellNext, this.cells)
    this.cellWord[cell] = word
    this.cellNext[cell] = head
    return cell
  }

  private pushIfAny(pair: number, words: number): void {
    if (this.pairCounts[pair]! > 0) this.push(pair, words)
  }

  private push(pair: number, words: number): void {
    const candidate = this.candidates++
    this.candidatePair = growInt32(this.candidatePair, this.candidates)
    this.candidateCount = growFloat64(this.candidateCount, this.candidates)
    this.candidateWords = growInt32(this.candidateWords, this.candidates)
    this.heap = growInt32(this.heap, this.candidates)
    this.candidatePair[candidate] = pair
    this.candidateCount[candidate] = this.pairCounts[pair]!
    this.candidateWords[candidate] = words
    this.heapPush(candidate)
  }

  /** Whether candidate `a` is to be merged before `b`. */
  private precedes(a: number, b: number): boolean {
    const difference = this.candidateCount[a]! - this.candidateCount[b]!
    if (difference !== 0) return difference > 0
    const pairA = this.candidatePair[a]!
    const pairB = this.candidatePair[b]!
    const byLeft = this.pairs.left[pairA]! - this.pairs.left[pairB]!
    return byLeft !== 0 ? byLeft < 0 : this.pairs.right[pairA]! < this.pairs.right[pairB]!
  }

  private heapPush(candidate: number): void {
    const { heap } = this
    let position = this.heapSize++
    while (position > 0) {
      const parent = (position - 1) >> 1
      if (!this.precedes(candidate, heap[parent]!)) break
      heap[position] = heap[parent]!
      position = parent
    }
    heap[position] = candidate
  }

  private pop(): number {
    const { heap } = this
    const top = heap[0]!
    const last = heap[--this.heapSize]!
    let position = 0
    for (;;) {
      let child = position * 2 + 1
      if (child >= this.heapSize) break
      if (child + 1 < this.heapSize && this.precedes(heap[child + 1]!, heap[child]!)) child++
      if (!this.precedes(heap[child]!, last)) break
      heap[position] = heap[child]!
      position = child
    }
    heap[position] = last
    return top
  }
}

/**
 * A pair may be learned a second time, when the token it ends in was made in two ways; as in a tokenizer file, the
 * last rank counts.
 */
function withoutRepeats(learned: readonly [number, number, number][]): Int32Array {
  const last = new Map(learned.map(([left, right], rank) => [`${left} ${right}`, rank]))
  return Int32Array.from(
    learned.filter(([left, right], rank) => last.get(`${left} ${right}`) === rank).flat(),
  )
}
