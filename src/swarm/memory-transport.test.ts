import { beforeEach, describe, expect, test } from 'vitest'
import { VirtualClock } from '../core/index.ts'
import { MemoryNetwork, memoryTransport } from './memory-transport.ts'
import type { ProtocolId, Transport } from './transport.ts'
import { identityOf, runTransportSuite } from './transport-suite.ts'

let network = new MemoryNetwork()
beforeEach(() => {
  network = new MemoryNetwork()
})

runTransportSuite({
  name: 'memory',
  make: async ({ peerId }, options) => memoryTransport({ self: peerId, network, ...options }),
})

const echo: ProtocolId = '/groundswell/echo/1'
const options = { maxReplyBytes: 100 }

/** What became of 60 requests, as one letter each. */
async function outcomes(seed: number, faults: MemoryNetwork['faults']): Promise<string> {
  const clock = new VirtualClock()
  const net = new MemoryNetwork({ seed, faults, clock })
  const [ada, bob] = ['ada', 'bob'].map((who) => join(who, net)) as [Transport, Transport]
  await ada.dial(bob.addresses[0]!)
  let handled = 0
  bob.handle(echo, ({ bytes }) => {
    handled += 1
    return bytes
  })
  let letters = ''
  for (let i = 0; i < 60; i++) {
    const before = handled
    const asked = ada.request(bob.self, echo, Uint8Array.of(i), { ...options, timeoutMs: 1000 })
    const ended = asked.then(
      () => 'answered',
      (thrown: { code: string }) => thrown.code,
    )
    for (let turn = 0; turn < 20; turn++) await Promise.resolve()
    await clock.advance(3000)
    const code = await ended
    letters += code === 'answered' ? '.' : code === 'peer/timeout' ? 'L' : handled === before ? 'Q' : 'R'
  }
  return letters
}

function join(who: string, net: MemoryNetwork): Transport {
  return memoryTransport({ self: identityOf(who).peerId, network: net })
}

describe('faults of the network in memory', () => {
  const faults = { lose: 0.1, cutRequest: 0.1, cutReply: 0.1 }

  test('requests get lost, and break before or after the handler has acted', async () => {
    const letters = await outcomes(1, faults)
    for (const letter of '.LQR') expect(letters).toContain(letter)
  })

  test('the same seed meets the same faults, another seed others', async () => {
    const first = await outcomes(1, faults)
    expect(await outcomes(1, faults)).toBe(first)
    expect(await outcomes(2, faults)).not.toBe(first)
  })

  test('raising one probability spares nobody whom another has hit', async () => {
    const few = await outcomes(1, { lose: 0.1 })
    const more = await outcomes(1, { lose: 0.3 })
    for (const [i, letter] of few.split('').entries()) if (letter === 'L') expect(more[i]).toBe('L')
    expect(more.split('L').length).toBeGreaterThan(few.split('L').length)
  })

  test('a delay takes its time in each direction on the clock, which may be virtual', async () => {
    const clock = new VirtualClock()
    const net = new MemoryNetwork({ clock, faults: { delayMs: { min: 100, max: 100 } } })
    const [ada, bob] = [join('ada', net), join('bob', net)]
    const dialled = ada.dial(bob.addresses[0]!)
    await clock.advance(100)
    await dialled
    bob.handle(echo, ({ bytes }) => bytes)
    let answeredAt = 0
    const asked = ada
      .request(bob.self, echo, new Uint8Array(), options)
      .then(() => (answeredAt = clock.now()))
    await clock.advance(199)
    expect(answeredAt).toBe(0)
    for (let step = 0; step < 300 && answeredAt === 0; step++) await clock.advance(1)
    await asked
    expect(answeredAt).toBeGreaterThanOrEqual(300)
  })

  test('peers on different sides of a partition do not reach each other until it heals', async () => {
    const net = new MemoryNetwork()
    const [ada, bob, eve] = ['ada', 'bob', 'eve'].map((who) => join(who, net)) as [
      Transport,
      Transport,
      Transport,
    ]
    for (const peer of [bob, eve]) {
      peer.handle(echo, ({ bytes }) => bytes)
      await ada.dial(peer.addresses[0]!)
    }
    net.partition([ada.self, bob.self])
    const ask = (peer: Transport): Promise<Uint8Array> =>
      ada.request(peer.self, echo, Uint8Array.of(7), options)
    await expect(ask(bob)).resolves.toEqual(Uint8Array.of(7))
    await expect(ask(eve)).rejects.toMatchObject({ code: 'peer/unreachable' })
    net.heal()
    await expect(ask(eve)).resolves.toEqual(Uint8Array.of(7))
  })

  test('a peer that restarts is found again', async () => {
    const net = new MemoryNetwork()
    const [ada, bob] = [join('ada', net), join('bob', net)]
    await ada.dial(bob.addresses[0]!)
    await bob.stop()
    const again = join('bob', net)
    again.handle(echo, ({ bytes }) => bytes)
    await expect(ada.request(bob.self, echo, Uint8Array.of(7), options)).resolves.toEqual(Uint8Array.of(7))
  })
})
