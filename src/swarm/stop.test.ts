/** A process that has stopped its transports ends by itself: no socket and no timer keeps it alive. */
import { spawn } from 'node:child_process'
import { expect, test } from 'vitest'

const script = `
import { fetchArtifact, identityFromSeed, libp2pTransport, memoryBlobs, putArtifact, serveBlobs } from './src/swarm/index.ts'

const start = (byte, listen) =>
  libp2pTransport({ identity: identityFromSeed(new Uint8Array(32).fill(byte)), listen })
const host = await start(1, ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws'])
const [one, two] = [await start(2), await start(3)]
const stored = memoryBlobs()
const root = await putArtifact(stored, new Uint8Array(5e6))
serveBlobs(host, stored)
host.handle('/groundswell/poll/1', () => new Promise(() => undefined))
for (const [i, peer] of [one, two].entries()) {
  await peer.dial(host.addresses[i])
  await fetchArtifact({ root, sources: [host.self], transport: peer, blobs: memoryBlobs(), maxBytes: 5e6 })
  peer.request(host.self, '/groundswell/poll/1', new Uint8Array(), { maxReplyBytes: 1 }).catch(() => undefined)
}
await one.stop()
await Promise.all([host.stop(), two.stop()])
console.log('stopped')
`

test('a process ends after its transports have stopped, whatever was under way', async () => {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (data: Buffer) => (output += data))
  const code = await new Promise((resolve) => child.on('exit', resolve))
  expect({ code, output }).toEqual({ code: 0, output: 'stopped\n' })
})
