/**
 * Updates that carry the largest values of every tile and their places: the frame, the values of tensor after tensor,
 * and then one stream of a range coder with the places of all tiles. At 64 of 4096 with two bits each that is 0.146 bits
 * per parameter, of which the places take 0.115, the least that any code could.
 */
import type { Parts } from '../core/index.ts'
import type { DecodedSparseTensor } from './aggregate.ts'
import { diverged, unacceptable } from './dense-update.ts'
import type { TensorEntry, TensorLayout } from './method.ts'
import { CorruptRange, RangeDecoder, RangeEncoder } from './range-coder.ts'
import {
  readSparseValues,
  type SparseValues,
  sparseValuesBytes,
  sparseVariants,
  writeSparseValues,
} from './sparse-values.ts'
import { mostSubsetBits, SubsetCoder } from './subset-coder.ts'
import { forEachTile, keptOf, keptOfTensor, tilingOf, wholeTile } from './tiles.ts'
import { TopK } from './top-k.ts'
import {
  expectFrameWithin,
  type Frame,
  frameBytes,
  type MethodName,
  refuse,
  refusedUpdate,
  writeFrame,
} from './wire.ts'

export interface SparseFormat {
  readonly method: MethodName
  readonly version: number
  readonly values: SparseValues
  /** How many of 4096 values are kept. */
  readonly kept: number
  readonly subsets: SubsetCoder
}

export function sparseFormat(about: Omit<SparseFormat, 'subsets'>): SparseFormat {
  return { ...about, subsets: new SubsetCoder() }
}

/** One tensor of a decoded update: values at places, which differ. */
export class SparseTensor implements DecodedSparseTensor {
  /** Index in the tensor of each value. */
  readonly places: Uint32Array
  readonly values: Float32Array

  constructor(places: Uint32Array, values: Float32Array) {
    this.places = places
    this.values = values
  }

  scatterScaled(target: Float64Array, weight: number, from = 0, to: number = this.places.length): void {
    const { places, values } = this
    for (let i = from; i < to; i++) {
      const place = places[i]!
      target[place] = target[place]! + weight * values[i]!
    }
  }

  addPresence(target: Float64Array, weight: number, from = 0, to: number = this.places.length): void {
    const { places } = this
    for (let i = from; i < to; i++) target[places[i]!] = target[places[i]!]! + weight
  }

  squaredNorm(): number {
    let squares = 0
    for (let i = 0; i < this.values.length; i++) squares += this.values[i]! * this.values[i]!
    return squares
  }
}

export function mostSparseBytes(format: SparseFormat, layout: TensorLayout): number {
  const bitsBySize = new Map<number, number>()
  let bits = 0
  for (const entry of layout.entries) {
    forEachTile(tilingOf(entry), (_, height, width) => {
      const size = height * width
      let most = bitsBySize.get(size)
      if (most === undefined) {
        most = mostSubsetBits(size, keptOf(size, format.kept))
        bitsBySize.set(size, most)
      }
      bits += most
    })
  }
  return fixedBytes(format, layout) + Math.ceil(bits / 8) + 5
}

/** What of an update does not depend on which places are chosen. */
function fixedBytes({ values, kept }: SparseFormat, { entries }: TensorLayout): number {
  return entries.reduce(
    (total, entry) => total + sparseValuesBytes(values, keptOfTensor(tilingOf(entry), kept)),
    frameBytes,
  )
}

/** Where the values of an update come from, tensor by tensor and, within each, tile by tile. */
export interface SparseSource {
  /** Before a tensor's first tile. What its codebook's values are to be multiples of; 0 for anything. */
  begin(entry: TensorEntry): number
  /** Writes the values that compete in one tile, which begins at `offset` of the tensor and whose rows lie `columns` apart there. */
  fill(tile: Float32Array, offset: number, height: number, width: number, columns: number): void
  /** What receivers will read of a tensor, and the same values as they were; after its last tile. */
  sent(entry: TensorEntry, tensor: SparseTensor, values: Float32Array): void
}

/** Encodes one tensor after the other. @throws GroundswellError `sync/diverged` for values that no receiver takes */
export function* encodeSparse(
  format: SparseFormat,
  layout: TensorLayout,
  source: SparseSource,
): Parts<Uint8Array> {
  const bytes = new Uint8Array(mostSparseBytes(format, layout))
  writeFrame(bytes, frameOf(format, layout))
  const encoder = new RangeEncoder(bytes, fixedBytes(format, layout))
  const topK = new TopK(wholeTile)
  const tile = new Float32Array(wholeTile)
  const chosen = new Uint16Array(wholeTile)
  let byteOffset = frameBytes
  for (const entry of layout.entries) {
    const tiling = tilingOf(entry)
    const { columns } = tiling
    const count = keptOfTensor(tiling, format.kept)
    const places = new Uint32Array(count)
    const kept = new Float32Array(count)
    const quantum = source.begin(entry)
    let at = 0
    forEachTile(tiling, (offset, height, width) => {
      source.fill(tile, offset, height, width, columns)
      const size = height * width
      const keeps = keptOf(size, format.kept)
      topK.select(tile, size, keeps, chosen, 0)
      format.subsets.encode(encoder, chosen, 0, keeps, size)
      for (let i = 0; i < keeps; i++) {
        const place = chosen[i]!
        places[at] = placeOf(place, offset, width, columns)
        kept[at] = tile[place]!
        at += 1
      }
    })
    writeSparseValues(format.values, kept, quantum, bytes, byteOffset)
    // Read back, so that what the sender takes for sent is what the others read.
    const read = readSparseValues(format.values, bytes, byteOffset, count)
    if (read === undefined) throw diverged()
    source.sent(entry, new SparseTensor(places, read), kept)
    byteOffset += sparseValuesBytes(format.values, count)
    yield
  }
  return bytes.slice(0, encoder.finish())
}

/** One tensor per entry of the layout. @throws GroundswellError `sync/invalid-update` */
export function decodeSparse(
  format: SparseFormat,
  layout: TensorLayout,
  bytes: Uint8Array,
): readonly SparseTensor[] {
  const codedAt = fixedBytes(format, layout)
  const bounds = { leastBytes: codedAt + 4, mostBytes: mostSparseBytes(format, layout) }
  expectFrameWithin(bytes, { ...frameOf(format, layout), ...bounds }, refusedUpdate)
  try {
    return decodeTensors(format, layout, bytes, codedAt)
  } catch (thrown) {
    if (!(thrown instanceof CorruptRange)) throw thrown
    return refuse(refusedUpdate, 'names its places in a way that nobody writes')
  }
}

function decodeTensors(
  format: SparseFormat,
  layout: TensorLayout,
  bytes: Uint8Array,
  codedAt: number,
): readonly SparseTensor[] {
  const decoder = new RangeDecoder(bytes, codedAt)
  const chosen = new Uint16Array(wholeTile)
  let byteOffset = frameBytes
  const tensors = layout.entries.map((entry) => {
    const tiling = tilingOf(entry)
    const count = keptOfTensor(tiling, format.kept)
    const values = readSparseValues(format.values, bytes, byteOffset, count)
    if (values === undefined) throw unacceptable(entry.name)
    byteOffset += sparseValuesBytes(format.values, count)
    const places = new Uint32Array(count)
    let at = 0
    forEachTile(tiling, (offset, height, width) => {
      const size = height * width
      const keeps = keptOf(size, format.kept)
      format.subsets.decode(decoder, chosen, 0, keeps, size)
      for (let i = 0; i < keeps; i++) places[at++] = placeOf(chosen[i]!, offset, width, tiling.columns)
    })
    return new SparseTensor(places, values)
  })
  decoder.finish()
  return tensors
}

/** From the place in a tile to the index in the tensor. */
function placeOf(place: number, offset: number, width: number, columns: number): number {
  const row = Math.floor(place / width)
  return offset + row * columns + place - row * width
}

function frameOf({ method, version, values }: SparseFormat, { totalSize }: TensorLayout): Frame {
  return { magic: 'GSUP', version, variant: sparseVariants[values], method, part: 0, count: totalSize }
}
