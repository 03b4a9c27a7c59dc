import { describe, expect, test } from 'vitest'
import { joinPieces } from '../core/index.ts'
import { diloco } from './diloco.ts'
import { fragmentOf } from './fragments.ts'
import type { SyncMethod } from './method.ts'
import { runSyncMethodSuite } from './methods-suite.ts'
import { type StreamingDilocoOptions, streamingDiloco } from './streaming-diloco.ts'
import { ToySwarm, toyModelLayout } from './toy-swarm.ts'

const published: StreamingDilocoOptions = {
  innerSteps: 30,
  fragments: 2,
  overlapSteps: 1,
  mixing: 0.5,
  outerLearningRate: 0.4,
  outerMomentum: 0.9,
  encoding: 'float32',
}

runSyncMethodSuite({ name: 'streaming DiLoCo, two fragments', make: () => streamingDiloco(published) })
runSyncMethodSuite({
  name: 'streaming DiLoCo, four fragments, int8, no mixing',
  make: () => streamingDiloco({ ...published, innerSteps: 40, fragments: 4, mixing: 0, encoding: 'int8' }),
  roundsToHalve: 24,
})

describe('streaming DiLoCo', () => {
  test('with one fragment, no overlap and no mixing is DiLoCo, bit for bit', () => {
    const outer = { innerSteps: 30, outerLearningRate: 0.7, outerMomentum: 0.9, encoding: 'float32' } as const
    const train = (method: SyncMethod): ToySwarm => {
      const swarm = new ToySwarm(method, { peers: 3 })
      for (let round = 1; round <= 6; round++) {
        swarm.round({ round, contributors: round % 2 === 0 ? [0, 2] : [0, 1, 2] })
      }
      return swarm
    }
    const streaming = train(streamingDiloco({ ...outer, fragments: 1, overlapSteps: 0, mixing: 0 }))
    const whole = train(diloco(outer))
    expect(streaming.sent.map((bytes) => bytes.slice(12))).toEqual(whole.sent.map((bytes) => bytes.slice(12)))
    // The state's round stands between the frame and the arrays.
    expect(streaming.serialised().slice(16)).toEqual(whole.serialised().slice(12))
  })

  test('moves only the fragment of the round', () => {
    const swarm = new ToySwarm(streamingDiloco(published), { peers: 2 })
    for (let round = 1; round <= 3; round++) {
      const before = swarm.method.parameters(swarm.peers[0]!.state)
      swarm.round({ round })
      const after = swarm.method.parameters(swarm.peers[0]!.state)
      for (const { name, offset, size } of toyModelLayout.entries) {
        const moved = after.subarray(offset, offset + size).some((value, i) => value !== before[offset + i])
        expect(moved, `${name} in round ${round}`).toBe(fragmentOf(name, 2) === round % 2)
      }
    }
  })

  test('mixes a peer’s own parameters into the merged fragment and leaves it the others; a newcomer gets all', () => {
    const method = streamingDiloco({ ...published, mixing: 0.25 })
    const swarm = new ToySwarm(method, { peers: 1 })
    swarm.round({ round: 1 })
    const state = swarm.peers[0]!.state as Parameters<typeof method.startRound>[0]
    const merged = method.parameters(state)
    const own = new Float32Array(merged.length).fill(8)
    const next = method.startRound(state, null, { handedIn: merged, now: own })
    for (const { name, offset } of toyModelLayout.entries) {
      const expected = fragmentOf(name, 2) === 1 ? Math.fround(2 + 0.75 * merged[offset]!) : 8
      expect(next[offset]).toBe(expected)
    }
    expect(method.startRound(state, null, undefined)).toEqual(merged)
  })

  test('an update of another fragment than the round’s counts for nothing', () => {
    const swarm = new ToySwarm(streamingDiloco(published), { peers: 2 })
    const { method, layout } = swarm
    const { state } = swarm.peers[0]!
    const early = swarm.contribute(swarm.peers[0]!, { round: 2 })
    const due = swarm.contribute(swarm.peers[1]!, { round: 1 })
    const merge = (...sent: Uint8Array[]): Uint8Array =>
      joinPieces(
        method.serialiseState(
          method.merge(
            state,
            sent.map((bytes) => ({ peer: 'any', update: method.decodeUpdate(bytes, layout), weight: 1 })),
            swarm.context({ round: 1 }),
          ),
        ),
      )
    expect(merge(early, due)).toEqual(merge(due))
    const untouched = method.parseState(merge(early), layout)
    expect(method.parameters(untouched)).toEqual(method.parameters(state))
  })

  test('fragments are strided over the layers', () => {
    expect(
      [0, 1, 2, 3, 4, 5].map((layer) => fragmentOf(`model.layers.${layer}.mlp.up_proj.weight`, 3)),
    ).toEqual([0, 1, 2, 0, 1, 2])
    expect(fragmentOf('model.embed_tokens.weight', 3)).toBe(0)
    expect(fragmentOf('lm_head.weight', 3)).toBe(2)
  })

  test('more fragments than layers are refused', () => {
    const method = streamingDiloco({ ...published, fragments: 5, innerSteps: 30 })
    const parameters = new Float32Array(toyModelLayout.totalSize)
    // The fifth fragment would hold the final norm alone, which is still something; the sixth nothing.
    expect(() => method.createState(toyModelLayout, parameters)).not.toThrow()
    const six = streamingDiloco({ ...published, fragments: 6, innerSteps: 30 })
    expect(() => six.createState(toyModelLayout, parameters)).toThrow(/Fragment 4 of 6 would hold no layer/)
  })
})
