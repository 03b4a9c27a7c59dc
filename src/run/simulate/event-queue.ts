/**
 * What is going to happen, earliest first: a binary heap in which things of the same time come out in the order in which
 * they went in, so that a simulation has one order and not whichever the heap happened to give.
 */

interface Entry<T> {
  readonly atMs: number
  readonly sequence: number
  readonly value: T
}

export class EventQueue<T> {
  private readonly heap: Entry<T>[] = []
  private pushed = 0

  get size(): number {
    return this.heap.length
  }

  /** When the next one is due; infinity when there is none. */
  get nextMs(): number {
    return this.heap[0]?.atMs ?? Number.POSITIVE_INFINITY
  }

  peek(): { readonly atMs: number; readonly value: T } | undefined {
    return this.heap[0]
  }

  push(atMs: number, value: T): void {
    const { heap } = this
    const entry = { atMs, sequence: this.pushed++, value }
    let at = heap.length
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(entry, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = entry
  }

  /** A queue of those that satisfy, in the same order. */
  filter(satisfies: (value: T) => boolean): EventQueue<T> {
    const filtered = new EventQueue<T>()
    const kept = this.heap.filter(({ value }) => satisfies(value))
    for (const { atMs, value } of kept.sort((a, b) => (isBefore(a, b) ? -1 : 1))) filtered.push(atMs, value)
    return filtered
  }

  pop(): { readonly atMs: number; readonly value: T } | undefined {
    const { heap } = this
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return first
  }
}

function isBefore<T>(one: Entry<T>, other: Entry<T>): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.sequence < other.sequence)
}
