/**
 * A range coder (Martin 1979; with the carry handling of LZMA): symbols with known probabilities as a number of which
 * every byte is paid for once. All arithmetic is on whole numbers below 2⁴¹, so it is the same on every machine. A
 * symbol costs at most 0.006 bits more than its probability says.
 */

const top = 2 ** 32
const bottom = 2 ** 24

export class RangeEncoder {
  private readonly target: Uint8Array
  private low = 0
  private range = top - 1
  /** The byte that a carry may still change, and how many bytes of 255 follow it; none before the first. */
  private held = -1
  private pending = 0
  private at: number

  /** Writes from `byteOffset`; the target must have room. */
  constructor(target: Uint8Array, byteOffset: number) {
    this.target = target
    this.at = byteOffset
  }

  /** A symbol that takes [start, start + frequency) of [0, total). `total` at most 2¹⁶. */
  encode(start: number, frequency: number, total: number): void {
    const unit = Math.floor(this.range / total)
    this.low += unit * start
    this.range = unit * frequency
    while (this.range < bottom) {
      this.range *= 256
      this.shift()
    }
  }

  /** Writes what is held back; the offset behind the last byte. */
  finish(): number {
    for (let i = 0; i < 5; i++) this.shift()
    return this.at
  }

  private shift(): void {
    const carry = this.low >= top ? 1 : 0
    const rest = this.low - carry * top
    if (carry === 1 || rest < 0xff000000) {
      if (this.held >= 0) this.target[this.at++] = this.held + carry
      for (; this.pending > 0; this.pending--) this.target[this.at++] = 255 + carry
      this.held = rest >>> 24
    } else {
      this.pending += 1
    }
    this.low = (rest % bottom) * 256
  }
}

/** Thrown for bytes that no encoder wrote. */
export class CorruptRange extends Error {}

export class RangeDecoder {
  private readonly source: Uint8Array
  private range = top - 1
  private code = 0
  private unit = 0
  private at: number

  constructor(source: Uint8Array, byteOffset: number) {
    this.source = source
    this.at = byteOffset
    for (let i = 0; i < 4; i++) this.code = this.code * 256 + this.next()
  }

  /** Where in [0, total) the next symbol lies; `consume` takes it. @throws CorruptRange */
  peek(total: number): number {
    this.unit = Math.floor(this.range / total)
    const value = Math.floor(this.code / this.unit)
    if (value >= total) throw new CorruptRange()
    return value
  }

  consume(start: number, frequency: number): void {
    this.code -= start * this.unit
    this.range = frequency * this.unit
    while (this.range < bottom) {
      this.range *= 256
      this.code = this.code * 256 + this.next()
    }
  }

  /** Checks that no byte is left. @throws CorruptRange */
  finish(): void {
    if (this.at !== this.source.byteLength) throw new CorruptRange()
  }

  private next(): number {
    if (this.at >= this.source.byteLength) throw new CorruptRange()
    return this.source[this.at++]!
  }
}
