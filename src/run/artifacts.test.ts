import { mkdtemp, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import {
  artifactBlobs,
  chunkBytes,
  fileBlobs,
  MemoryNetwork,
  memoryBlobs,
  memoryTransport,
  putArtifact,
  serveBlobs,
} from '../swarm/index.ts'
import { obtainArtifact } from './artifacts.ts'
import { identityNumbered } from './swarm-fixture.ts'

const folder = await mkdtemp(join(tmpdir(), 'groundswell-artifacts-'))
afterAll(() => rm(folder, { recursive: true }))

test('an artifact that a power failure left full of empty files is fetched anew, in one go', async () => {
  const network = new MemoryNetwork()
  const [source, transport] = [1, 2].map((n) =>
    memoryTransport({ self: identityNumbered(n).peerId, network }),
  ) as [ReturnType<typeof memoryTransport>, ReturnType<typeof memoryTransport>]
  const theirs = memoryBlobs()
  const asked: string[] = []
  serveBlobs(source, {
    ...theirs,
    get: (cid) => {
      asked.push(cid)
      return theirs.get(cid)
    },
  })
  await transport.dial(source.addresses[0]!)
  const bytes = Uint8Array.from({ length: 3 * chunkBytes }, (_, i) => i >> 16)
  const maxBytes = bytes.byteLength
  const root = await putArtifact(theirs, bytes)
  const obtain = async (): Promise<Uint8Array> => {
    const blobs = await fileBlobs(folder, { durable: false })
    return obtainArtifact({ transport, blobs, root, sources: [source.self], maxBytes })
  }
  await obtain()
  const parts = await artifactBlobs(theirs, root, { maxBytes })
  for (const cid of parts) await truncate(join(folder, cid.slice(-2), cid), 0)
  asked.length = 0
  expect(Buffer.compare(await obtain(), bytes)).toBe(0)
  expect(asked.toSorted()).toEqual(parts.toSorted())
  await source.stop()
  expect(Buffer.compare(await obtain(), bytes)).toBe(0)
})
