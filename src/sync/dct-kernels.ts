/**
 * The cosine transform of dct.ts in WebAssembly, for tiles of up to 64 × 64 with even sides: two columns at a time, all
 * rows of them in registers, without loops over rows. It does what dct.ts does operation by operation, so its results are
 * the same bits, and DeMo encodes twice as fast (`npm run bench -- codecs`). Lee's recursion is run once, on places instead of
 * numbers, and leaves behind the code that does it.
 */
import { type LengthConstants, lengthConstants, rowScales } from './dct-constants.ts'
import { LoopBody, loopModule, type Pair } from './wasm-code.ts'

const mostRows = 64
const valueBytes = 8
const tileBytes = mostRows * mostRows * valueBytes
/** Tile, its transposed, and then the constants, of which a pair of lengths needs a few kilobytes. */
const address = { tile: 0, turned: tileBytes, constants: 2 * tileBytes } as const
const pages = 4

type Direction = 'forward' | 'inverse'
type Kernel = (source: number, target: number) => void

export class TileKernels {
  /** [4096]; holds the tile that is transformed. */
  readonly tile: Float64Array
  private readonly memory: WebAssembly.Memory
  private readonly constants: Constants
  private readonly kernels = new Map<string, Kernel>()

  /** @throws where WebAssembly with vectors is not to be had */
  constructor() {
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
    this.tile = new Float64Array(this.memory.buffer, address.tile, mostRows * mostRows)
    this.constants = new Constants(new Float64Array(this.memory.buffer, address.constants))
    this.kernel('forward', 2, 2)
  }

  /** Whether there are kernels for such tiles. */
  fits(height: number, width: number): boolean {
    return height % 2 === 0 && width % 2 === 0 && height <= mostRows && width <= mostRows
  }

  /** Transforms `tile`, which is [height, width], in place: one axis, turned, and then the other. */
  run(direction: Direction, height: number, width: number): void {
    this.kernel(direction, height, width)(address.tile, address.turned)
    this.kernel(direction, width, height)(address.turned, address.tile)
  }

  private kernel(direction: Direction, height: number, width: number): Kernel {
    const name = `${direction} ${height} ${width}`
    let kernel = this.kernels.get(name)
    if (kernel === undefined) {
      const module = new WebAssembly.Module(this.compile(direction, height, width))
      const instance = new WebAssembly.Instance(module, { memory: { memory: this.memory } })
      kernel = instance.exports.run as Kernel
      this.kernels.set(name, kernel)
    }
    return kernel
  }

  /** Columns of [height, width] become rows of [width, height], transformed. */
  private compile(direction: Direction, height: number, width: number): Uint8Array<ArrayBuffer> {
    const writer = new AxisWriter(this.constants)
    const { body } = writer
    const rows = Array.from({ length: height }, (_, row) => body.load(row * width * valueBytes))
    const done =
      direction === 'forward' ? writer.scaled(writer.forward(rows)) : writer.inverse(writer.scaled(rows))
    for (let row = 0; row < height; row += 2) {
      const [first, second] = [done[row]!, done[row + 1]!]
      body.storeLanes(0, first, second, row * valueBytes)
      body.storeLanes(1, first, second, (height + row) * valueBytes)
    }
    const steps = { times: width / 2, sourceStep: 2 * valueBytes, targetStep: 2 * height * valueBytes }
    return loopModule(body, steps)
  }
}

/** Numbers in the memory, each twice, for both lanes. */
class Constants {
  private readonly room: Float64Array
  private readonly places = new Map<number, number>()

  constructor(room: Float64Array) {
    this.room = room
  }

  addressOf(value: number): number {
    let place = this.places.get(value)
    if (place === undefined) {
      place = 2 * this.places.size
      if (place + 2 > this.room.length) throw new RangeError('There is no room for more constants.')
      this.room.fill(value, place, place + 2)
      this.places.set(value, place)
    }
    return address.constants + place * valueBytes
  }
}

/** Writes down what the recursions of dct.ts do with the rows of a pair of columns. */
class AxisWriter {
  readonly body: LoopBody = new LoopBody()
  private readonly constants: Constants

  constructor(constants: Constants) {
    this.constants = constants
  }

  scaled(rows: readonly Pair[]): Pair[] {
    const { first, others } = rowScales(rows.length)
    return rows.map((row, i) => this.times(row, i === 0 ? first : others))
  }

  forward(rows: readonly Pair[]): Pair[] {
    const { body } = this
    const n = rows.length
    if (n === 1) return [...rows]
    const constants = lengthConstants(n)
    if (n % 2 === 1) return this.products(rows, constants, false)
    const half = n / 2
    const alpha: Pair[] = []
    const beta: Pair[] = []
    for (let i = 0; i < half; i++) {
      const [x, y] = [rows[i]!, rows[n - 1 - i]!]
      alpha.push(body.add(x, y))
      const difference = body.subtract(x, y)
      body.release(x, y)
      beta.push(this.times(difference, constants.factors[i]!))
    }
    const even = this.forward(alpha)
    const odd = this.forward(beta)
    return Array.from({ length: n }, (_, k) => {
      const i = k >> 1
      if (k % 2 === 0) return even[i]!
      return i + 1 === half ? odd[i]! : this.sumReleasing(odd[i]!, odd[i + 1]!)
    })
  }

  inverse(rows: readonly Pair[]): Pair[] {
    const { body } = this
    const n = rows.length
    if (n === 1) return [...rows]
    const constants = lengthConstants(n)
    if (n % 2 === 1) return this.products(rows, constants, true)
    const half = n / 2
    const odd = Array.from({ length: half }, (_, i) => rows[2 * i + 1]!)
    const alpha = this.inverse(Array.from({ length: half }, (_, i) => rows[2 * i]!))
    // From the last on, so that each is read before it is released.
    const sums = [...odd]
    for (let i = half - 1; i > 0; i--) sums[i] = this.sumReleasing(odd[i]!, odd[i - 1]!)
    const beta = this.inverse(sums)
    const done = new Array<Pair>(n)
    for (let i = 0; i < half; i++) {
      const x = alpha[i]!
      const y = this.times(beta[i]!, constants.factors[i]!)
      done[i] = body.add(x, y)
      done[n - 1 - i] = body.subtract(x, y)
      body.release(x, y)
    }
    return done
  }

  /** a + b; only `a` is not needed any more. */
  private sumReleasing(a: Pair, b: Pair): Pair {
    const sum = this.body.add(a, b)
    this.body.release(a)
    return sum
  }

  private times(a: Pair, factor: number): Pair {
    const product = this.body.multiply(a, this.constants.addressOf(factor))
    this.body.release(a)
    return product
  }

  private products(rows: readonly Pair[], { cosines }: LengthConstants, transposed: boolean): Pair[] {
    const { body } = this
    const n = rows.length
    const done = rows.map((_, out) => {
      let sum = body.zero()
      for (const [i, row] of rows.entries()) {
        const factor = transposed ? cosines[i * n + out]! : cosines[out * n + i]!
        const product = body.multiply(row, this.constants.addressOf(factor))
        const next = body.add(sum, product)
        body.release(sum, product)
        sum = next
      }
      return sum
    })
    body.release(...rows)
    return done
  }
}
