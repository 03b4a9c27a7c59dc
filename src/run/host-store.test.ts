/** What a host does about peers that report an update and let it ask in vain. */
import { expect, test } from 'vitest'
import { VirtualClock } from '../core/index.ts'
import { chunkProtocol, MemoryNetwork, memoryBlobs, memoryTransport, putArtifact } from '../swarm/index.ts'
import { HostStore } from './host-store.ts'
import { createRun } from './reducer.ts'
import { created } from './story.ts'
import { identityNumbered, toyManifest } from './swarm-fixture.ts'

/** A host's store, and a peer that hears its questions and says nothing. */
async function besideASilentPeer() {
  const clock = new VirtualClock()
  const network = new MemoryNetwork({ clock })
  const blobs = memoryBlobs()
  const manifest = await toyManifest(blobs, {})
  const transport = memoryTransport({ self: identityNumbered(100).peerId, network })
  const silent = memoryTransport({ self: identityNumbered(1).peerId, network })
  silent.handle(chunkProtocol, () => new Promise(() => undefined))
  await silent.dial(transport.addresses[0]!)
  const checkpoint = { round: 0, checkpoint: manifest.initialCheckpoint }
  const store = await HostStore.open(
    { manifest, blobs, transport, clock },
    { ...createRun(created), checkpoint },
  )
  const root = await putArtifact(memoryBlobs(), new Uint8Array(10))
  /** How the next fetch ends when the peer goes away after some time. */
  const fetchFor = async (ms: number): Promise<unknown> => {
    const gone = new AbortController()
    const outcome = store.fetchUpdate(silent.self, root, gone.signal).catch((thrown: unknown) => thrown)
    for (let passedMs = 0; passedMs < ms; passedMs += 500) {
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate)
      await clock.advance(500)
    }
    gone.abort(new Error('gone'))
    return outcome
  }
  return { fetchFor }
}

test('a peer that goes away whenever it is asked for what it reported is refused like one that stays silent', async () => {
  const { fetchFor } = await besideASilentPeer()
  for (let n = 0; n < 2; n++) expect(await fetchFor(20_000)).toMatchObject({ message: 'gone' })
  expect(await fetchFor(0)).toMatchObject({ code: 'update/not-given' })
  // From then on it is asked again.
  expect(await fetchFor(45_000)).toMatchObject({ code: 'artifact/unavailable' })
  expect(await fetchFor(45_000)).toMatchObject({ code: 'update/not-given' })
})

test('a peer whose line breaks soon, however often, is not to blame', async () => {
  const { fetchFor } = await besideASilentPeer()
  for (let n = 0; n < 5; n++) expect(await fetchFor(3000)).toMatchObject({ message: 'gone' })
})
