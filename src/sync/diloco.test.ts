import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { joinPieces, seededRandom } from '../core/index.ts'
import {
  createSyncMethod,
  type DilocoOptions,
  diloco,
  type MergeContext,
  pseudoGradient,
  syncSettingsSchema,
  type TensorLayout,
} from './index.ts'
import { runSyncMethodSuite } from './methods-suite.ts'

const layoutOfSizes = (...sizes: number[]): TensorLayout => {
  let totalSize = 0
  const entries = sizes.map((size, i) => {
    const entry = { name: `tensor${i}`, offset: totalSize, size, shape: [size] }
    totalSize += size
    return entry
  })
  return { entries, totalSize }
}

const normals = (count: number, scale: number, ...seed: (string | number)[]): Float32Array => {
  const random = seededRandom('sync-test', ...seed)
  return Float32Array.from({ length: count }, () => random.nextNormal() * scale)
}

const plain: DilocoOptions = { innerSteps: 1, outerLearningRate: 1, outerMomentum: 0, encoding: 'float32' }

/** The update of a peer that went by −Δ from zero. */
const encode = (options: DilocoOptions, layout: TensorLayout, delta: Float32Array): Uint8Array => {
  const method = diloco(options)
  const state = method.createState(layout, new Float32Array(layout.totalSize))
  const values = delta.map((value) => -value)
  return method.encodeUpdate({ state, local: null, round: 1, values, learningRate: 0 }, layout).bytes
}

/** What one peer would send, as every other peer reads it. */
const sent = (options: DilocoOptions, layout: TensorLayout, delta: Float32Array, weight = 1) => {
  const update = diloco(options).decodeUpdate(encode(options, layout, delta), layout)
  return { peer: 'someone', update, weight }
}

const context: MergeContext = {
  round: 1,
  seed: 'seed',
  learningRate: 0,
  clipToMedianNorm: false,
  self: null,
}

/** What an update decodes to: the merge of that update alone, by a plain outer step from zero, is its negative. */
const decoded = (options: DilocoOptions, layout: TensorLayout, delta: Float32Array): Float32Array => {
  const method = diloco({ ...options, outerLearningRate: 1, outerMomentum: 0 })
  const zero = method.createState(layout, new Float32Array(layout.totalSize))
  return method.parameters(method.merge(zero, [sent(options, layout, delta)], context)).map((value) => -value)
}

const expectClose = (actual: Float32Array, expected: ArrayLike<number>, tolerance: number): void => {
  expect(actual.length).toBe(expected.length)
  for (let i = 0; i < actual.length; i++)
    expect(Math.abs(actual[i]! - expected[i]!)).toBeLessThanOrEqual(tolerance)
}

describe('the outer step', () => {
  interface Vectors {
    start: number[]
    pseudoGradients: number[][]
    cases: { outerLearningRate: number; outerMomentum: number; parametersAfter: number[][] }[]
  }
  const vectors: Vectors = JSON.parse(
    readFileSync(new URL('../../test/vectors/outer_nesterov.json', import.meta.url), 'utf8'),
  )

  test.each(vectors.cases)(
    'is SGD of PyTorch at rate $outerLearningRate, momentum $outerMomentum',
    (given) => {
      const layout = layoutOfSizes(6)
      const method = diloco({ ...plain, ...given })
      let state = method.createState(layout, Float32Array.from(vectors.start))
      given.parametersAfter.forEach((expected, i) => {
        state = method.merge(
          state,
          [sent(plain, layout, Float32Array.from(vectors.pseudoGradients[i]!))],
          context,
        )
        expectClose(method.parameters(state), expected, 1e-6)
      })
    },
  )

  test('H = 1 with inner SGD and outer SGD at rate 1 is data-parallel training', () => {
    // Least squares, three peers with batches of different size; the data-parallel step takes the mean over all rows.
    const random = seededRandom('data-parallel')
    const size = 8
    const layout = layoutOfSizes(5, 3)
    const innerRate = 0.1
    const batches = [4, 7, 13].map((rows) =>
      Array.from({ length: rows }, () => ({
        features: Float64Array.from({ length: size }, () => random.nextNormal()),
        target: random.nextNormal(),
      })),
    )
    const gradient = (at: Float32Array, rows: (typeof batches)[number]): Float64Array => {
      const sum = new Float64Array(size)
      for (const { features, target } of rows) {
        const error = features.reduce((total, x, i) => total + x * at[i]!, -target)
        for (let i = 0; i < size; i++) sum[i]! += (error * features[i]!) / rows.length
      }
      return sum
    }
    const descend = (at: Float32Array, slope: Float64Array) =>
      at.map((value, i) => value - innerRate * slope[i]!)

    const method = diloco(plain)
    let state = method.createState(layout, normals(size, 1, 'start'))
    let together = method.parameters(state).slice()
    for (let round = 0; round < 20; round++) {
      const at = method.parameters(state)
      const contributions = batches.map((rows) =>
        sent(plain, layout, pseudoGradient(at, descend(at, gradient(at, rows))), rows.length),
      )
      state = method.merge(state, contributions, context)
      together = descend(together, gradient(together, batches.flat()))
      expectClose(method.parameters(state), together, 1e-5)
    }
  })

  test('outer SGD at rate 1 is FedAvg: the mean of the peers’ models, weighted by tokens', () => {
    const layout = layoutOfSizes(40, 7)
    const method = diloco(plain)
    const state = method.createState(layout, normals(47, 1, 'global'))
    const peers = [100, 250, 50].map((tokens, i) => ({ tokens, model: normals(47, 1, 'peer', i) }))
    const merged = method.merge(
      state,
      peers.map(({ tokens, model }) =>
        sent(plain, layout, pseudoGradient(method.parameters(state), model), tokens),
      ),
      context,
    )
    const mean = Array.from({ length: 47 }, (_, i) =>
      peers.reduce((total, { tokens, model }) => total + (tokens / 400) * model[i]!, 0),
    )
    expectClose(method.parameters(merged), mean, 1e-6)
  })

  test('with one peer and no momentum it is Lookahead: a step of the outer rate towards the fast weights', () => {
    const layout = layoutOfSizes(20)
    const method = diloco({ ...plain, outerLearningRate: 0.5 })
    const slow = normals(20, 1, 'slow')
    const fast = normals(20, 1, 'fast')
    const merged = method.merge(
      method.createState(layout, slow),
      [sent(plain, layout, pseudoGradient(slow, fast))],
      context,
    )
    expectClose(
      method.parameters(merged),
      slow.map((value, i) => value + 0.5 * (fast[i]! - value)),
      1e-6,
    )
  })

  test('gives the same bits for the same contributions in the same order, and leaves its inputs alone', () => {
    const layout = layoutOfSizes(700, 30)
    const options: DilocoOptions = {
      innerSteps: 5,
      outerLearningRate: 0.7,
      outerMomentum: 0.9,
      encoding: 'int8',
    }
    const merge = (): Uint8Array => {
      const method = diloco(options)
      let state = method.createState(layout, normals(730, 1, 'bits'))
      for (let round = 0; round < 3; round++) {
        const before = joinPieces(method.serialiseState(state))
        const next = method.merge(
          state,
          [0, 1, 2].map((peer) => sent(options, layout, normals(730, 0.01, round, peer), 100 + peer)),
          context,
        )
        expect(joinPieces(method.serialiseState(state))).toEqual(before)
        state = next
      }
      return joinPieces(method.serialiseState(state))
    }
    expect(merge()).toEqual(merge())
  })

  test('continues from a serialised state as from the live one', () => {
    const layout = layoutOfSizes(9)
    const options: DilocoOptions = { ...plain, outerLearningRate: 0.7, outerMomentum: 0.9 }
    const method = diloco(options)
    const contribution = sent(options, layout, normals(9, 1, 'delta'))
    const live = method.merge(method.createState(layout, normals(9, 1, 'start')), [contribution], context)
    const joined = method.parseState(joinPieces(method.serialiseState(live)), layout)
    expect(joinPieces(method.serialiseState(method.merge(joined, [contribution], context)))).toEqual(
      joinPieces(method.serialiseState(method.merge(live, [contribution], context))),
    )
  })

  test('a contribution without tokens or no contribution at all cannot be merged', () => {
    const layout = layoutOfSizes(2)
    const method = diloco(plain)
    const state = method.createState(layout, new Float32Array(2))
    expect(() => method.merge(state, [], context)).toThrow(/at least one contribution/)
    expect(() => method.merge(state, [sent(plain, layout, new Float32Array(2), 0)], context)).toThrow(
      /at least one/,
    )
  })
})

runSyncMethodSuite({
  name: 'DiLoCo, float32',
  make: () => diloco({ ...plain, outerLearningRate: 0.7, outerMomentum: 0.9 }),
})
runSyncMethodSuite({
  name: 'DiLoCo, int8',
  make: () => diloco({ ...plain, outerLearningRate: 0.7, outerMomentum: 0.6, encoding: 'int8' }),
})

runSyncMethodSuite({
  name: 'DiLoCo, two bits with error feedback',
  make: () =>
    diloco({ ...plain, outerLearningRate: 0.7, outerMomentum: 0.6, encoding: 'int2', errorFeedback: 0.9 }),
  roundsToHalve: 20,
})

describe('error feedback', () => {
  test('sends later what an encoding lost: the sum of what is sent follows the sum of what was learnt', () => {
    const layout = layoutOfSizes(3000)
    const rounds = 30
    const gap = (errorFeedback: number | undefined): number => {
      const method = diloco({ ...plain, encoding: 'int2', errorFeedback })
      const state = method.createState(layout, new Float32Array(3000))
      let local = method.createLocal(layout)
      const sum = new Float64Array(3000)
      const delta = normals(3000, 1e-3, 'learnt')
      for (let round = 1; round <= rounds; round++) {
        const values = delta.map((value) => -value)
        const encoded = method.encodeUpdate({ state, local, round, values, learningRate: 0 }, layout)
        local = encoded.local
        method.decodeUpdate(encoded.bytes, layout).tensors[0]!.addScaled(sum, 1 / rounds)
      }
      return Math.hypot(...sum.map((value, i) => value - delta[i]!)) / Math.hypot(...delta)
    }
    expect(gap(undefined)).toBeGreaterThan(0.3)
    expect(gap(1)).toBeLessThan(0.05)
  })

  test('changes nothing where an encoding loses nothing', () => {
    const layout = layoutOfSizes(100, 7)
    const method = diloco({ ...plain, errorFeedback: 0.9 })
    const state = method.createState(layout, normals(107, 1, 'state'))
    const values = normals(107, 1, 'values')
    const local = method.createLocal(layout)
    const encoded = method.encodeUpdate({ state, local, round: 1, values, learningRate: 0 }, layout)
    const without = diloco(plain).encodeUpdate(
      { state, local: null, round: 1, values, learningRate: 0 },
      layout,
    )
    expect(encoded.bytes).toEqual(without.bytes)
    expect(encoded.local!.memory.every((value) => value === 0)).toBe(true)
  })
})

describe('encodings', () => {
  const layout = layoutOfSizes(5000, 300, 1)
  const delta = normals(layout.totalSize, 0.003, 'encodings')

  test('float32 gives back what went in', () => {
    expect(decoded(plain, layout, delta)).toEqual(delta)
  })

  test('int8 takes a quarter of the bytes and keeps values to one part in a hundred of their spread', () => {
    const options: DilocoOptions = { ...plain, encoding: 'int8' }
    const result = decoded(options, layout, delta)
    const rootMeanSquare = (values: Float32Array): number =>
      Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length)
    const error = rootMeanSquare(result.map((value, i) => value - delta[i]!))
    expect(error / rootMeanSquare(delta)).toBeLessThan(0.02)
    // Each bucket decodes to the mean of what fell into it, so the mean of a tensor survives.
    const mean = (values: Float32Array): number =>
      values.reduce((sum, value) => sum + value, 0) / values.length
    expect(mean(result.subarray(0, 5000))).toBeCloseTo(mean(delta.subarray(0, 5000)), 8)
    const large = layoutOfSizes(1_000_000)
    expect(diloco(options).maximumUpdateBytes(large) / diloco(plain).maximumUpdateBytes(large)).toBeLessThan(
      0.2506,
    )
  })

  test('int8 sends small tensors, which would not shrink, as they are', () => {
    const small = layoutOfSizes(300, 1)
    const values = normals(301, 1, 'small')
    expect(decoded({ ...plain, encoding: 'int8' }, small, values)).toEqual(values)
  })

  test.each([0, 0.25, -1e-30])('int8 keeps a tensor that is %f everywhere', (value) => {
    const wide = layoutOfSizes(2000)
    const constant = new Float32Array(2000).fill(value)
    expectClose(decoded({ ...plain, encoding: 'int8' }, wide, constant), constant, 1e-37)
  })

  test('int8 averages what lies beyond three standard deviations into the outermost buckets', () => {
    const wide = layoutOfSizes(10_000)
    const values = new Float32Array(10_000)
    values[17] = 1 // every other value is zero
    const result = decoded({ ...plain, encoding: 'int8' }, wide, values)
    expect(result[17]).toBeCloseTo(1, 5)
    expect(result[18]).toBeCloseTo(0, 5)
  })

  test.each(['float32', 'int8'] as const)(
    '%s updates have exactly the size that the layout foretells',
    (encoding) => {
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 1, max: 600 }), { minLength: 1, maxLength: 5 }), (sizes) => {
          const any = layoutOfSizes(...sizes)
          const method = diloco({ ...plain, encoding })
          const bytes = encode({ ...plain, encoding }, any, normals(any.totalSize, 1, 'size'))
          expect(bytes.byteLength).toBe(method.maximumUpdateBytes(any))
          method.decodeUpdate(bytes, any)
        }),
        { numRuns: 50 },
      )
    },
  )

  test.each(['float32', 'int8'] as const)('%s bytes mean the same at any alignment', (encoding) => {
    const method = diloco({ ...plain, encoding })
    const bytes = encode({ ...plain, encoding }, layout, delta)
    const shifted = new Uint8Array(bytes.byteLength + 3).subarray(3)
    shifted.set(bytes)
    const zero = method.createState(layout, new Float32Array(layout.totalSize))
    const merge = (from: Uint8Array) =>
      method.parameters(
        method.merge(zero, [{ peer: 'any', update: method.decodeUpdate(from, layout), weight: 1 }], context),
      )
    expect(merge(shifted)).toEqual(merge(bytes))
  })
})

describe('bytes from strangers', () => {
  const layout = layoutOfSizes(400, 3)

  test.each(['float32', 'int8'] as const)('%s: any bytes are an error or a usable update', (encoding) => {
    const method = diloco({ ...plain, encoding })
    const size = method.maximumUpdateBytes(layout)
    const genuine = encode({ ...plain, encoding }, layout, normals(403, 1, 'fuzz'))
    const arbitrary = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc.uint8Array({ minLength: size, maxLength: size }),
      // A genuine update with some bytes changed, which gets past the frame more often.
      fc.array(fc.tuple(fc.nat(size - 1), fc.nat(255)), { maxLength: 40 }).map((changes) => {
        const bytes = genuine.slice()
        for (const [at, value] of changes) bytes[at] = value
        return bytes
      }),
    )
    const zero = method.createState(layout, new Float32Array(403))
    fc.assert(
      fc.property(arbitrary, (bytes) => {
        let update: unknown
        try {
          update = method.decodeUpdate(bytes, layout)
        } catch (error) {
          expect(error).toMatchObject({ code: 'sync/invalid-update' })
          return
        }
        const merged = method.merge(zero, [{ peer: 'any', update: update as never, weight: 1 }], context)
        expect(method.parameters(merged).every((value) => Math.abs(value) <= 1.01e6)).toBe(true)
      }),
      { numRuns: 300 },
    )
  })

  test('a wrong length is refused whatever the frame says, before anything is allocated', () => {
    const method = diloco(plain)
    const bytes = encode(plain, layout, new Float32Array(403))
    new DataView(bytes.buffer).setUint32(8, 0xffffffff, true)
    for (const wrong of [bytes.subarray(0, 11), bytes.subarray(0, 12), new Uint8Array([...bytes, 0])]) {
      expect(() => method.decodeUpdate(wrong, layout)).toThrow(/where this model needs/)
    }
    expect(() => method.decodeUpdate(bytes, layout)).toThrow(/4294967295 parameters/)
  })

  test.each([
    ['magic', 0],
    ['version', 4],
    ['variant', 5],
    ['method', 6],
    ['part', 7],
    ['count', 8],
  ])('an unknown %s is refused', (_, at) => {
    const method = diloco(plain)
    const bytes = encode(plain, layout, new Float32Array(403))
    bytes[at]! ^= 0x40
    expect(() => method.decodeUpdate(bytes, layout)).toThrow(
      expect.objectContaining({ code: 'sync/invalid-update' }),
    )
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e7])(
    '%f is refused in both encodings, by the sender as by the receiver',
    (value) => {
      for (const encoding of ['float32', 'int8'] as const) {
        const method = diloco({ ...plain, encoding })
        const delta = new Float32Array(403)
        const bytes = encode({ ...plain, encoding }, layout, delta)
        delta[5] = value
        expect(() => encode({ ...plain, encoding }, layout, delta)).toThrow(
          expect.objectContaining({ code: 'sync/diverged' }),
        )
        new DataView(bytes.buffer).setFloat32(12, value, true) // a value, or the shift of the first tensor
        expect(() => method.decodeUpdate(bytes, layout)).toThrow(/“tensor0”/)
      }
    },
  )

  test('no sequence of the largest accepted updates reaches infinity', () => {
    const method = diloco({ ...plain, outerLearningRate: 10, outerMomentum: 0.99 })
    const one = layoutOfSizes(1)
    let state = method.createState(one, new Float32Array(1))
    for (let i = 0; i < 2000; i++)
      state = method.merge(state, [sent(plain, one, Float32Array.of(-1e6))], context)
    expect(Number.isFinite(method.parameters(state)[0])).toBe(true)
  })

  test('a checkpoint of another model, cut short or not finite is refused', () => {
    const method = diloco(plain)
    const bytes = joinPieces(method.serialiseState(method.createState(layout, new Float32Array(403))))
    expect(() => method.parseState(bytes, layoutOfSizes(402))).toThrow(/where this model needs/)
    expect(() => method.parseState(bytes.subarray(1), layout)).toThrow(/where this model needs/)
    new DataView(bytes.buffer).setFloat32(12, Number.NaN, true)
    expect(() => method.parseState(bytes, layout)).toThrow(/not finite/)
  })
})

describe('the wire format', () => {
  const hex = (bytes: Uint8Array): string =>
    [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')

  test('of a float32 update is these bytes', () => {
    const bytes = encode(plain, layoutOfSizes(2, 1), Float32Array.of(1, -0.5, 0.25))
    expect(hex(bytes)).toBe(
      '47535550' + '01' + '01' + '0000' + '03000000' + '0000803f' + '000000bf' + '0000803e',
    )
  })

  test('of an int8 update is these bytes', () => {
    // 400 values, half +1 and half −1: shift 0, σ = √(400/399), scale = 6σ/256, buckets 171 and 85.
    const values = Float32Array.from({ length: 400 }, (_, i) => (i % 2 === 0 ? 1 : -1))
    const bytes = encode({ ...plain, encoding: 'int8' }, layoutOfSizes(400), values)
    expect(hex(bytes.subarray(0, 16))).toBe('47535550' + '01' + '02' + '0000' + '90010000' + '00000000')
    const codebook = new Float32Array(bytes.slice(16, 16 + 1024).buffer)
    expect([...codebook].flatMap((value, bucket) => (value === 0 ? [] : [[bucket, value]]))).toEqual([
      [85, -1],
      [171, 1],
    ])
    expect(hex(bytes.subarray(1040, 1044))).toBe('ab55ab55')
  })

  test('of a state is these bytes', () => {
    const method = diloco(plain)
    const bytes = joinPieces(method.serialiseState(method.createState(layoutOfSizes(1), Float32Array.of(2))))
    expect(hex(bytes)).toBe('47535354' + '01' + '01' + '0000' + '01000000' + '00000040' + '00000000')
  })
})

test('a model of 3.3 million parameters is encoded, decoded and merged (seconds at worst, in any build)', () => {
  const layout = layoutOfSizes(...Array.from({ length: 33 }, () => 100_000))
  const options: DilocoOptions = {
    innerSteps: 1,
    outerLearningRate: 0.7,
    outerMomentum: 0.9,
    encoding: 'int8',
  }
  const method = diloco(options)
  const state = method.createState(layout, new Float32Array(layout.totalSize))
  const delta = new Float32Array(layout.totalSize).map((_, i) => ((i * 7919) % 1000) / 1e6)
  const contribution = sent(options, layout, delta)
  const merged = method.merge(state, [contribution, contribution, contribution], context)
  expect(method.parameters(merged)).toHaveLength(3_300_000)
})

describe('settings', () => {
  test('fill in the outer step for a run of some dozens of rounds and make the method', () => {
    const settings = syncSettingsSchema.parse({ method: 'diloco' })
    expect(settings).toEqual({
      method: 'diloco',
      innerSteps: 30,
      outerLearningRate: 0.7,
      outerMomentum: 0.6,
      encoding: 'int8',
    })
    expect(createSyncMethod(settings)).toMatchObject({
      id: 'diloco/1',
      innerSteps: 30,
      quantity: 'parameters',
    })
  })

  test('refuse an unknown method and an unknown key', () => {
    expect(syncSettingsSchema.safeParse({ method: 'magic' }).success).toBe(false)
    expect(syncSettingsSchema.safeParse({ method: 'diloco', momentum: 1 }).success).toBe(false)
  })
})
