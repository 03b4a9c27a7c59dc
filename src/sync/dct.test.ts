import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cosineOfPi, TileTransform } from './dct.ts'
import { normals } from './toy-swarm.ts'

const transform = new TileTransform(4096)
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
    transform.forward(tile, height, width)
    expectClose(tile, expected)
  })

  test('is undone by its inverse and keeps the norm', () => {
    fc.assert(
      fc.property(shapes, ([height, width]) => {
        const tile = tileOf(height, width)
        const before = tile.slice()
        const norm = (values: Float64Array): number => Math.hypot(...values)
        transform.forward(tile, height, width)
        expect(norm(tile)).toBeCloseTo(norm(before), 9)
        transform.inverse(tile, height, width)
        expectClose(tile, before)
      }),
      { numRuns: 60 },
    )
  })
})

test('cosines are those of the library to the last bits', () => {
  fc.assert(
    fc.property(fc.integer({ min: -5000, max: 5000 }), fc.integer({ min: 1, max: 256 }), (m, n) => {
      expect(Math.abs(cosineOfPi(m, n) - Math.cos((Math.PI * m) / n))).toBeLessThan(1e-12)
    }),
  )
})
