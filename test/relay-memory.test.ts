/** What a relay hands on to a peer that does not read is bounded, whatever was asked for through it. */
import { CID } from 'multiformats/cid'
import { expect, test } from 'vitest'
import { seededRandom } from '../src/core/index.ts'
import {
  chunkProtocol,
  type Identity,
  identityFromSeed,
  libp2pTransport,
  memoryBlobs,
  serveBlobs,
  startRelay,
} from '../src/swarm/index.ts'
import { startProxy } from './proxy.ts'

const mebibyte = 1024 * 1024

function identityOf(name: string): Identity {
  const random = seededRandom('relay memory', name)
  return identityFromSeed(Uint8Array.from({ length: 32 }, () => random.nextInt(256)))
}

test('a relay hands on no more than a few megabytes to a reader that has stopped', async () => {
  await using stack = new AsyncDisposableStack()
  const relay = await startRelay({ identity: identityOf('relay'), listen: ['/ip4/127.0.0.1/tcp/0'] })
  stack.defer(() => relay.stop())
  const [address] = relay.addresses
  const port = Number(/tcp\/(\d+)/.exec(address!)![1])
  const proxy = stack.use(await startProxy({ target: { port }, maxBytesUnderWay: mebibyte }))
  const host = await libp2pTransport({ identity: identityOf('host'), relays: [address!] })
  stack.defer(() => host.stop())
  const blobs = memoryBlobs()
  const cid = CID.parse(await blobs.put(new Uint8Array(mebibyte).fill(5))).bytes
  serveBlobs(host, blobs)
  const reader = await libp2pTransport({ identity: identityOf('reader') })
  stack.defer(() => reader.stop())
  await reader.dial(host.addresses[0]!.replace(`/tcp/${port}/`, `/tcp/${proxy.port}/`))
  const ask = (): Promise<Uint8Array> =>
    reader.request(host.self, chunkProtocol, cid, { maxReplyBytes: mebibyte })
  await ask()

  let asked = 0
  const settled: Promise<unknown>[] = []
  const before = relay.status().relayedBytes
  // The line stops when the first of the bytes are here, so that the requests have gone out.
  for (let i = 0; i < 32; i++)
    settled.push(
      ask().then(
        () => asked++,
        () => undefined,
      ),
    )
  await expect.poll(() => relay.status().relayedBytes - before, { timeout: 20_000 }).toBeGreaterThan(mebibyte)
  const passed = relay.status().relayedBytes
  proxy.stall()
  // Until nothing moves any more.
  let last = -1
  await expect
    .poll(
      () => {
        const still = relay.status().relayedBytes === last
        last = relay.status().relayedBytes
        return still
      },
      { interval: 500, timeout: 20_000 },
    )
    .toBe(true)
  // A window and a write buffer on the way out, and what sockets and the line hold: not the 32 MiB asked for.
  expect(last - passed).toBeLessThan(16 * mebibyte)
  expect(asked).toBeLessThan(32)
  proxy.cut()
  await Promise.all(settled)
})
