import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Scratch, scratch } from '../../../test/cli-process.ts'
import { llamaConfig } from '../../model/index.ts'
import { encodeRunManifest, nodeFiles } from '../../run/index.ts'
import { exampleManifest } from '../../run/swarm-fixture.ts'
import {
  encodeJoinLink,
  identityFromSeed,
  libp2pTransport,
  memoryBlobs,
  serveBlobs,
  type Transport,
} from '../../swarm/index.ts'
import { join } from './join.ts'

let folder: Scratch
let host: Transport
beforeEach(async () => {
  folder = await scratch()
  host = await libp2pTransport({
    identity: identityFromSeed(new Uint8Array(32).fill(9)),
    listen: ['/ip4/127.0.0.1/tcp/0'],
  })
})
afterEach(async () => {
  await host.stop()
  await folder[Symbol.asyncDispose]()
})

test('a run whose model cannot fit is refused when its manifest has come, and not joined', async () => {
  const model = llamaConfig({
    ...{ vocabularySize: 32_000, hiddenSize: 65_536, intermediateSize: 262_144, layers: 1000 },
    attentionHeads: 512,
  })
  const blobs = memoryBlobs()
  const manifest = encodeRunManifest({ ...(await exampleManifest()), model })
  const runId = await blobs.put(manifest, { codec: 'dag-cbor' })
  serveBlobs(host, blobs) // it answers nothing else, so that whoever joined would hear that it does not know how
  const link = encodeJoinLink({ runId, host: host.self, addresses: host.addresses })
  const output = {
    ...{ json: false, interactive: false, event: () => {}, line: () => {}, text: () => {} },
    ...{ note: () => {}, redraw: () => {}, settle: () => {} },
  }
  const context = { output, files: nodeFiles(), signal: new AbortController().signal }
  const joined = join({ ...context, workingFolder: folder.path }, link, { backend: 'cpu', threads: 1 })
  await expect(joined).rejects.toMatchObject({
    code: 'model/too-large',
    message: expect.stringMatching(/^A model of .* parameters needs .* of memory/),
    remedy: expect.stringContaining('--backend cuda or webgpu'),
  })
  const { sentBytes } = host.ledger.total()
  expect(sentBytes).toBeLessThan(manifest.byteLength + 1024)
})
