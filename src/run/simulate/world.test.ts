import { expect, test } from 'vitest'
import { seededRandom } from '../../core/index.ts'
import { createSyncMethod, syncSettingsSchema } from '../../sync/index.ts'
import { costsOfParameters } from './costs.ts'
import { equalPeers } from './training.ts'
import { createPeers, drawSession, noChurn, outages } from './world.ts'

const plain = (peers: number) =>
  createPeers({ ...equalPeers, peers, speedSpread: 9, linkSpread: 4, stepMs: 500 }, 'seed').map(
    ({ random, ...traits }) => ({ ...traits, first: random.nextUint32() }),
  )

test('one peer more changes nothing about the others', () => {
  expect(plain(21).slice(0, 20)).toEqual(plain(20))
})

test('speeds and lines lie within their spread around the middle, and the names differ', () => {
  const peers = plain(500)
  for (const { stepsPerSecond, upBytesPerSecond } of peers) {
    expect(stepsPerSecond).toBeGreaterThanOrEqual(2 / 3)
    expect(stepsPerSecond).toBeLessThanOrEqual(2 * 3)
    expect(upBytesPerSecond).toBeGreaterThanOrEqual(0.5 * equalPeers.upBytesPerSecond)
    expect(upBytesPerSecond).toBeLessThanOrEqual(2 * equalPeers.upBytesPerSecond)
  }
  const sorted = peers.map(({ stepsPerSecond }) => stepsPerSecond).toSorted((a, b) => a - b)
  expect(sorted[250]! / 2).toBeGreaterThan(0.8)
  expect(sorted[250]! / 2).toBeLessThan(1.25)
  expect(new Set(peers.map(({ id }) => id)).size).toBe(500)
})

test('sessions last as long as they should on average, and end in their shares', () => {
  const random = seededRandom('sessions')
  const churn = { ...noChurn, sessionMs: 1000, crashShare: 0.5, sleepShare: 0.3 }
  const drawn = Array.from({ length: 4000 }, () => drawSession(churn, random))
  const mean = drawn.reduce((sum, { afterMs }) => sum + afterMs, 0) / drawn.length
  expect(mean / 1000).toBeGreaterThan(0.9)
  expect(mean / 1000).toBeLessThan(1.1)
  const share = (how: string): number => drawn.filter((each) => each.how === how).length / drawn.length
  expect(share('crash')).toBeCloseTo(0.5, 1)
  expect(share('sleep')).toBeCloseTo(0.3, 1)
  expect(share('leave')).toBeCloseTo(0.2, 1)
})

test('an outage takes neighbours, and there is none unless asked for', () => {
  const world = { ...equalPeers, peers: 10 }
  expect(outages({ ...world, churn: noChurn }, 'seed').next().done).toBe(true)
  const upcoming = outages({ ...world, churn: { ...noChurn, outageEveryMs: 1000, outageShare: 0.3 } }, 'seed')
  let before = 0
  for (let i = 0; i < 20; i++) {
    const { atMs, peers } = upcoming.next().value as { atMs: number; peers: readonly number[] }
    expect(atMs).toBeGreaterThan(before)
    before = atMs
    expect(peers).toEqual([peers[0], (peers[0]! + 1) % 10, (peers[0]! + 2) % 10])
  }
})

test('updates of a model that need not exist have the size that the method gives them', () => {
  const bytesOf = (settings: object): number =>
    costsOfParameters(createSyncMethod(syncSettingsSchema.parse(settings)), 1e9).updateBytes / 1e9
  expect(bytesOf({ method: 'diloco', encoding: 'float32' })).toBeCloseTo(4, 3)
  expect(bytesOf({ method: 'diloco', encoding: 'int8' })).toBeCloseTo(1, 2)
  expect(bytesOf({ method: 'sparse-loco' })).toBeLessThan(0.1)
})
