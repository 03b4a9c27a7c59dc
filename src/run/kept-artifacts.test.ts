import { expect, onTestFinished, test } from 'vitest'
import { type Cid, cidOf, type Files, memoryFiles } from '../core/index.ts'
import { type Blobs, memoryBlobs, putArtifact } from '../swarm/index.ts'
import { KeptArtifacts } from './kept-artifacts.ts'
import { fileLocalStore } from './local-store.ts'
import { ToySwarm } from './swarm-fixture.ts'

const [run, other] = (await Promise.all([1, 2].map((n) => cidOf(Uint8Array.of(n))))) as [Cid, Cid]

interface Folder {
  readonly blobs: Blobs
  readonly files: Files
  readonly process: (of?: Cid) => KeptArtifacts
  /** A new artifact that a process lists. */
  readonly artifact: (kept: KeptArtifacts, content: number) => Promise<Cid>
}

function folder(): Folder {
  const [blobs, files] = [memoryBlobs(), memoryFiles()]
  const store = fileLocalStore(files, 'peer')
  return {
    blobs,
    files,
    process: (of = run) => new KeptArtifacts({ blobs, store, run: of, maxBytes: 1000 }),
    artifact: async (kept, content) => {
      const root = await putArtifact(blobs, new Uint8Array(100).fill(content))
      await kept.add([root])
      return root
    },
  }
}

test('what a process had for others is dropped by the next one, except for what that begins with', async () => {
  const { blobs, process, artifact } = folder()
  const unlisted = await putArtifact(blobs, new Uint8Array(10))
  const first = process()
  const [one, two, three] = [await artifact(first, 1), await artifact(first, 2), await artifact(first, 3)]
  await first.drop([one])
  expect(await blobs.list()).toHaveLength(3 * 2)
  const second = process()
  expect(await second.restore(three)).toBe(true)
  expect(await Promise.all([unlisted, one, two, three].map((cid) => blobs.has(cid)))).toEqual([
    true,
    false,
    false,
    true,
  ])
  expect(await blobs.list()).toHaveLength(2 * 2)
  const third = process()
  expect(await third.restore(one)).toBe(false)
  expect(await blobs.list()).toHaveLength(1 * 2)
})

test('what another run in the same folder lists stays, also where both have it', async () => {
  const { blobs, process, artifact } = folder()
  const theirs = process(other)
  const [shared, alone] = [await artifact(theirs, 1), await artifact(theirs, 2)]
  const ours = process()
  await ours.restore(shared)
  await ours.add([shared])
  const own = await artifact(ours, 3)
  const next = process()
  await next.restore(run)
  expect(await Promise.all([shared, alone, own].map((cid) => blobs.has(cid)))).toEqual([true, true, false])
  await next.drop([shared])
  expect(await blobs.has(shared)).toBe(true)
  await artifact(next, 4) // writes its list
  await process(other).restore(run)
  expect(await Promise.all([shared, alone].map((cid) => blobs.has(cid)))).toEqual([false, false])
})

test('a damaged list is none', async () => {
  const { blobs, files, process, artifact } = folder()
  const root = await artifact(process(), 1)
  const bytes = await files.read('peer/local.kept.bin')
  const damaged = [0, 5, bytes.byteLength - 1].map((length) => bytes.subarray(0, length))
  for (const list of [...damaged, new Uint8Array(2 ** 20 + 1)]) {
    await files.write('peer/local.kept.bin', [list])
    expect(await process().restore(root)).toBe(false)
    expect(await blobs.has(root)).toBe(true)
  }
})

test.each([
  ['data-parallel', 0],
  ['demo', 1],
  ['distro', 1],
] as const)('a peer of %s flushes %i writes a round, none of them of the list', async (method, expected) => {
  const files = memoryFiles()
  const flushed: string[] = []
  let listed = 0
  const counting: Files = {
    ...files,
    write: async (path, chunks, options) => {
      if (path.endsWith('.kept.bin')) listed += 1
      if (options?.durable !== false) flushed.push(path)
      await files.write(path, chunks)
    },
  }
  const swarm = await ToySwarm.start({ sync: { method }, rounds: { rounds: 4, minimumPeers: 2 } })
  onTestFinished(() => swarm.stop())
  const member = swarm.join(1, { localStore: fileLocalStore(counting, 'peer') })
  const { result } = swarm.join(2)
  await Promise.all([member.result, result, swarm.host.finished])
  const { contributions } = member.peer.status()
  expect(contributions).toBeGreaterThanOrEqual(3)
  expect(flushed.filter((path) => path.endsWith('.kept.bin'))).toEqual([])
  expect(flushed).toHaveLength(expected * contributions)
  expect(listed).toBeLessThanOrEqual(1 + 3 * contributions) // the checkpoint that it began with; update, merge, checkpoint
})
