import { describe, expect, test } from 'vitest'
import { type DemoOptions, demo, distro } from './demo.ts'
import type { MergeContext } from './method.ts'
import { runSyncMethodSuite } from './methods-suite.ts'
import { layoutOfShapes, normals, ToySwarm, toyModelLayout } from './toy-swarm.ts'

const published: DemoOptions = {
  momentumDecay: 0.999,
  kept: 32,
  values: 'float16',
  average: 'senders',
  weightDecay: 0,
}

// The sign of a sum near zero may turn with the order of its parts: two steps of the learning rate.
const turned = { learningRate: 0.005, roundsToHalve: 60, orderTolerance: 0.1 }
runSyncMethodSuite({ name: 'DeMo', make: () => demo(published), ...turned })
runSyncMethodSuite({
  name: 'DeMo, int8, mean over all peers, decay',
  make: () => demo({ ...published, kept: 128, values: 'int8', average: 'all-peers', weightDecay: 0.1 }),
  ...turned,
})
runSyncMethodSuite({
  name: 'DisTrO',
  make: () => distro({ ...published, kept: 32, weightDecay: 0.1 }),
  ...turned,
})

const context: MergeContext = {
  round: 1,
  seed: '',
  learningRate: 0.5,
  clipToMedianNorm: false,
  self: null,
}
const layout = layoutOfShapes({ matrix: [64, 64] })
const start = normals(4096, 1, 'start')
const everything = { ...published, kept: 4096 }

describe('DeMo', () => {
  test('that sends everything as one peer is sign descent, and keeps nothing back', () => {
    const method = demo({ ...everything, values: 'float16', weightDecay: 0.2 })
    const state = method.createState(layout, start)
    const gradient = normals(4096, 1, 'gradient')
    const input = { state, local: method.createLocal(layout), round: 1, values: gradient, learningRate: 0.5 }
    const { bytes, local } = method.encodeUpdate(input, layout)
    for (const value of local.momentum) expect(Math.abs(value)).toBeLessThan(1e-2)
    const update = method.decodeUpdate(bytes, layout)
    const merged = method.parameters(method.merge(state, [{ peer: '', update, weight: 1 }], context))
    for (let i = 0; i < 4096; i++) {
      if (Math.abs(gradient[i]!) < 0.01) continue // a half's rounding may turn these
      expect(merged[i]).toBeCloseTo(start[i]! * (1 - 0.5 * 0.2) - 0.5 * Math.sign(gradient[i]!), 5)
    }
  })

  test('what is sent leaves the momentum, and the rest stays for later', () => {
    const method = demo({ ...published, momentumDecay: 1 })
    const state = method.createState(layout, start)
    const gradient = normals(4096, 1, 'gradient')
    const norm = (values: Float32Array): number => Math.hypot(...values)
    const input = { state, local: method.createLocal(layout), round: 1, values: gradient, learningRate: 1 }
    const { bytes, local } = method.encodeUpdate(input, layout)
    const sent = method.updateNorm(method.decodeUpdate(bytes, layout))
    // The transform keeps norms, and coefficients are orthogonal.
    expect(norm(local.momentum) ** 2 + sent ** 2).toBeCloseTo(norm(gradient) ** 2, -1)
    expect(sent ** 2 / norm(gradient) ** 2).toBeGreaterThan(32 / 4096)
  })
})

describe('DisTrO', () => {
  test('applies a round’s results with the merge of the next', () => {
    const method = distro({ ...everything, weightDecay: 0 })
    const state = method.createState(layout, start)
    const gradient = normals(4096, 1, 'gradient')
    const input = { state, local: method.createLocal(layout), round: 1, values: gradient, learningRate: 0.5 }
    const { bytes } = method.encodeUpdate(input, layout)
    const contribution = { peer: '', update: method.decodeUpdate(bytes, layout), weight: 1 }
    const first = method.merge(state, [contribution], context)
    expect(method.parameters(first)).toEqual(start)
    const second = method.merge(first, [contribution], context)
    expect(method.parameters(second)).toEqual(start.map((value, i) => value - 0.5 * first.pending![i]!))
  })

  test('looks ahead by the sign of a momentum that still holds what was sent', () => {
    const method = distro({ ...published, weightDecay: 0 })
    const state = method.createState(layout, start)
    const gradient = normals(4096, 1, 'gradient')
    const fresh = method.createLocal(layout)
    expect(method.startRound(state, fresh, undefined)).toEqual(start)
    const input = { state, local: fresh, round: 1, values: gradient, learningRate: 0.25 }
    const { local } = method.encodeUpdate(input, layout)
    expect(method.startRound(state, local, undefined)).toEqual(
      start.map((value, i) => value - 0.25 * Math.sign(gradient[i]!)),
    )
  })

  test('sends less than a thirtieth of a bit per parameter at 8 of 4096', () => {
    const wide = layoutOfShapes({ a: [512, 1024], b: [640, 512] })
    const method = distro({ ...published, kept: 8 })
    const state = method.createState(wide, new Float32Array(wide.totalSize))
    const values = normals(wide.totalSize, 1, 'gradient')
    const input = { state, local: method.createLocal(wide), round: 1, values, learningRate: 0.1 }
    const { bytes } = method.encodeUpdate(input, wide)
    expect((8 * bytes.byteLength) / wide.totalSize).toBeLessThan(0.0225)
  })
})

test.each(['float16', 'int8'] as const)(
  'a coefficient that no receiver takes (%s) is a divergence',
  (values) => {
    // Each value is small enough; the coefficient of a tile of equal ones is 64 times as large.
    const method = demo({ ...published, values })
    const gradient = new Float32Array(4096).fill(1e5)
    const input = { state: method.createState(layout, start), local: method.createLocal(layout) }
    expect(() =>
      method.encodeUpdate({ ...input, round: 1, values: gradient, learningRate: 1 }, layout),
    ).toThrow(expect.objectContaining({ code: 'sync/diverged' }))
  },
)

test('a peer that misses rounds does not drift: decay is in the merge', () => {
  const swarm = new ToySwarm(distro({ ...published, weightDecay: 0.5 }), { peers: 3 })
  for (let round = 1; round <= 6; round++) {
    swarm.round({ round, contributors: round % 2 === 0 ? [0] : [1, 2], learningRate: 0.01 })
  }
  expect(swarm.layout).toBe(toyModelLayout)
  for (const peer of swarm.peers) expect(swarm.serialised(peer)).toEqual(swarm.serialised())
})
