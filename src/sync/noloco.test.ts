import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { joinPieces } from '../core/index.ts'
import { diloco } from './diloco.ts'
import { runSyncMethodSuite } from './methods-suite.ts'
import { gossipGroups, type NolocoOptions, noloco } from './noloco.ts'
import { ToySwarm } from './toy-swarm.ts'

const published: NolocoOptions = {
  innerSteps: 50,
  outerLearningRate: 0.7,
  outerMomentum: 0.5,
  encoding: 'float32',
  parametersEncoding: 'float32',
}

runSyncMethodSuite({ name: 'NoLoCo, float32', make: () => noloco(published) })
runSyncMethodSuite({
  name: 'NoLoCo, int8 and float16',
  make: () => noloco({ ...published, encoding: 'int8', parametersEncoding: 'float16' }),
})

describe('who meets whom', () => {
  test('everybody is in one group, of two but for one', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string(), { maxLength: 30 }), fc.string(), (peers, seed) => {
        const groups = gossipGroups(peers, seed)
        expect(groups.flat().sort()).toEqual([...peers].sort())
        expect(groups.filter((group) => group.length !== 2)).toHaveLength(peers.length % 2)
      }),
    )
  })

  test('depends on the seed and not on the order of the peers', () => {
    const peers = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
    expect(gossipGroups(peers.toReversed(), 'seed')).toEqual(gossipGroups(peers, 'seed'))
    const partners = Array.from({ length: 50 }, (_, seed) =>
      gossipGroups(peers, `${seed}`)
        .find((group) => group.includes('a'))!
        .find((peer) => peer !== 'a'),
    )
    expect(new Set(partners).size).toBe(7) // the six others, and nobody
  })
})

describe('NoLoCo', () => {
  test('a watching host sees the mean of all peers’ φ', () => {
    const swarm = new ToySwarm(noloco(published), { peers: 6 })
    const { method, peers } = swarm
    let watched = peers[0]!.state
    for (let round = 1; round <= 6; round++) {
      swarm.round({ round })
      const numbers = peers.map((_, i) => i)
      const equal = swarm.contributionsOf(swarm.sent, numbers).map((each) => ({ ...each, weight: 1 }))
      // Runs clip; pairs cannot, and so the watcher must not.
      watched = method.merge(watched, equal, swarm.context({ round, clipToMedianNorm: true }))
    }
    const parameters = peers.map(({ state }) => method.parameters(state))
    const seen = method.parameters(watched)
    let apart = 0
    for (let i = 0; i < seen.length; i++) {
      const mean = parameters.reduce((sum, each) => sum + each[i]! / 6, 0)
      // Pairs weigh their tokens, the watcher was told that all are equal.
      expect(Math.abs(seen[i]! - mean)).toBeLessThan(0.01)
      apart = Math.max(apart, Math.abs(parameters[0]![i]! - parameters[1]![i]!))
    }
    expect(apart).toBeGreaterThan(0) // each has its own
  })

  test('the updates of a peer’s own group are all that it needs', () => {
    const swarm = new ToySwarm(noloco(published), { peers: 5 })
    const numbers = [0, 1, 2, 3, 4]
    const sent = numbers.map((i) => swarm.contribute(swarm.peers[i]!, { round: 1 }))
    const contributions = swarm.contributionsOf(sent, numbers)
    const context = swarm.context({ round: 1 })
    const names = contributions.map(({ peer }) => peer)
    for (const group of gossipGroups(names, context.seed)) {
      for (const self of group) {
        expect(swarm.method.partners!(names, { ...context, self })).toEqual(group)
        const merge = (given: typeof contributions): Uint8Array =>
          joinPieces(
            swarm.method.serialiseState(
              swarm.method.merge(swarm.peers[0]!.state, given, { ...context, self }),
            ),
          )
        expect(merge(contributions.filter(({ peer }) => group.includes(peer)))).toEqual(merge(contributions))
      }
    }
  })

  test('one peer alone, without momentum, does what DiLoCo does', () => {
    const outer = { outerLearningRate: 0.7, outerMomentum: 0, encoding: 'float32' } as const
    const alone = new ToySwarm(noloco({ ...published, ...outer }), { peers: 1 })
    const reference = new ToySwarm(diloco({ ...outer, innerSteps: 50 }), { peers: 1 })
    for (let round = 1; round <= 4; round++) {
      alone.round({ round })
      reference.round({ round })
    }
    const expected = reference.method.parameters(reference.peers[0]!.state)
    const actual = alone.method.parameters(alone.peers[0]!.state)
    for (let i = 0; i < actual.length; i++) expect(actual[i]).toBeCloseTo(expected[i]!, 6)
  })

  test('peers that start apart come together', () => {
    const swarm = new ToySwarm(noloco(published), { peers: 4 })
    const { method, layout, peers } = swarm
    peers[2]!.state = method.createState(layout, new Float32Array(layout.totalSize).fill(1))
    const spread = (): number => {
      const [a, b] = [peers[0]!, peers[2]!].map(({ state }) => method.parameters(state))
      return Math.hypot(...a!.map((value, i) => value - b![i]!))
    }
    const before = spread()
    for (let round = 1; round <= 20; round++) swarm.round({ round })
    expect(spread()).toBeLessThan(before / 20)
  })
})
