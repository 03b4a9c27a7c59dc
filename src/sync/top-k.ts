/**
 * The k values of largest magnitude. Tiles of one tensor resemble each other: what was just enough for one, and a bit less, is
 * where the search in the next begins, so that a fast first pass leaves few candidates; where too few reach it, all values
 * are. Of equal magnitudes the earlier ones are kept, so that the choice is the same everywhere.
 */

/** Of a float32 read as a whole number: an eighth to a quarter of the magnitude, which leaves about 2k candidates in a normal tile. */
const headroom = 2 ** 21

export class TopK {
  private readonly places: Uint16Array
  private readonly keys: Uint32Array
  private readonly scratch: Uint32Array
  /** What candidates have to reach; affects the speed and never the choice. */
  private threshold = 0

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
    const bits = new Uint32Array(values.buffer, values.byteOffset, size)
    let held = this.collect(bits, this.threshold)
    if (held < count) held = this.collect(bits, 0)
    const { places, keys, scratch } = this
    for (let i = 0; i < held; i++) scratch[i] = keys[i]!
    const least = nthLargest(scratch, held, count)
    this.threshold = Math.max(0, least - headroom)
    let ties = count
    for (let i = 0; i < held; i++) if (keys[i]! > least) ties -= 1
    let at = from
    for (let i = 0; i < held; i++) {
      const key = keys[i]!
      if (key < least || (key === least && ties === 0)) continue
      if (key === least) ties -= 1
      target[at++] = places[i]!
    }
  }

  /** Takes down all values that reach a threshold. */
  private collect(bits: Uint32Array, threshold: number): number {
    const { places, keys } = this
    let held = 0
    for (let i = 0; i < bits.length; i++) {
      const key = bits[i]! & 0x7fffffff // magnitudes of floats are ordered as their bits
      if (key < threshold) continue
      places[held] = i
      keys[held] = key
      held += 1
    }
    return held
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
