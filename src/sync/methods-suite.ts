/**
 * What every `SyncMethod` must do, whatever it exchanges: agree to the bit, leave its inputs alone, survive restarts,
 * late joiners, absent peers and hostile bytes.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { inTurns, joinPieces } from '../core/index.ts'
import type { SyncMethod } from './method.ts'
import { normals, ToySwarm, toyModelLayout } from './toy-swarm.ts'

export interface SyncMethodSuite {
  readonly name: string
  readonly make: () => SyncMethod
  /**
   * How far two orders of the same contributions may lie apart, relative to the largest parameter: the last bits where
   * sums are rounded. A sign of a sum near zero may turn, which moves a parameter by two steps.
   */
  readonly orderTolerance?: number
  /** Rounds in which the toy's loss must fall to less than half. */
  readonly roundsToHalve?: number
  /** For methods whose rate is that of the context. */
  readonly learningRate?: number
}

const layout = toyModelLayout

export function runSyncMethodSuite({
  name,
  make,
  orderTolerance = 1e-6,
  roundsToHalve = 12,
  learningRate = 0.1,
}: SyncMethodSuite): void {
  const trained = (rounds: number, peers = 3): ToySwarm => {
    const swarm = new ToySwarm(make(), { peers })
    for (let round = 1; round <= rounds; round++) swarm.round({ round, learningRate })
    return swarm
  }

  describe(name, () => {
    test('learns', () => {
      const swarm = new ToySwarm(make(), { peers: 3 })
      const before = swarm.loss()
      for (let round = 1; round <= roundsToHalve; round++) swarm.round({ round, learningRate })
      expect(swarm.loss()).toBeLessThan(before / 2)
    })

    test('gives the same bits when everything is repeated, and all peers hold the same state', () => {
      const first = trained(4)
      const second = trained(4)
      expect(first.serialised()).toEqual(second.serialised())
      expect(first.sent).toEqual(second.sent)
      if (!first.method.replicated) return
      for (const peer of first.peers) expect(first.serialised(peer)).toEqual(first.serialised())
    })

    test('leaves its inputs alone', () => {
      const swarm = trained(2)
      const { method, peers } = swarm
      const { state, local, own } = peers[0]!
      const before = {
        state: joinPieces(method.serialiseState(state)),
        local: joinPieces(method.serialiseLocal(local)),
      }
      const values = normals(layout.totalSize, 0.1, 'values')
      const kept = { values: values.slice(), own: own!.slice() }
      method.startRound(state, local, { handedIn: own!, now: own! })
      const { bytes } = method.encodeUpdate({ state, local, round: 3, values, learningRate }, layout)
      const sent = bytes.slice()
      const contribution = { peer: peers[0]!.name, update: method.decodeUpdate(bytes, layout), weight: 5 }
      const merge = (): Uint8Array =>
        joinPieces(
          method.serialiseState(
            method.merge(state, [contribution], swarm.context({ round: 3, learningRate })),
          ),
        )
      const merged = merge()
      expect(merge()).toEqual(merged)
      expect({
        state: joinPieces(method.serialiseState(state)),
        local: joinPieces(method.serialiseLocal(local)),
      }).toEqual(before)
      expect({ values, own }).toEqual(kept)
      expect(bytes).toEqual(sent)
    })

    test('gives the same bits part by part as at once', async () => {
      const swarm = trained(2)
      const { method, peers } = swarm
      const { state, local } = peers[0]!
      const values = normals(layout.totalSize, 0.1, 'values')
      const input = { state, local, round: 3, values, learningRate }
      const context = swarm.context({ round: 3, learningRate })
      const pause = async (): Promise<void> => undefined
      const encoded = method.encodeUpdate(input, layout)
      const inParts = await inTurns(pause, method.encodeUpdate, input, layout)
      expect(inParts.bytes).toEqual(encoded.bytes)
      expect(joinPieces(method.serialiseLocal(inParts.local))).toEqual(
        joinPieces(method.serialiseLocal(encoded.local)),
      )
      const update = method.decodeUpdate(encoded.bytes, layout)
      const contributions = [{ peer: peers[0]!.name, update, weight: 5 }]
      const merged = await inTurns(pause, method.merge, state, contributions, context)
      expect(joinPieces(method.serialiseState(merged))).toEqual(
        joinPieces(method.serialiseState(method.merge(state, contributions, context))),
      )
    })

    test('continues from what was written down as from what lived', () => {
      const live = trained(3)
      const restarted = trained(3)
      const { method } = restarted
      for (const peer of restarted.peers) {
        peer.state = method.parseState(joinPieces(method.serialiseState(peer.state)), layout)
        peer.local = method.parseLocal(joinPieces(method.serialiseLocal(peer.local)), layout)
      }
      for (const swarm of [live, restarted]) {
        for (let round = 4; round <= 6; round++) swarm.round({ round, learningRate })
      }
      expect(restarted.sent).toEqual(live.sent)
      expect(restarted.serialised()).toEqual(live.serialised())
    })

    test('lets a late joiner go on with the state alone', () => {
      const swarm = trained(3)
      const { method } = swarm
      const joiner = swarm.join(method.parseState(swarm.serialised(), layout))
      for (let round = 4; round <= 7; round++) {
        swarm.round({ round, learningRate })
        if (method.replicated) expect(swarm.serialised(joiner)).toEqual(swarm.serialised())
      }
      expect(method.parameters(joiner.state).every(Number.isFinite)).toBe(true)
    })

    test('goes on with any of the contributions', () => {
      fc.assert(
        fc.property(
          fc.array(fc.subarray([0, 1, 2, 3], { minLength: 1 }), { minLength: 1, maxLength: 5 }),
          (rounds) => {
            const swarm = new ToySwarm(make(), { peers: 4 })
            rounds.forEach((contributors, i) => {
              swarm.round({ round: i + 1, contributors, learningRate })
            })
            for (const peer of swarm.peers) {
              expect(swarm.method.parameters(peer.state).every(Number.isFinite)).toBe(true)
              if (swarm.method.replicated) expect(swarm.serialised(peer)).toEqual(swarm.serialised())
            }
          },
        ),
        { numRuns: 15 },
      )
    })

    test('goes on when a peer’s update was not accepted and its memory stays', () => {
      const swarm = trained(2)
      const peer = swarm.peers[1]!
      const { local } = peer
      swarm.contribute(peer, { round: 3 })
      peer.local = local
      swarm.round({ round: 3, contributors: [0, 2], learningRate })
      swarm.round({ round: 4, learningRate })
      expect(swarm.method.parameters(peer.state).every(Number.isFinite)).toBe(true)
    })

    test('merges in the order given: another order differs by rounding alone', () => {
      const swarm = trained(2)
      const contributors = [0, 1, 2]
      const sent = contributors.map((i) => swarm.contribute(swarm.peers[i]!, { round: 3, learningRate }))
      const contributions = swarm.contributionsOf(sent, contributors)
      const merge = (order: typeof contributions): Float32Array =>
        swarm.method.parameters(
          swarm.method.merge(swarm.peers[0]!.state, order, swarm.context({ round: 3, learningRate })),
        )
      const given = merge(contributions)
      const turned = merge(contributions.toReversed())
      const largest = given.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
      for (let i = 0; i < given.length; i++) {
        expect(Math.abs(given[i]! - turned[i]!)).toBeLessThanOrEqual(orderTolerance * largest)
      }
    })

    test('clips nothing where all contributions are equally long', () => {
      const swarm = trained(2)
      const bytes = swarm.contribute(swarm.peers[0]!, { round: 3, learningRate })
      const contributions = swarm.contributionsOf([bytes, bytes, bytes], [0, 1, 2])
      const merge = (clipToMedianNorm: boolean): Uint8Array => {
        const context = swarm.context({ round: 3, clipToMedianNorm, learningRate })
        return joinPieces(
          swarm.method.serialiseState(swarm.method.merge(swarm.peers[0]!.state, contributions, context)),
        )
      }
      expect(merge(true)).toEqual(merge(false))
    })

    test('keeps updates, states and memories within the sizes that it states', () => {
      const swarm = trained(3)
      const { method } = swarm
      for (const bytes of swarm.sent) {
        expect(bytes.byteLength).toBeLessThanOrEqual(method.maximumUpdateBytes(layout))
        expect(method.updateNorm(method.decodeUpdate(bytes, layout))).toBeGreaterThan(0)
      }
      expect(swarm.serialised().byteLength).toBe(method.stateBytes(layout))
    })

    test('has no part in where bytes lie in memory', () => {
      const swarm = trained(1)
      const { method } = swarm
      const shifted = (bytes: Uint8Array): Uint8Array => {
        const copy = new Uint8Array(bytes.byteLength + 3).subarray(3)
        copy.set(bytes)
        return copy
      }
      const bytes = swarm.contribute(swarm.peers[0]!, { round: 2, learningRate })
      const state = shifted(swarm.serialised())
      const merged = [bytes, shifted(bytes)].map((from) => {
        const contributions = swarm.contributionsOf([from], [0])
        const context = swarm.context({ round: 2, learningRate })
        return joinPieces(
          method.serialiseState(method.merge(method.parseState(state, layout), contributions, context)),
        )
      })
      expect(merged[1]).toEqual(merged[0])
    })

    test('refuses hostile updates, or merges them into something finite', () => {
      const swarm = trained(2)
      const { method } = swarm
      const genuine = swarm.sent[0]!
      const size = method.maximumUpdateBytes(layout)
      const hostile = fc.oneof(
        fc.uint8Array({ maxLength: 64 }),
        fc.nat(genuine.byteLength - 1).map((length) => genuine.slice(0, length)),
        fc.integer({ min: 1, max: 40 }).map((extra) => {
          const longer = new Uint8Array(genuine.byteLength + extra)
          longer.set(genuine)
          return longer
        }),
        fc.constant(new Uint8Array(size + 1)),
        fc
          .uint8Array({ minLength: genuine.byteLength - 12, maxLength: genuine.byteLength - 12 })
          .map((noise) => Uint8Array.from([...genuine.subarray(0, 12), ...noise])),
        fc
          .array(fc.tuple(fc.nat(genuine.byteLength - 1), fc.nat(255)), { minLength: 1, maxLength: 40 })
          .map((changes) => {
            const bytes = genuine.slice()
            for (const [at, value] of changes) bytes[at] = value
            return bytes
          }),
      )
      const { state } = swarm.peers[0]!
      const honest = swarm.contributionsOf(swarm.sent.slice(1), [1, 2])
      fc.assert(
        fc.property(hostile, (bytes) => {
          let update: unknown
          try {
            update = method.decodeUpdate(bytes, layout)
          } catch (error) {
            expect(error).toMatchObject({ code: 'sync/invalid-update' })
            return
          }
          expect(method.updateNorm(update)).toBeGreaterThanOrEqual(0)
          const contributions = [{ peer: 'peer 0', update, weight: 1 }, ...honest]
          for (const clipToMedianNorm of [false, true]) {
            const context = swarm.context({ round: 3, clipToMedianNorm, learningRate })
            const merged = method.merge(state, contributions, context)
            expect(method.parameters(merged).every(Number.isFinite)).toBe(true)
            method.parseState(joinPieces(method.serialiseState(merged)), layout)
          }
        }),
        { numRuns: 200 },
      )
    })

    test('refuses an update of another method', () => {
      const swarm = trained(1)
      const bytes = swarm.sent[0]!.slice()
      bytes[6] = 255
      expect(() => swarm.method.decodeUpdate(bytes, layout)).toThrow(
        expect.objectContaining({ code: 'sync/invalid-update' }),
      )
    })

    test.each([Number.NaN, Number.POSITIVE_INFINITY, 1e30])('refuses to send %f', (value) => {
      const swarm = trained(1)
      const { state, local } = swarm.peers[0]!
      const values = normals(layout.totalSize, 0.1, 'values')
      for (const { offset, size } of layout.entries) values[offset + size - 1] = value
      expect(() =>
        swarm.method.encodeUpdate({ state, local, round: 2, values, learningRate }, layout),
      ).toThrow(expect.objectContaining({ code: 'sync/diverged' }))
    })

    test('refuses states and memories of another size or that are not finite', () => {
      const swarm = trained(1)
      const { method } = swarm
      const refused = expect.objectContaining({ code: 'sync/invalid-state' })
      const state = swarm.serialised()
      const local = joinPieces(method.serialiseLocal(swarm.peers[0]!.local))
      expect(() => method.parseState(state.subarray(1), layout)).toThrow(refused)
      expect(() => method.parseState(new Uint8Array([...state, 0]), layout)).toThrow(refused)
      expect(() => method.parseState(new Uint8Array(0), layout)).toThrow(refused)
      expect(() => method.parseLocal(new Uint8Array([...local, 0]), layout)).toThrow(refused)
      const view = new DataView(state.buffer, state.byteOffset)
      view.setFloat32(state.byteLength - 4, Number.NaN, true)
      expect(() => method.parseState(state, layout)).toThrow(refused)
    })
  })
}
