/**
 * Cutting tensors into the pieces within which values compete, as DeMo, SparseLoCo and templar do: matrices into tiles
 * of 64 × 64, everything else into runs of 4096. Where a matrix is no multiple of 64 the tiles at its edges are smaller
 * (those codebases take the nearest divisor of the dimension instead, which for a prime dimension is 1), and keep
 * proportionally fewer values. DeMo's code cuts vectors into pieces of up to 64 instead and keeps k of each, so that
 * norms, a thousandth of a model, travel almost whole there.
 */

const tileSide = 64
/** Values of a whole tile, to which the number of kept ones refers. */
export const wholeTile: number = tileSide * tileSide

/** A tensor as a matrix with the size of its tiles. */
export interface Tiling {
  readonly rows: number
  readonly columns: number
  readonly tileRows: number
  readonly tileColumns: number
}

export function tilingOf({
  shape,
  size,
}: {
  readonly shape: readonly number[]
  readonly size: number
}): Tiling {
  const [rows, columns] = shape
  if (shape.length === 2) {
    return { rows: rows!, columns: columns!, tileRows: tileSide, tileColumns: tileSide }
  }
  return { rows: 1, columns: size, tileRows: 1, tileColumns: wholeTile }
}

/** Tile after tile, row of tiles by row of tiles; `offset` is that of a tile's first value in the tensor. */
export function forEachTile(
  { rows, columns, tileRows, tileColumns }: Tiling,
  visit: (offset: number, height: number, width: number) => void,
): void {
  for (let row = 0; row < rows; row += tileRows) {
    const height = Math.min(tileRows, rows - row)
    for (let column = 0; column < columns; column += tileColumns) {
      visit(row * columns + column, height, Math.min(tileColumns, columns - column))
    }
  }
}

/** How many of a tile's values are kept when a whole tile keeps `kept`: at least one. */
export function keptOf(size: number, kept: number): number {
  return Math.min(size, Math.max(1, Math.round((kept * size) / wholeTile)))
}

/** How many of a tensor's values are kept. */
export function keptOfTensor(tiling: Tiling, kept: number): number {
  let total = 0
  forEachTile(tiling, (_, height, width) => {
    total += keptOf(height * width, kept)
  })
  return total
}
