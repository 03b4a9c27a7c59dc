/**
 * Distinct words by their bytes, numbered in order of arrival: an open-addressed hash table over one arena, because a
 * `Map` of strings would have to make a string of every word of a corpus only to look it up.
 */
import { growInt32, growUint8 } from './grow.ts'

export class WordTable {
  /** How many distinct words there are. */
  size = 0
  /** The words' bytes one after the other. */
  arena: Uint8Array
  /** Word i is `arena[offsets[i] … offsets[i + 1])`. */
  offsets: Int32Array
  private hashes: Int32Array
  /** Number of the word plus one; 0 is free. Its length is a power of two. */
  private slots: Int32Array

  constructor(expectedWords: number, expectedBytes: number) {
    this.arena = new Uint8Array(expectedBytes)
    this.offsets = new Int32Array(expectedWords + 1)
    this.hashes = new Int32Array(expectedWords)
    let slots = 16
    while (slots < expectedWords * 2) slots *= 2
    this.slots = new Int32Array(slots)
  }

  /** The number of the word `bytes[start … end)`, which becomes `size` − 1 if it is new. */
  add(bytes: Uint8Array, start: number, end: number): number {
    let hash = 0x811c9dc5 // FNV-1a
    for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
    hash ^= hash >>> 15
    const mask = this.slots.length - 1
    let slot = hash & mask
    for (;;) {
      const word = this.slots[slot]! - 1
      if (word < 0) break
      if (this.hashes[word] === hash && this.equals(word, bytes, start, end)) return word
      slot = (slot + 1) & mask
    }
    return this.insert(slot, hash, bytes, start, end)
  }

  /** Forgets all words and keeps the memory. */
  clear(): void {
    this.size = 0
    this.slots.fill(0)
  }

  private equals(word: number, bytes: Uint8Array, start: number, end: number): boolean {
    const offset = this.offsets[word]!
    if (this.offsets[word + 1]! - offset !== end - start) return false
    for (let i = start; i < end; i++) if (this.arena[offset + i - start] !== bytes[i]) return false
    return true
  }

  private insert(slot: number, hash: number, bytes: Uint8Array, start: number, end: number): number {
    const word = this.size++
    const offset = this.offsets[word]!
    const next = offset + end - start
    this.arena = growUint8(this.arena, next)
    this.offsets = growInt32(this.offsets, word + 2)
    this.hashes = growInt32(this.hashes, word + 1)
    for (let i = start; i < end; i++) this.arena[offset + i - start] = bytes[i]!
    this.offsets[word + 1] = next
    this.hashes[word] = hash
    this.slots[slot] = word + 1
    if (this.size * 2 > this.slots.length) this.rehash()
    return word
  }

  private rehash(): void {
    this.slots = new Int32Array(this.slots.length * 2)
    const mask = this.slots.length - 1
    for (let word = 0; word < this.size; word++) {
      let slot = this.hashes[word]! & mask
      while (this.slots[slot] !== 0) slot = (slot + 1) & mask
      this.slots[slot] = word + 1
    }
  }
}
