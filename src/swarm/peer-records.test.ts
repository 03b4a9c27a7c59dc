import type { Libp2p } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { expect, test } from 'vitest'
import { identityFromSeed } from './identity.ts'
import { libp2pTransport } from './libp2p-transport.ts'
import { peerIdOf } from './peer-id.ts'
import { boundPeerRecords } from './peer-records.ts'

test('of those who have gone the ones written last are remembered, and of those who are there all', async () => {
  const node = await createLibp2p({ start: false })
  const peers = Array.from({ length: 60 }, (_, n) =>
    peerIdFromString(peerIdOf(new Uint8Array(32).fill(n + 1))),
  )
  const connected = peers.slice(0, 5)
  boundPeerRecords(
    {
      addEventListener: node.addEventListener.bind(node),
      peerStore: node.peerStore,
      getConnections: (peer) => (connected.some((each) => each === peer) ? ([{}] as never) : []),
    },
    20,
  )
  for (const peer of peers)
    await node.peerStore.merge(peer, { multiaddrs: [multiaddr('/ip4/203.0.113.1/tcp/4001')] })
  await new Promise(setImmediate)
  const kept = new Set((await node.peerStore.all()).map(({ id }) => id.toString()))
  const expected = [...connected, ...peers.slice(-15)]
  expect(kept).toEqual(new Set(expected.map(String)))
})

test('a node remembers no more of many identities that came and went than it is told to', async () => {
  const identity = (n: number) => identityFromSeed(new Uint8Array(32).fill(n))
  const host = await libp2pTransport({
    identity: identity(1),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    limits: { maxConnections: 4, maxRemembered: 2 },
  })
  try {
    for (let n = 2; n < 14; n++) {
      const peer = await libp2pTransport({ identity: identity(n) })
      await peer.dial(host.addresses[0]!)
      await peer.stop()
    }
    const { peerStore } = (host as unknown as { node: Libp2p }).node
    // What was told last may still be on its way into the store.
    await expect.poll(async () => (await peerStore.all()).length).toBeLessThanOrEqual(6)
  } finally {
    await host.stop()
  }
})
