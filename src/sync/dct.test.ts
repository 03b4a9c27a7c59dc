import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { TileTransform } from './dct.ts'
import { TileKernels } from './dct-kernels.ts'
import { normals } from './toy-swarm.ts'

const transform = new TileTransform()
const shapes = fc.tuple(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 64 }))
const tileOf = (height: number, width: number): Float64Array =>
  Float64Array.from(normals(height * width, 1, 'tile', height, width))

/** F X Fᵀ by its definition. */
const byDefinition = (tile: Float64Array, height: number, width: number): Float64Array => {
  const basis = (n: number, k: number, i: number): number =>
    Math.sqrt((k === 0 ? 1 : 2) / n) * Math.cos((Math.PI * (2 * i + 1) * k) / (2 * n))
  return Float64Array.from({ length: height * width }, (_, at) => {
    const row = Math.floor(at / width)
    const column = at % width
    let sum = 0
    for (let i = 0; i < height; i++) {
      for (let j = 0; j < width; j++) {
        sum += basis(height, row, i) * basis(width, column, j) * tile[i * width + j]!
      }
    }
    return sum
  })
}

/** What becomes of a tile. */
const transformed = (
  direction: 'forward' | 'inverse',
  values: Float64Array,
  [height, width]: readonly [height: number, width: number],
  by: TileTransform = transform,
): Float64Array => {
  by.tile.set(values)
  by[direction](height, width)
  return by.tile.slice(0, values.length)
}

const expectClose = (actual: Float64Array, expected: Float64Array): void => {
  for (let i = 0; i < actual.length; i++) expect(Math.abs(actual[i]! - expected[i]!)).toBeLessThan(1e-11)
}

describe('the cosine transform of a tile', () => {
  test.each([
    [1, 1],
    [2, 3],
    [8, 8],
    [12, 7],
    [1, 24],
    [33, 16],
  ])('%d × %d is F X Fᵀ', (height, width) => {
    const tile = tileOf(height, width)
    const expected = byDefinition(tile, height, width)
    expectClose(transformed('forward', tile, [height, width]), expected)
  })

  test('is undone by its inverse and keeps the norm', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const tile = tileOf(...shape)
        const norm = (values: Float64Array): number => Math.hypot(...values)
        const coefficients = transformed('forward', tile, shape)
        expect(norm(coefficients)).toBeCloseTo(norm(tile), 9)
        expectClose(transformed('inverse', coefficients, shape), tile)
      }),
      { numRuns: 60 },
    )
  })

  test('has the same bits by WebAssembly and without it', () => {
    const kernels = new TileKernels()
    const [withKernels, without] = [new TileTransform(kernels), new TileTransform(null)]
    const even = fc.integer({ min: 1, max: 32 }).map((half) => 2 * half)
    fc.assert(
      fc.property(fc.tuple(even, even), fc.constantFrom('forward', 'inverse'), (shape, direction) => {
        expect(kernels.fits(...shape)).toBe(true)
        const tile = tileOf(...shape)
        tile[tile.length - 1] = -0
        const bitsOf = (by: TileTransform): BigUint64Array =>
          new BigUint64Array(transformed(direction, tile, shape, by).buffer)
        expect(bitsOf(withKernels)).toEqual(bitsOf(without))
      }),
      {
        numRuns: 60,
        examples: [
          [[64, 64], 'forward'],
          [[64, 64], 'inverse'],
          [[48, 64], 'forward'],
          [[64, 48], 'inverse'],
        ],
      },
    )
  })
})
