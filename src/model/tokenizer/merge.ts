/**
 * Applies the learned merges to one word: always the pair of lowest rank, of equal ones the leftmost, until no pair in
 * the word can merge. Short words are scanned again and again, which is quickest for them; long ones keep a heap over a
 * linked list, so that a megabyte without a space takes n log n steps and not n².
 */
import { GroundswellError } from '../../core/index.ts'
import { PairTable } from './pair-table.ts'

/** Tokens up to which scanning again and again is the quicker way. */
const scanLimit = 48
/** Ranks and positions share the 53 bits of a heap key. */
const maxMerges = 2 ** 22
const positionSpan = 2 ** 31

export class Merger {
  private readonly pairs: PairTable
  /** By the pair's number in the table, which is its rank. */
  private readonly results: Int32Array
  private readonly ranks = new Int32Array(scanLimit)

  /** `merges` are rows of left, right and result by rank. */
  constructor(merges: Int32Array) {
    const count = merges.length / 3
    if (count > maxMerges) {
      throw new GroundswellError(`The tokenizer has ${count} merges; at most ${maxMerges} are supported.`, {
        code: 'tokenizer/too-large',
      })
    }
    this.pairs = new PairTable(count)
    this.results = new Int32Array(count)
    for (let rank = 0; rank < count; rank++) {
      this.pairs.add(merges[rank * 3]!, merges[rank * 3 + 1]!)
      this.results[rank] = merges[rank * 3 + 2]!
    }
  }

  /** Merges `tokens[start … start + length)` in place and returns how many tokens are left. */
  merge(tokens: Int32Array, start: number, length: number): number {
    return length <= scanLimit
      ? this.mergeShort(tokens, start, length)
      : this.mergeLong(tokens, start, length)
  }

  private rankOf(left: number, right: number): number {
    const rank = this.pairs.find(left, right)
    return rank < 0 ? maxMerges : rank
  }

  private mergeShort(tokens: Int32Array, start: number, length: number): number {
    const { ranks } = this
    for (let i = 0; i + 1 < length; i++) ranks[i] = this.rankOf(tokens[start + i]!, tokens[start + i + 1]!)
    while (length > 1) {
      let best = 0
      let lowest = maxMerges
      for (let i = 0; i + 1 < length; i++) {
        if (ranks[i]! < lowest) {
          lowest = ranks[i]!
          best = i
        }
      }
      if (lowest === maxMerges) break
      tokens[start + best] = this.results[lowest]!
      length--
      for (let i = best + 1; i < length; i++) {
        tokens[start + i] = tokens[start + i + 1]!
        ranks[i] = ranks[i + 1]!
      }
      if (best > 0) ranks[best - 1] = this.rankOf(tokens[start + best - 1]!, tokens[start + best]!)
      if (best + 1 < length) ranks[best] = this.rankOf(tokens[start + best]!, tokens[start + best + 1]!)
    }
    return length
  }

  private mergeLong(tokens: Int32Array, start: number, length: number): number {
    const gone = -1
    const symbols = tokens.subarray(start, start + length)
    const previous = Int32Array.from(symbols, (_, i) => i - 1)
    const next = Int32Array.from(symbols, (_, i) => i + 1)
    const heap = new KeyHeap(length)
    const consider = (position: number): void => {
      const following = next[position]!
      if (following >= length) return
      const rank = this.pairs.find(symbols[position]!, symbols[following]!)
      if (rank >= 0) heap.push(rank * positionSpan + position)
    }
    for (let i = 0; i + 1 < length; i++) consider(i)
    for (let key = heap.pop(); key !== undefined; key = heap.pop()) {
      const position = key % positionSpan
      const rank = Math.floor(key / positionSpan)
      const following = next[position]!
      // The pair may have changed since it was entered: then its own entry is elsewhere in the heap.
      if (symbols[position] === gone || following >= length) continue
      if (this.pairs.find(symbols[position]!, symbols[following]!) !== rank) continue
      symbols[position] = this.results[rank]!
      symbols[following] = gone
      const after = next[following]!
      next[position] = after
      if (after < length) previous[after] = position
      const before = previous[position]!
      if (before >= 0) consider(before)
      consider(position)
    }
    let write = 0
    for (let i = 0; i < length; i = next[i]!) symbols[write++] = symbols[i]!
    return write
  }
}

/** A binary heap of numbers, least first. */
class KeyHeap {
  private keys: Float64Array
  private size = 0

  constructor(capacity: number) {
    // Every merge removes one symbol and enters at most two pairs: three times the length is never exceeded.
    this.keys = new Float64Array(capacity * 3)
  }

  push(key: number): void {
    const { keys } = this
    let position = this.size++
    while (position > 0) {
      const parent = (position - 1) >> 1
      if (keys[parent]! <= key) break
      keys[position] = keys[parent]!
      position = parent
    }
    keys[position] = key
  }

  pop(): number | undefined {
    if (this.size === 0) return undefined
    const { keys } = this
    const top = keys[0]!
    const last = keys[--this.size]!
    let position = 0
    for (;;) {
      let child = position * 2 + 1
      if (child >= this.size) break
      if (child + 1 < this.size && keys[child + 1]! < keys[child]!) child++
      if (keys[child]! >= last) break
      keys[position] = keys[child]!
      position = child
    }
    keys[position] = last
    return top
  }
}
