import { expect, test, vi } from 'vitest'
import { systemClock } from '../core/index.ts'
import {
  connectionLimits,
  MemoryNetwork,
  memoryBlobs,
  memoryTransport,
  messageProtocol,
  transportLimits,
} from '../swarm/index.ts'
import { openHost } from './host.ts'
import { memoryLog } from './log.ts'
import { defaultVanishAfterMs, hostPlaces, roundPolicySchema } from './policy.ts'
import { identityNumbered, toyManifest } from './swarm-fixture.ts'

test('a larger model may keep its peers silent for longer, an hour at most, and the policy allows it', () => {
  expect(defaultVanishAfterMs(0)).toBe(15_000)
  expect(defaultVanishAfterMs(85_330_176)).toBe(15_000 + 17_066)
  expect(defaultVanishAfterMs(1e12)).toBe(3_600_000)
  for (const parameters of [0, 3_295_488, 1e12]) {
    const vanishAfterMs = defaultVanishAfterMs(parameters)
    expect(roundPolicySchema.parse({ rounds: 1, vanishAfterMs }).vanishAfterMs).toBe(vanishAfterMs)
  }
})

test('a host has room for every peer that its run may take, and for others', () => {
  for (const maximumPeers of [1, 256, 1000, 10_000]) {
    const { connections, messages } = hostPlaces(maximumPeers)
    expect(connections).toBeGreaterThanOrEqual(maximumPeers + 256)
    // Of each one `watch` waits, and something else may be said.
    expect(messages).toBeGreaterThanOrEqual(2 * maximumPeers)
  }
  // What a transport has anyway is enough for the run that nobody thought about.
  const usual = hostPlaces(roundPolicySchema.parse({ rounds: 1 }).maximumPeers)
  expect(usual.connections).toBeLessThanOrEqual(connectionLimits.maxConnections)
  expect(usual.messages).toBeLessThanOrEqual(transportLimits.maxConcurrent)
})

test('a host takes as many messages at a time as its run may have peers that watch, and more', async () => {
  const blobs = memoryBlobs()
  const manifest = await toyManifest(blobs, { rounds: { maximumPeers: 5000 } })
  const { peerId, signer } = identityNumbered(100)
  const transport = memoryTransport({ self: peerId, network: new MemoryNetwork() })
  const handle = vi.spyOn(transport, 'handle')
  await using _host = await openHost({
    ...{ manifest, transport, signer, blobs, log: memoryLog(), clock: systemClock() },
    ...{ session: new Uint8Array(16), seed: 'toy' },
  })
  const maxConcurrent = hostPlaces(5000).messages
  expect(handle).toHaveBeenCalledWith(
    messageProtocol,
    expect.anything(),
    expect.objectContaining({ maxConcurrent }),
  )
})
