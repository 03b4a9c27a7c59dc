/**
 * The k values of largest magnitude, in one pass: candidates above a threshold are collected, and when there are 2k of
 * them the lesser half goes and the threshold rises. Of equal magnitudes the earlier ones are kept, so that the choice is
 * the same everywhere.
 */

export class TopK {
  private readonly places: Uint16Array
  private readonly keys: Uint32Array
  private readonly scratch: Uint32Array

  /** For up to `size` values at a time, at most 65536. */
  constructor(size: number) {
    this.places = new Uint16Array(size)
    this.keys = new Uint32Array(size)
    this.scratch = new Uint32Array(size)
  }

  /** Writes the places of the `count` largest of the first `size` values into `target` from `from`, ascending. */
  select(values: Float32Array, size: number, count: number, target: Uint16Array, from: number): void {
    if (count >= size) {
      for (let i = 0; i < size; i++) target[from + i] = i
      return
    }
    const { places, keys } = this
    const bits = new Uint32Array(values.buffer, values.byteOffset, size)
    const room = Math.min(2 * count, size)
    let held = 0
    let threshold = -1
    for (let i = 0; i < size; i++) {
      const key = bits[i]! & 0x7fffffff // magnitudes of floats are ordered as their bits
      if (key <= threshold) continue
      if (held === room) {
        threshold = this.keepLargest(held, count)
        held = count
        if (key <= threshold) continue
      }
      places[held] = i
      keys[held] = key
      held += 1
    }
    if (held > count) this.keepLargest(held, count)
    for (let i = 0; i < count; i++) target[from + i] = places[i]!
  }

  /** Keeps the `count` largest of the `held` candidates in their order; the least of their keys. */
  private keepLargest(held: number, count: number): number {
    const { places, keys, scratch } = this
    for (let i = 0; i < held; i++) scratch[i] = keys[i]!
    const least = nthLargest(scratch, held, count)
    let above = 0
    for (let i = 0; i < held; i++) if (keys[i]! > least) above += 1
    let ties = count - above
    let kept = 0
    for (let i = 0; i < held; i++) {
      const key = keys[i]!
      if (key < least || (key === least && ties === 0)) continue
      if (key === least) ties -= 1
      places[kept] = places[i]!
      keys[kept] = key
      kept += 1
    }
    return least
  }
}

/** The nth largest (n from 1) of the first `size` values, which are reordered: Hoare's selection. */
function nthLargest(values: Uint32Array, size: number, n: number): number {
  const wanted = n - 1
  let low = 0
  let high = size - 1
  while (low < high) {
    const pivot = values[(low + high) >> 1]!
    let i = low
    let j = high
    while (i <= j) {
      while (values[i]! > pivot) i += 1
      while (values[j]! < pivot) j -= 1
      if (i > j) break
      const swapped = values[i]!
      values[i] = values[j]!
      values[j] = swapped
      i += 1
      j -= 1
    }
    if (wanted <= j) high = j
    else if (wanted >= i) low = i
    else return values[wanted]!
  }
  return values[wanted]!
}
