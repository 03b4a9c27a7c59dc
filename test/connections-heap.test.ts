/** A node that others come to and leave for days keeps nothing of them. */
import { expect, test } from 'vitest'
import { identityFromSeed, libp2pTransport } from '../src/swarm/index.ts'
import { heldBytes } from './held-bytes.ts'

const mebibyte = 1024 * 1024
const protocol = '/groundswell/echo/1'

test('1000 peers that come, ask and go leave the heap as it was', async () => {
  await using stack = new AsyncDisposableStack()
  const host = await libp2pTransport({
    identity: identityFromSeed(new Uint8Array(32).fill(1)),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    limits: { maxConnectionsPerSecond: 1_000_000 },
  })
  stack.defer(() => host.stop())
  host.handle(protocol, ({ bytes }) => bytes)
  const cycle = async (): Promise<void> => {
    // The same identity, so that what is remembered of peers, which has bounds of its own, is no part of it.
    const peer = await libp2pTransport({ identity: identityFromSeed(new Uint8Array(32).fill(2)) })
    try {
      await peer.dial(host.addresses[0]!)
      await peer.request(host.self, protocol, Uint8Array.of(1), { maxReplyBytes: 1 })
    } finally {
      await peer.stop()
    }
  }
  for (let i = 0; i < 200; i++) await cycle()
  const before = await heldBytes()
  for (let i = 0; i < 1000; i++) await cycle()
  // 4 KiB of each would be 4 MiB.
  expect((await heldBytes()) - before).toBeLessThan(4 * mebibyte)
})
