import { generateKeyPair } from '@libp2p/crypto/keys'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p, type Libp2p } from 'libp2p'
import { afterEach, describe, expect, test } from 'vitest'
import { overriding } from './overriding.ts'
import { sparingNoise } from './sparing-noise.ts'

const protocol = '/groundswell/test/1'
/** Frames of up to 65,535 bytes, which arrive in pieces of as much as the socket had. */
const content = Uint8Array.from({ length: 1_000_003 }, (_, i) => (i * 31) >> 3)

const nodes: Libp2p[] = []
afterEach(async () => {
  for (const node of nodes.splice(0)) await node.stop()
})

async function running(encrypter: ReturnType<typeof noise>): Promise<Libp2p> {
  const node = await createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [encrypter],
    streamMuxers: [yamux()],
  })
  nodes.push(node)
  return node
}

/** What comes when the other one sends `content`. */
async function received(from: Libp2p, to: Libp2p): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>()
  await to.handle(protocol, async (stream) => {
    const pieces: Uint8Array[] = []
    for await (const data of stream) pieces.push(data.subarray())
    resolve(Buffer.concat(pieces))
  })
  const stream = await from.dialProtocol(to.getMultiaddrs(), protocol)
  for (let at = 0; at < content.length; at += 100_000) {
    if (!stream.send(content.subarray(at, at + 100_000))) {
      await new Promise((drained) => stream.addEventListener('drain', drained, { once: true }))
    }
  }
  await stream.close()
  return promise
}

describe('noise without a copy of what comes', () => {
  test('says what the library’s own says', async () => {
    const [sparing, plain] = [await running(sparingNoise()), await running(noise())]
    for (const [from, to] of [
      [sparing, plain],
      [plain, sparing],
    ] as const) {
      expect(Buffer.compare(await received(from, to), content)).toBe(0)
    }
  })

  test('the library still decrypts where its frames are handed over', async () => {
    const secured: object[] = []
    const watched: ReturnType<typeof noise> = (components) => {
      const encrypter = sparingNoise()(components)
      const secureInbound = encrypter.secureInbound.bind(encrypter)
      return overriding(encrypter, {
        secureInbound: async (...given) => {
          const result = await secureInbound(...given)
          secured.push(result.connection)
          return result
        },
      })
    }
    const [from, to] = [await running(noise()), await running(watched)]
    expect(Buffer.compare(await received(from, to), content)).toBe(0)
    expect(secured).toHaveLength(1)
    expect(Object.hasOwn(secured[0]!, 'decrypt')).toBe(true)
  })
})
