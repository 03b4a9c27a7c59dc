import { createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { afterEach, describe, expect, test } from 'vitest'
import { libp2pTransport } from './libp2p-transport.ts'
import type { ProtocolId, Transport } from './transport.ts'
import { identityOf, runTransportSuite } from './transport-suite.ts'

const listening = { tcp: '/ip4/127.0.0.1/tcp/0', webSocket: '/ip4/127.0.0.1/tcp/0/ws' }

runTransportSuite({
  name: 'libp2p over TCP',
  make: (identity, options) => libp2pTransport({ identity, listen: [listening.tcp], ...options }),
})

runTransportSuite({
  name: 'libp2p over WebSockets',
  make: (identity, options) => libp2pTransport({ identity, listen: [listening.webSocket], ...options }),
})

const hasIpv6 = Object.values(networkInterfaces()).some((each) =>
  each?.some(({ address }) => address === '::1'),
)

describe.skipIf(!hasIpv6)('where there is IPv6', () => {
  runTransportSuite({
    name: 'libp2p over TCP and IPv6',
    make: (identity, options) => libp2pTransport({ identity, listen: ['/ip6/::1/tcp/0'], ...options }),
  })
})

const echo: ProtocolId = '/groundswell/echo/1'
const small = { maxReplyBytes: 100 }

describe('libp2p', () => {
  const running: Transport[] = []
  const start = async (who: string, listen?: string[]): Promise<Transport> => {
    const transport = await libp2pTransport({
      identity: identityOf(who),
      ...(listen === undefined ? {} : { listen }),
    })
    running.push(transport)
    return transport
  }
  afterEach(async () => {
    await Promise.all(running.splice(0).map((transport) => transport.stop()))
  })

  test('a node that only dials out is still asked over the connection it made', async () => {
    const [host, trainer] = [await start('host', [listening.tcp]), await start('trainer')]
    expect(trainer.addresses).toEqual([])
    for (const each of [host, trainer]) each.handle(echo, ({ bytes }) => bytes)
    await trainer.dial(host.addresses[0]!)
    await trainer.request(host.self, echo, Uint8Array.of(6), small)
    await expect(host.request(trainer.self, echo, Uint8Array.of(7), small)).resolves.toEqual(Uint8Array.of(7))
  })

  test('a host that was restarted at its address is dialled again by the next request', async () => {
    const host = await start('host', [listening.tcp])
    const trainer = await start('trainer')
    const address = host.addresses[0]!
    await trainer.dial(address)
    await host.stop()
    const again = await start('host', [address.replace(/\/p2p\/.*/, '')])
    again.handle(echo, ({ bytes }) => bytes)
    await expect(trainer.request(host.self, echo, Uint8Array.of(7), small)).resolves.toEqual(Uint8Array.of(7))
  })

  test('another peer at an address is not taken for the one that was meant', async () => {
    const [host, trainer] = [await start('host', [listening.tcp]), await start('trainer')]
    const forged = host.addresses[0]!.replace(host.self, identityOf('somebody').peerId)
    await expect(trainer.dial(forged)).rejects.toMatchObject({ code: 'peer/unreachable' })
  })

  test.each(['tcp', 'ws'])('a port in use is named, with the way out (%s)', async (protocol) => {
    const other = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => other.once('listening', resolve))
    const { port } = other.address() as { port: number }
    try {
      const suffix = protocol === 'ws' ? '/ws' : ''
      await expect(start('host', [`/ip4/127.0.0.1/tcp/${port}${suffix}`])).rejects.toMatchObject({
        code: 'transport/port-in-use',
        message: `Port ${port} is in use by another program.`,
        remedy: expect.stringContaining('another port'),
      })
    } finally {
      other.close()
    }
  })

  test.each([
    ['/ip4/203.0.113.1/tcp/0', 'transport/cannot-listen'],
    ['/ip4/127.0.0.1/udp/4001/quic-v1', 'transport/cannot-listen'],
    ['127.0.0.1:4001', 'peer/invalid-address'],
  ])('an address that cannot be listened on: %s', async (address, code) => {
    await expect(start('host', [address])).rejects.toMatchObject({ code })
  })
})
