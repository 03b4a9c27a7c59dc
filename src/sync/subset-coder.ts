/**
 * Which k of n places, in as many bits as there are such choices: log₂ C(n, k), the floor of any code that knows nothing
 * else of them. The places are halved again and again; how many of the c chosen ones lie in the left half follows the
 * hypergeometric distribution C(h, l)·C(n−h, c−l)/C(n, c), with which a range coder codes it. Empty and full halves cost
 * nothing, and a single one is coded by its place, so that there are about 1.5 k symbols and not n. Any bytes that the
 * range decoder takes decode to k different places in ascending order.
 *
 * Probabilities are whole 65536ths, derived by multiplications and divisions in float64 in a fixed order; IEEE 754 fixes
 * each of them, so both sides have the same ones.
 */
import type { RangeDecoder, RangeEncoder } from './range-coder.ts'

const totalFrequency = 2 ** 16

/** How many of c chosen places lie in the left half of a segment. */
interface Split {
  /** The least possible number. */
  readonly least: number
  /** Where the frequencies of each number begin, and the total at the end. */
  readonly starts: Uint32Array
}

export class SubsetCoder {
  /** By size and, within it, by count. */
  private readonly splits: ((Split | undefined)[] | undefined)[] = []

  /** `places` [from, to) ascending and within [0, size). */
  encode(encoder: RangeEncoder, places: Uint16Array, from: number, to: number, size: number): void {
    this.encodeSegment(encoder, places, from, to, 0, size)
  }

  /** Fills `places` from `from` with `count` places in [0, size). @throws CorruptRange */
  decode(decoder: RangeDecoder, places: Uint16Array, from: number, count: number, size: number): void {
    this.decodeSegment(decoder, places, from, from + count, 0, size)
  }

  private encodeSegment(
    encoder: RangeEncoder,
    places: Uint16Array,
    from: number,
    to: number,
    start: number,
    size: number,
  ): void {
    const count = to - from
    if (count === 0 || count === size) return
    if (count === 1) {
      encoder.encode(places[from]! - start, 1, size)
      return
    }
    const half = size >> 1
    let middle = from
    while (middle < to && places[middle]! < start + half) middle += 1
    const { least, starts } = this.split(size, count)
    const symbol = middle - from - least
    encoder.encode(starts[symbol]!, starts[symbol + 1]! - starts[symbol]!, totalFrequency)
    this.encodeSegment(encoder, places, from, middle, start, half)
    this.encodeSegment(encoder, places, middle, to, start + half, size - half)
  }

  private decodeSegment(
    decoder: RangeDecoder,
    places: Uint16Array,
    from: number,
    to: number,
    start: number,
    size: number,
  ): void {
    const count = to - from
    if (count === 0) return
    if (count === size) {
      for (let i = 0; i < count; i++) places[from + i] = start + i
      return
    }
    if (count === 1) {
      const place = decoder.peek(size)
      decoder.consume(place, 1)
      places[from] = start + place
      return
    }
    const { least, starts } = this.split(size, count)
    const value = decoder.peek(totalFrequency)
    let symbol = 0
    for (let end = starts.length - 1; end - symbol > 1; ) {
      const probe = (symbol + end) >> 1
      if (starts[probe]! <= value) symbol = probe
      else end = probe
    }
    decoder.consume(starts[symbol]!, starts[symbol + 1]! - starts[symbol]!)
    const half = size >> 1
    const middle = from + least + symbol
    this.decodeSegment(decoder, places, from, middle, start, half)
    this.decodeSegment(decoder, places, middle, to, start + half, size - half)
  }

  private split(size: number, count: number): Split {
    const { splits } = this
    while (splits.length <= size) splits.push(undefined) // without gaps, or a look into it would cost a search
    splits[size] ??= []
    const ofSize = splits[size]
    let split = ofSize[count]
    if (split === undefined) {
      split = hypergeometricSplit(size, count)
      while (ofSize.length < count) ofSize.push(undefined)
      ofSize[count] = split
    }
    return split
  }
}

function hypergeometricSplit(size: number, count: number): Split {
  const left = size >> 1
  const right = size - left
  const least = Math.max(0, count - right)
  const most = Math.min(left, count)
  const symbols = most - least + 1
  const likeliest = Math.min(Math.max(Math.floor(((count + 1) * (left + 1)) / (size + 2)), least), most)
  // From the likeliest outwards by the ratio of neighbours, so that nothing overflows.
  const weights = new Float64Array(symbols)
  weights[likeliest - least] = 1
  for (let l = likeliest; l < most; l++) {
    const ratio = ((left - l) * (count - l)) / ((l + 1) * (right - count + l + 1))
    weights[l + 1 - least] = weights[l - least]! * ratio
  }
  for (let l = likeliest; l > least; l--) {
    const ratio = (l * (right - count + l)) / ((left - l + 1) * (count - l + 1))
    weights[l - 1 - least] = weights[l - least]! * ratio
  }
  let sum = 0
  for (let i = 0; i < symbols; i++) sum += weights[i]!
  const shared = totalFrequency - symbols // everything possible has a frequency of at least 1
  let spare = shared
  for (let i = 0; i < symbols; i++) {
    weights[i] = Math.floor((weights[i]! / sum) * shared)
    spare -= weights[i]!
  }
  weights[likeliest - least] = weights[likeliest - least]! + spare
  const starts = new Uint32Array(symbols + 1)
  for (let i = 0; i < symbols; i++) starts[i + 1] = starts[i]! + 1 + weights[i]!
  return { least, starts }
}

/** No choice of k of n places costs more bits than this. */
export function mostSubsetBits(size: number, count: number): number {
  const chosen = Math.min(count, size - count)
  let bits = 0
  for (let i = 0; i < chosen; i++) bits += Math.log2((size - i) / (i + 1))
  return bits + 0.05 * count + 0.1
}
