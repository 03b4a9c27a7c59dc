import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { diloco } from './diloco.ts'
import type { TensorLayout } from './method.ts'
import { runSyncMethodSuite } from './methods-suite.ts'
import { type SparseLocoOptions, sparseLoco } from './sparse-loco.ts'
import { layoutOfShapes, normals, ToySwarm, toyModelLayout } from './toy-swarm.ts'

const published: SparseLocoOptions = {
  innerSteps: 30,
  overlapSteps: 0,
  kept: 64,
  errorDecay: 0.95,
  outerLearningRate: 1,
  values: 'int2',
  average: 'all-peers',
}

runSyncMethodSuite({ name: 'SparseLoCo', make: () => sparseLoco(published), roundsToHalve: 60 })
runSyncMethodSuite({
  name: 'SparseLoCo, mean over senders, int8, k = 512',
  make: () => sparseLoco({ ...published, kept: 512, values: 'int8', average: 'senders' }),
  roundsToHalve: 20,
})

runSyncMethodSuite({
  name: 'SparseLoCo, overlapping',
  make: () => sparseLoco({ ...published, overlapSteps: 3 }),
  roundsToHalve: 60,
})

/** Encodes θ − θᵢ = delta on top of a memory. */
const encode = (
  options: SparseLocoOptions,
  layout: TensorLayout,
  delta: Float32Array,
  memory: Float32Array = new Float32Array(layout.totalSize),
) => {
  const method = sparseLoco(options)
  const state = method.createState(layout, delta)
  const values: Float32Array = new Float32Array(layout.totalSize)
  const input = { state, local: { layout, memory }, round: 1, values, learningRate: 0 }
  const { bytes, local } = method.encodeUpdate(input, layout)
  const update = method.decodeUpdate(bytes, layout)
  const sent = new Float64Array(layout.totalSize)
  layout.entries.forEach(({ offset, size }, i) => {
    update.tensors[i]!.scatterScaled(sent.subarray(offset, offset + size), 1)
  })
  return { bytes, sent, kept: local.memory, update }
}

describe('SparseLoCo', () => {
  test.each(['float32', 'int8', 'int2'] as const)(
    '%s: what is sent plus what is kept is what there was, exactly',
    (values) => {
      const layout = layoutOfShapes({ matrix: [70, 9], vector: [40] })
      const anyFloat = fc.oneof(
        fc.float({ noNaN: true, noDefaultInfinity: true, min: -1e5, max: 1e5 }),
        fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e-3), max: Math.fround(1e-3) }),
      )
      fc.assert(
        fc.property(
          fc.array(anyFloat, { minLength: 670, maxLength: 670 }).map((array) => Float32Array.from(array)),
          fc.integer({ min: 1, max: 4096 }),
          (delta, kept) => {
            const options = { ...published, values, kept }
            const after = encode(options, layout, delta)
            // What there was: βe + Δ to within half a step of the grid, which is 2⁻²³ of the largest value at most.
            for (const { offset, size } of layout.entries) {
              let largest = 0
              for (let i = offset; i < offset + size; i++) largest = Math.max(largest, Math.abs(delta[i]!))
              for (let i = offset; i < offset + size; i++) {
                const whole = after.kept[i]! + after.sent[i]! // exact in float64
                expect(Math.fround(whole)).toBe(whole)
                expect(Math.abs(whole - delta[i]!)).toBeLessThanOrEqual(largest * 2 ** -23)
                // In float32, too: nothing is lost by adding them up.
                expect(Math.fround(Math.fround(after.kept[i]!) + Math.fround(after.sent[i]!))).toBe(whole)
              }
            }
          },
        ),
        { numRuns: 60 },
      )
    },
  )

  test('the memory that is on the grid already is not rounded: what was there is float32 for float32', () => {
    const layout = layoutOfShapes({ matrix: [64, 64] })
    // Multiples of 2⁻²² below 1 are on the grid of a tensor whose largest value is below 2.
    const delta = Float32Array.from(
      normals(4096, 0.2, 'grid'),
      (value) => Math.round(value * 2 ** 22) / 2 ** 22,
    )
    const { sent, kept } = encode(published, layout, delta)
    expect(Float32Array.from(sent, (value, i) => value + kept[i]!)).toEqual(delta)
  })

  test('what was not sent is remembered, and fades by β', () => {
    const layout = layoutOfShapes({ vector: [4096] })
    const delta = new Float32Array(4096)
    delta[7] = 4
    delta[9] = 2
    const options = { ...published, kept: 1, values: 'float32', errorDecay: 0.5 } as const
    const first = encode(options, layout, delta)
    expect([first.sent[7], first.sent[9], first.kept[7], first.kept[9]]).toEqual([4, 0, 0, 2])
    const second = encode(options, layout, new Float32Array(4096), first.kept)
    expect([second.sent[9], second.kept[9]]).toEqual([1, 0])
  })

  test('sends at most 0.15 bits per parameter at 64 of 4096 with two bits', () => {
    const layout = layoutOfShapes({ a: [512, 1024], b: [640, 512], norm: [512] })
    const { bytes } = encode(published, layout, normals(layout.totalSize, 1e-3, 'bits'))
    const bits = (8 * bytes.byteLength) / layout.totalSize
    expect(bits).toBeLessThanOrEqual(0.15)
    expect(bits).toBeGreaterThan(0.146) // the floor: nothing was forgotten
  })

  test('with everything kept as float32, β = 0 and α = 1 is FedAvg', () => {
    const swarmOf = (method: ConstructorParameters<typeof ToySwarm>[0]): ToySwarm => {
      const swarm = new ToySwarm(method, { peers: 3 })
      for (let round = 1; round <= 5; round++) swarm.round({ round })
      return swarm
    }
    const averaging = diloco({
      innerSteps: 1,
      outerLearningRate: 1,
      outerMomentum: 0,
      encoding: 'float32',
    })
    const reference = swarmOf(averaging)
    for (const average of ['all-peers', 'senders'] as const) {
      const dense = sparseLoco({ ...published, kept: 4096, values: 'float32', errorDecay: 0, average })
      const swarm = swarmOf(dense)
      const actual = dense.parameters(swarm.peers[0]!.state as never)
      const expected = averaging.parameters(reference.peers[0]!.state as never)
      for (let i = 0; i < actual.length; i++) expect(actual[i]).toBeCloseTo(expected[i]!, 6)
    }
  })

  test('averages over all peers, or over those that sent a place', () => {
    const layout = layoutOfShapes({ vector: [4096] })
    const spike = (at: number): Float32Array => {
      const delta = new Float32Array(4096)
      delta[at] = 3
      return delta
    }
    const merged = (average: SparseLocoOptions['average']): Float32Array => {
      const options = { ...published, kept: 1, values: 'float32', average } as const
      const method = sparseLoco(options)
      const contributions = [5, 5, 8].map((at, i) => ({
        peer: `${i}`,
        update: encode(options, layout, spike(at)).update,
        weight: 1,
      }))
      const zero = method.createState(layout, new Float32Array(4096))
      const context = { round: 1, seed: '', learningRate: 0, clipToMedianNorm: false, self: null }
      return method.parameters(method.merge(zero, contributions, context))
    }
    const all = merged('all-peers')
    expect([all[5], all[8], all[9]]).toEqual([-2, -1, 0])
    const senders = merged('senders')
    expect([senders[5], senders[8], senders[9]]).toEqual([-3, -3, 0])
  })

  test('lengths vary with the places and stay within what is stated', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4096 }), fc.integer({ min: 0, max: 50 }), (kept, seed) => {
        const options = { ...published, kept }
        // Sorted values: everything that is kept lies together.
        const delta: Float32Array = normals(toyModelLayout.totalSize, 1, seed)
        if (seed % 2 === 0) delta.sort()
        const { bytes } = encode(options, toyModelLayout, delta)
        expect(bytes.byteLength).toBeLessThanOrEqual(sparseLoco(options).maximumUpdateBytes(toyModelLayout))
      }),
      { numRuns: 40 },
    )
  })

  test('goes on from the merged parameters plus what was learnt since the last update', () => {
    const method = sparseLoco({ ...published, overlapSteps: 2 })
    const layout = layoutOfShapes({ vector: [3] })
    const state = method.createState(layout, Float32Array.of(1, 2, 3))
    const local = method.createLocal(layout)
    const handedIn = Float32Array.of(10, 10, 10)
    const now = Float32Array.of(10, 10.5, 9)
    expect(method.startRound(state, local, { handedIn, now })).toEqual(Float32Array.of(1, 2.5, 2))
    expect(method.startRound(state, local, { handedIn, now: handedIn })).toEqual(Float32Array.of(1, 2, 3))
    expect(method.startRound(state, local, undefined)).toEqual(Float32Array.of(1, 2, 3))
  })
})
