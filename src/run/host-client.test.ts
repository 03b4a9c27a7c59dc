import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { cidOf, GroundswellError, VirtualClock } from '../core/index.ts'
import { MemoryNetwork, memoryTransport, signedMessages } from '../swarm/index.ts'
import { HostClient } from './host-client.ts'
import { identityNumbered } from './swarm-fixture.ts'

const never = { delayMs: { min: 1e9, max: 1e9 } }

async function onlooker(
  faults: MemoryNetwork['faults'],
  hostIsThere = true,
  answer: () => Promise<unknown> = async () => null,
) {
  const clock = new VirtualClock()
  const network = new MemoryNetwork({ clock, faults })
  const [host, self] = [identityNumbered(1), identityNumbered(2)]
  const runId = await cidOf(new Uint8Array(1))
  let stopHost = async (): Promise<void> => {}
  if (hostIsThere) {
    const transport = memoryTransport({ self: host.peerId, network })
    stopHost = () => transport.stop()
    const answering = { transport, signer: host.signer, runId, clock, session: new Uint8Array(16) }
    signedMessages(answering).handleSigned('ledger', { body: z.unknown(), answer })
  }
  const client = new HostClient({
    link: { runId, host: host.peerId, addresses: [`/p2p/${host.peerId}`] },
    transport: memoryTransport({ self: self.peerId, network }),
    ...{ signer: self.signer, clock, session: new Uint8Array(16) },
  })
  return { clock, network, client, stopHost }
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

  test('asks anew over another connection when one breaks, and hears in words when nobody is there any more', async () => {
    const page = { entries: [], next: 0, length: 0 }
    const { network, client, stopHost } = await onlooker({ cutReply: 1 }, true, async () => {
      network.faults = {}
      return page
    })
    await client.connect()
    expect(await client.ledger({ from: 0 })).toEqual(page)
    await stopHost()
    await expect(client.ledger({ from: 0 })).rejects.toMatchObject({
      code: 'join/unreachable',
      message: expect.stringMatching(/^Nobody answers/),
    })
  })

  test('waits for its turn when a host is asked too much, and is told so after a minute', async () => {
    let left = 3
    const answer = async (): Promise<unknown> => {
      if (left-- > 0) throw new GroundswellError('Too much.', { code: 'question/too-many' })
      return { entries: [], next: 0, length: 0 }
    }
    const { clock, client } = await onlooker({}, true, answer)
    await client.connect()
    const asked = async (): Promise<unknown> => {
      let outcome: unknown
      const asking = client.ledger({ from: 0 }).then(
        (page) => (outcome = page),
        (thrown: unknown) => (outcome = thrown),
      )
      for (let second = 0; second < 70 && outcome === undefined; second++) {
        await new Promise(setImmediate)
        await clock.advance(1000)
      }
      return asking
    }
    expect(await asked()).toEqual({ entries: [], next: 0, length: 0 })
    left = 1000
    expect(await asked()).toMatchObject({ remoteCode: 'question/too-many' })
  })
})
