import { describe, expect, test } from 'vitest'
import { cidOf, VirtualClock } from '../core/index.ts'
import { MemoryNetwork, memoryTransport } from '../swarm/index.ts'
import { HostClient } from './host-client.ts'
import { identityNumbered } from './swarm-fixture.ts'

const never = { delayMs: { min: 1e9, max: 1e9 } }

async function onlooker(faults: MemoryNetwork['faults'], hostIsThere = true) {
  const clock = new VirtualClock()
  const network = new MemoryNetwork({ clock, faults })
  const [host, self] = [identityNumbered(1), identityNumbered(2)]
  if (hostIsThere) memoryTransport({ self: host.peerId, network })
  const client = new HostClient({
    link: { runId: await cidOf(new Uint8Array(1)), host: host.peerId, addresses: [`/p2p/${host.peerId}`] },
    transport: memoryTransport({ self: self.peerId, network }),
    ...{ signer: self.signer, clock, session: new Uint8Array(16) },
  })
  return { clock, network, client }
}

describe('whoever asks a host', () => {
  test('waits for one that keeps silent for a while, as one does that is merging a large model', async () => {
    const { clock, network, client } = await onlooker(never)
    const connected = client.connect()
    await clock.advance(12_000)
    network.faults = {}
    await clock.advance(5_000)
    await expect(connected).resolves.toBeUndefined()
  })

  test('hears after 20 seconds that nobody answers', async () => {
    const { clock, client } = await onlooker(never)
    const outcome = client.connect().catch((thrown: unknown) => thrown)
    await clock.advance(20_000)
    expect(await outcome).toMatchObject({ code: 'join/unreachable' })
  })

  test('hears at once where nobody is', async () => {
    const { clock, client } = await onlooker({}, false)
    await expect(client.connect()).rejects.toMatchObject({ code: 'join/unreachable' })
    expect(clock.steady()).toBe(0)
  })
})
