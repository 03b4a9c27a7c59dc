/**
 * Artifacts as the roles of a run use them: got whole from peers or from the store, and dropped together without
 * touching chunks that another artifact shares.
 */
import { type Cid, GroundswellError } from '../core/index.ts'
import { artifactBlobs, type Blobs, type FetchInit, fetchArtifact, readArtifact } from '../swarm/index.ts'
import type { SyncMethod, TensorLayout } from '../sync/index.ts'

/** The bytes of an artifact, from the store or, as far as they are missing or damaged there, from the sources that have it. */
export async function obtainArtifact(
  init: FetchInit & { readonly root: Cid; readonly maxBytes: number },
): Promise<Uint8Array> {
  const { blobs, root, maxBytes } = init
  await fetchArtifact(init)
  try {
    return await readArtifact(blobs, root, { maxBytes })
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError) || thrown.code !== 'blob/not-found') throw thrown
  }
  // A power failure may cut many files short. Each is deleted when it is read, so reading all finds all, to be fetched at once.
  for (const cid of await artifactBlobs(blobs, root, { maxBytes })) await blobs.get(cid)
  await fetchArtifact(init)
  return readArtifact(blobs, root, { maxBytes })
}

/** Of any artifact of a run that comes and goes: a checkpoint or an update. */
export function longestArtifactBytes(method: SyncMethod, layout: TensorLayout): number {
  return Math.max(method.stateBytes(layout), method.maximumUpdateBytes(layout))
}

/** Deletes artifacts, except for what they share with those to keep. What is not here is no error. */
export async function dropArtifacts(
  blobs: Blobs,
  drop: Iterable<Cid>,
  keep: { readonly artifacts: Iterable<Cid>; readonly blobs?: Iterable<Cid> },
  options: { readonly maxBytes: number },
): Promise<void> {
  const kept = new Set<Cid>(keep.blobs)
  for (const root of keep.artifacts) for (const cid of await blobsOf(blobs, root, options)) kept.add(cid)
  for (const root of drop) {
    if (kept.has(root)) continue
    // The root goes last: whatever interrupts this, what is left can still be found and dropped.
    for (const cid of (await blobsOf(blobs, root, options)).reverse()) {
      if (!kept.has(cid)) await blobs.delete(cid)
    }
  }
}

/** The blobs of an artifact; of one that came from a stranger and is none, at least what it would be the root of. */
export async function blobsOf(
  blobs: Blobs,
  root: Cid,
  options: { readonly maxBytes: number },
): Promise<Cid[]> {
  try {
    return await artifactBlobs(blobs, root, options)
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError)) throw thrown
    if (thrown.code === 'blob/not-found') return []
    if (thrown.code.startsWith('artifact/') || thrown.code.startsWith('message/')) return [root]
    throw thrown
  }
}
