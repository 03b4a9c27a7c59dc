import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type EncodingName, encodingNames, encodings } from './encodings.ts'
import { normals } from './toy-swarm.ts'

const roundTrip = (name: EncodingName, values: Float32Array): Float32Array => {
  const encoding = encodings[name]
  const bytes = new Uint8Array(encoding.tensorBytes(values.length) + 2)
  encoding.encodeTensor(values, bytes, 1)
  const sum = new Float64Array(values.length)
  encoding.openTensor(bytes, 1, values.length)!.addScaled(sum, 1)
  return Float32Array.from(sum)
}

const relativeError = (values: Float32Array, decoded: Float32Array): number => {
  let error = 0
  let whole = 0
  for (let i = 0; i < values.length; i++) {
    error += (values[i]! - decoded[i]!) ** 2
    whole += values[i]! ** 2
  }
  return Math.sqrt(error / whole)
}

const finite = fc.float({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 })
const tensors = fc.array(finite, { minLength: 1, maxLength: 400 }).map((values) => Float32Array.from(values))

describe.each(encodingNames)('%s', (name) => {
  const encoding = encodings[name]

  test('decodes any tensor to finite values near it, of the norm that it tells', () => {
    fc.assert(
      fc.property(tensors, (values) => {
        const bytes = new Uint8Array(encoding.tensorBytes(values.length))
        encoding.encodeTensor(values, bytes, 0)
        const opened = encoding.openTensor(bytes, 0, values.length)!
        const sum = new Float64Array(values.length)
        opened.addScaled(sum, 1)
        expect(sum.every((value) => Math.abs(value) <= 1.01e6)).toBe(true)
        const squares = sum.reduce((total, value) => total + value * value, 0)
        expect(opened.squaredNorm()).toBeCloseTo(squares, -Math.log10(squares * 1e-9 + 1e-300))
      }),
    )
  })

  test('adds the weighted value to what is there', () => {
    const values = normals(333, 1e-4, 'weighted')
    const bytes = new Uint8Array(encoding.tensorBytes(333))
    encoding.encodeTensor(values, bytes, 0)
    const opened = encoding.openTensor(bytes, 0, 333)!
    const once = new Float64Array(333)
    opened.addScaled(once, 1)
    const sum = new Float64Array(333).fill(1)
    opened.addScaled(sum, 0.25)
    expect([...sum]).toEqual([...once.map((value) => 1 + 0.25 * value)])
  })

  test('keeps zeros', () => {
    expect(roundTrip(name, new Float32Array(700))).toEqual(new Float32Array(700))
  })
})

test.each<[EncodingName, number, number]>([
  // relative error of a normal distribution, and bytes of a million parameters
  ['float32', 0, 4_000_000],
  ['float16', 3e-4, 2_000_002],
  ['int8', 0.014, 1_001_028],
  ['fp4-e3m0', 0.21, 507_813],
  ['int2', 0.45, 250_020],
])('%s has a relative error of at most %d of normal values', (name, error, bytes) => {
  const values = normals(20_000, 1e-5, 'error')
  expect(relativeError(values, roundTrip(name, values))).toBeLessThanOrEqual(error)
  expect(encodings[name].tensorBytes(1_000_000)).toBe(bytes)
})

test('float16 rounds to the nearest half, ties to even, in units of a power of two', () => {
  // The largest value is 2¹⁴ after scaling, where halves are 16 apart.
  const values = Float32Array.of(1, 1 + 8 / 2 ** 14, 1 + 24 / 2 ** 14, 1 + 9 / 2 ** 14, -(2 ** -14), 2 ** -60)
  expect([...roundTrip('float16', values)]).toEqual([
    1,
    1,
    1 + 32 / 2 ** 14,
    1 + 16 / 2 ** 14,
    -(2 ** -14),
    0,
  ])
})

test('float16 keeps every half as it is', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1023 }),
      fc.integer({ min: -20, max: 10 }),
      (fraction, exponent) => {
        const values = Float32Array.of((1 + fraction / 1024) * 2 ** exponent, -(2 ** exponent))
        expect(roundTrip('float16', values)).toEqual(values)
      },
    ),
  )
})

test('fp4-e3m0 rounds to the nearest of the eight magnitudes', () => {
  const values = Float32Array.of(64, -32, 16, 8, 4, -2, 1, 0, 0.49, 0.5, -1.49, 1.5, 47, 48, 90, -95)
  expect([...roundTrip('fp4-e3m0', values)]).toEqual([
    64, -32, 16, 8, 4, -2, 1, 0, 0, 1, -1, 2, 32, 64, 64, -64,
  ])
})

test('fp4-e3m0 scales every 128 values for themselves', () => {
  const values = new Float32Array(300).fill(1e-9)
  values[5] = 1
  const decoded = roundTrip('fp4-e3m0', values)
  expect(decoded[6]).toBe(0)
  expect(decoded[128]).toBe(2 ** -30)
})

test('int2 puts values into buckets of one and a half standard deviations', () => {
  const values = Float32Array.from({ length: 1000 }, (_, i) => [-1, 0, 0, 1][i % 4]!)
  // σ ≈ 0.7075, so −1 lies in bucket 1 and +1 in bucket 3 of width 1.061 around −2.12, −1.06, 0 and 1.06.
  expect(roundTrip('int2', values)).toEqual(values)
})
