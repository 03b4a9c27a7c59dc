/** When a fetch ends that is in vain. */
import { describe, expect, test } from 'vitest'
import { VirtualClock } from '../core/index.ts'
import { chunkBytes, putArtifact } from './artifact.ts'
import { type Blobs, memoryBlobs } from './blobs.ts'
import { fetchArtifact, fetchLimits } from './fetch.ts'
import { MemoryNetwork, memoryTransport } from './memory-transport.ts'
import { chunkProtocol } from './transport.ts'
import { identityOf } from './transport-suite.ts'

/** Virtual seconds until a fetch ends whose only source answers so many questions and then none. */
async function secondsUntilLost(artifact: Uint8Array, answers: number): Promise<number> {
  const clock = new VirtualClock()
  const network = new MemoryNetwork({ clock })
  const [source, transport] = ['source', 'newcomer'].map((who) =>
    memoryTransport({ self: identityOf(who).peerId, network }),
  )
  const stored: Blobs = memoryBlobs()
  const root = await putArtifact(stored, artifact)
  let asked = 0
  source!.handle(chunkProtocol, async () => {
    if (++asked > answers) return new Promise<Uint8Array>(() => undefined)
    return (await stored.get(root))!
  })
  await transport!.dial(source!.addresses[0]!)
  let code: string | undefined
  const init = { transport: transport!, blobs: memoryBlobs(), clock, root, sources: [source!.self] }
  fetchArtifact({ ...init, maxBytes: artifact.byteLength + chunkBytes }).catch((thrown: { code: string }) => {
    code = thrown.code
  })
  while (code === undefined && clock.steady() < 600_000) {
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate)
    await clock.advance(250)
  }
  expect(code).toBe('artifact/unavailable')
  return clock.steady() / 1000
}

describe('a fetch whose only source', () => {
  const patience = fetchLimits.chunkTimeoutMs / 1000

  test('never answers ends when that is lost, also where the question was small and asked again', async () => {
    // Silence is noticed within twice the time that is allowed.
    expect(await secondsUntilLost(new Uint8Array(1000), 0)).toBeLessThanOrEqual(2 * patience)
  })

  test('gives the root and no chunk ends when that is lost', async () => {
    const artifact = Uint8Array.from({ length: 20 * chunkBytes }, (_, i) => i / chunkBytes)
    expect(await secondsUntilLost(artifact, 1)).toBeLessThanOrEqual(2 * patience)
  })
})
