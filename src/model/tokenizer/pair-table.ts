/**
 * Distinct pairs of token ids, numbered in order of arrival; whoever uses the table keeps what belongs to a pair in
 * arrays of its own under that number.
 */
import { growInt32 } from './grow.ts'

export class PairTable {
  size = 0
  /** The two tokens of each pair, by the pair's number. */
  left: Int32Array
  right: Int32Array
  /** Number of the pair plus one; 0 is free. Its length is a power of two. */
  private slots: Int32Array

  constructor(expectedPairs: number) {
    this.left = new Int32Array(Math.max(expectedPairs, 8))
    this.right = new Int32Array(Math.max(expectedPairs, 8))
    let slots = 16
    while (slots < expectedPairs * 2) slots *= 2
    this.slots = new Int32Array(slots)
  }

  /** The pair's number, or −1. */
  find(left: number, right: number): number {
    const mask = this.slots.length - 1
    let slot = hashOf(left, right) & mask
    for (;;) {
      const pair = this.slots[slot]! - 1
      if (pair < 0 || (this.left[pair] === left && this.right[pair] === right)) return pair
      slot = (slot + 1) & mask
    }
  }

  /** The pair's number, which becomes `size` − 1 if it is new. */
  add(left: number, right: number): number {
    const found = this.find(left, right)
    if (found >= 0) return found
    const pair = this.size++
    this.left = growInt32(this.left, this.size)
    this.right = growInt32(this.right, this.size)
    this.left[pair] = left
    this.right[pair] = right
    if (this.size * 2 > this.slots.length) this.rehash()
    else this.place(pair)
    return pair
  }

  private place(pair: number): void {
    const mask = this.slots.length - 1
    let slot = hashOf(this.left[pair]!, this.right[pair]!) & mask
    while (this.slots[slot] !== 0) slot = (slot + 1) & mask
    this.slots[slot] = pair + 1
  }

  private rehash(): void {
    this.slots = new Int32Array(this.slots.length * 2)
    for (let pair = 0; pair < this.size; pair++) this.place(pair)
  }
}

function hashOf(left: number, right: number): number {
  const hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)
  return hash ^ (hash >>> 15)
}
