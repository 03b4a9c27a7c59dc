import { describe, expect, test } from 'vitest'
import { radialDirectionalAverage } from './aggregate.ts'
import { decoupled } from './decoupled.ts'
import { type DilocoOptions, diloco } from './diloco.ts'
import type { SyncMethod } from './method.ts'
import { runSyncMethodSuite } from './methods-suite.ts'
import { normals, ToySwarm, toyModelLayout } from './toy-swarm.ts'

const options: DilocoOptions = {
  innerSteps: 24,
  outerLearningRate: 0.7,
  outerMomentum: 0.9,
  encoding: 'float32',
}

runSyncMethodSuite({ name: 'Decoupled DiLoCo', make: () => decoupled(options) })
runSyncMethodSuite({
  name: 'Decoupled DiLoCo, int8',
  make: () => decoupled({ ...options, outerMomentum: 0.6, encoding: 'int8' }),
})

const tensorOf = (values: Float32Array) => ({
  addScaled: (target: Float64Array, weight: number, from = 0): void => {
    for (let i = 0; i < target.length; i++) target[i] = target[i]! + weight * values[from + i]!
  },
  squaredNorm: (): number => values.reduce((sum, value) => sum + value * value, 0),
})

describe('radial-directional averaging', () => {
  const context = { clipToMedianNorm: false }
  const averaged = (...updates: Float32Array[]): Float64Array => {
    const sum = new Float64Array(updates[0]!.length)
    radialDirectionalAverage(
      sum.length,
      updates.map(tensorOf),
      updates.map(() => 1 / updates.length),
      context,
      (block, from) => sum.set(block, from),
    )
    return sum
  }

  test.each([1, 2, 4, 8])('is as long as the mean of the norms, with %d peers as with one', (peers) => {
    const updates = Array.from({ length: peers }, (_, peer) => normals(3000, 1, 'update', peer))
    const mean = updates.reduce((sum, update) => sum + Math.hypot(...update) / peers, 0)
    expect(Math.hypot(...averaged(...updates))).toBeCloseTo(mean, 6)
  })

  test('has the direction of the mean direction, to which a long update adds no more than a short one', () => {
    const sum = averaged(Float32Array.of(3, 0), Float32Array.of(0, 1))
    expect(sum[0]).toBeCloseTo(2 / Math.SQRT2, 12)
    expect(sum[1]).toBeCloseTo(2 / Math.SQRT2, 12)
  })

  test('is the plain mean where directions cancel, and leaves zeros alone', () => {
    expect([...averaged(Float32Array.of(3, 0), Float32Array.of(-1, 0))]).toEqual([1, 0])
    expect([...averaged(new Float32Array(2), new Float32Array(2))]).toEqual([0, 0])
  })
})

test('one peer alone does what it does in DiLoCo', () => {
  const swarms = [decoupled(options), diloco(options)].map((method: SyncMethod) => {
    const swarm = new ToySwarm(method, { peers: 1 })
    for (let round = 1; round <= 4; round++) swarm.round({ round })
    return swarm.method.parameters(swarm.peers[0]!.state)
  })
  for (let i = 0; i < toyModelLayout.totalSize; i++) expect(swarms[0]![i]).toBeCloseTo(swarms[1]![i]!, 5)
})
