import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { permutation, seededRandom } from '../core/index.ts'
import { CorruptRange, RangeDecoder, RangeEncoder } from './range-coder.ts'
import { mostSubsetBits, SubsetCoder } from './subset-coder.ts'

const coder = new SubsetCoder()

const encode = (subsets: readonly Uint16Array[], size: number): Uint8Array => {
  const bytes = new Uint8Array(100_000)
  const encoder = new RangeEncoder(bytes, 0)
  for (const places of subsets) coder.encode(encoder, places, 0, places.length, size)
  return bytes.slice(0, encoder.finish())
}

const decode = (bytes: Uint8Array, counts: readonly number[], size: number): Uint16Array[] => {
  const decoder = new RangeDecoder(bytes, 0)
  const subsets = counts.map((count) => {
    const places = new Uint16Array(count)
    coder.decode(decoder, places, 0, count, size)
    return places
  })
  decoder.finish()
  return subsets
}

const subsetsOf = (size: number): fc.Arbitrary<Uint16Array[]> =>
  fc.array(
    fc.uniqueArray(fc.nat(size - 1), { maxLength: size }).map((places) => Uint16Array.from(places).sort()),
    { minLength: 1, maxLength: 6 },
  )

describe('choices of places', () => {
  test('come back as they were, in any number and of any size', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }).chain((size) => fc.tuple(fc.constant(size), subsetsOf(size))),
        ([size, subsets]) => {
          const bytes = encode(subsets, size)
          const counts = subsets.map(({ length }) => length)
          expect(decode(bytes, counts, size)).toEqual(subsets)
        },
      ),
    )
  })

  test('take no more bits than is stated, however they lie', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 4096 - 64 * 63 - 1 }),
        fc.integer({ min: 1, max: 63 }),
        fc.integer({ min: 1, max: 64 }),
        (start, stride, count) => {
          const places = Uint16Array.from({ length: count }, (_, i) => start + i * stride)
          const repeated = Array.from({ length: 40 }, () => places)
          const bits = 8 * (encode(repeated, 4096).byteLength - 4)
          expect(bits).toBeLessThanOrEqual(40 * mostSubsetBits(4096, count))
        },
      ),
    )
  })

  test('64 of 4096 take their floor, log₂ C(4096, 64) = 471.3 bits, and a hundredth of a bit each', () => {
    const random = seededRandom('subsets')
    const subsets = Array.from({ length: 200 }, () =>
      Uint16Array.from(permutation(4096, random).subarray(0, 64)).sort(),
    )
    let floor = 0
    for (let i = 0; i < 64; i++) floor += Math.log2((4096 - i) / (i + 1))
    const bits = (8 * encode(subsets, 4096).byteLength) / 200
    expect(bits).toBeGreaterThan(floor)
    expect(bits).toBeLessThan(floor + 64 * 0.01)
  })

  test('any bytes are an error or places that differ and ascend', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          for (const places of decode(bytes, [5, 64, 1], 130)) {
            for (let i = 0; i < places.length; i++) {
              expect(places[i]).toBeLessThan(130)
              if (i > 0) expect(places[i]).toBeGreaterThan(places[i - 1]!)
            }
          }
        } catch (error) {
          expect(error).toBeInstanceOf(CorruptRange)
        }
      }),
    )
  })

  test('are these bytes', () => {
    const bytes = encode([Uint16Array.of(3, 17, 18, 900, 4000)], 4096)
    expect([...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')).toMatchInlineSnapshot(
      `"f7dad23a6f64e4232000"`,
    )
  })
})
