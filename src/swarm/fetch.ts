/**
 * Blobs from other peers: asked for by CID, many in flight over one or several sources, each checked against its hash
 * before it is used or kept. A source that lies or stalls is dropped and named, the others carry on; whatever is in
 * the store already is not asked for again, so a broken transfer resumes where it was, also in another process.
 */
import { CID } from 'multiformats/cid'
import { type Cid, type Clock, GroundswellError, parseCid, systemClock } from '../core/index.ts'
import { type ArtifactRoot, chunkBytes, chunkSizeBytes, decodeArtifactRoot } from './artifact.ts'
import { type Blobs, maxBlobBytes, needBlob } from './blobs.ts'
import { Schedule, type Wanted } from './fetch-schedule.ts'
import type { SourceFailure } from './fetch-sources.ts'
import { type PeerId, shortPeerId } from './peer-id.ts'
import { chunkProtocol, type Transport } from './transport.ts'

export type { SourceFailure } from './fetch-sources.ts'

export const fetchLimits = {
  /** Chunks under way at a time, over all sources. */
  inFlight: 32,
  /** For one chunk from one source: 1 MiB at 35 kB/s. */
  chunkTimeoutMs: 30_000,
  maxRequestBytes: 64,
  /** Chunk requests that this peer serves at a time, each holding one chunk in memory. */
  servedPerPeer: 32,
  served: 128,
} as const

export interface FetchInit {
  readonly transport: Transport
  readonly blobs: Blobs
  /** Who may have it; of those not measured yet, the first is asked first. A function is asked again and again: sources may come meanwhile. */
  readonly sources: readonly PeerId[] | (() => readonly PeerId[])
  readonly clock?: Clock
  readonly chunkTimeoutMs?: number
  readonly inFlight?: number
  /** How long to wait for a source when there is none left that could be asked; not at all unless stated. */
  readonly patienceMs?: number
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: FetchProgress) => void
}

export interface FetchProgress {
  /** Bytes here already, whether fetched or found. */
  readonly doneBytes: number
  readonly totalBytes: number
}

export interface FetchReport {
  readonly sizeBytes: number
  /** All that came, twice or not. */
  readonly fetchedBytes: number
  /** What came from a second source when the first had been faster after all. */
  readonly duplicateBytes: number
  /** Who gave how much, and who was not asked any more. */
  readonly sources: readonly {
    readonly peer: PeerId
    readonly receivedBytes: number
    readonly dropped: boolean
  }[]
  /** What went wrong although the fetch succeeded. */
  readonly failures: readonly SourceFailure[]
}

/** No source gave what was asked for; `failures` says who, which blob and why. */
export class FetchError extends GroundswellError {
  readonly failures: readonly SourceFailure[]

  constructor(cid: Cid, failures: readonly SourceFailure[]) {
    const said = failures.slice(-4).map(({ peer, message }) => `${shortPeerId(peer)}: ${message}`)
    super(`No source gave blob ${cid}${said.length === 0 ? '' : ` (${said.join('; ')})`}.`, {
      code: 'artifact/unavailable',
      remedy: 'Try again when a peer that has it is connected.',
    })
    this.failures = failures
  }
}

/** Answers other peers' requests for chunks, from `blobs` only. */
export function serveBlobs(transport: Transport, blobs: Blobs): void {
  transport.handle(
    chunkProtocol,
    async ({ bytes }) => {
      const cid = parseCidBytes(bytes)
      const blob = await blobs.get(cid)
      if (blob === undefined)
        throw new GroundswellError(`Blob ${cid} is not here.`, { code: 'blob/not-found' })
      return blob
    },
    {
      maxRequestBytes: fetchLimits.maxRequestBytes,
      maxConcurrentPerPeer: fetchLimits.servedPerPeer,
      maxConcurrent: fetchLimits.served,
    },
  )
}

/** Gets one blob of at most `maxBytes` into the store and returns it. */
export async function fetchBlob(
  init: FetchInit & { readonly cid: Cid; readonly maxBytes?: number },
): Promise<Uint8Array> {
  const { cid, maxBytes = maxBlobBytes } = init
  return (await fetchAndRead(init, { cid, maxBytes })).bytes
}

/**
 * Gets an artifact of at most `maxBytes` into the store, from which `readArtifact` then reads it. Of chunks that are there
 * already only reading tells whether they are whole.
 */
export async function fetchArtifact(
  init: FetchInit & { readonly root: Cid; readonly maxBytes: number },
): Promise<FetchReport> {
  const { root, maxBytes } = init
  const { onProgress: _later, ...quietly } = init
  // A root of n chunks takes about 41 n bytes; no more is accepted than an artifact of maxBytes can need.
  const maxRootBytes = Math.min(maxBlobBytes, 128 + 48 * Math.ceil(maxBytes / chunkBytes))
  const { bytes, schedule: first } = await fetchAndRead(quietly, { cid: root, maxBytes: maxRootBytes })
  const artifact: ArtifactRoot = decodeArtifactRoot(bytes, { maxBytes })
  // The same chunk may occur many times, as zeros do.
  const wanted = new Map(artifact.chunks.map((cid, i) => [cid, chunkSizeBytes(artifact, i)]))
  const rest = [...wanted].map(([cid, size]) => ({ cid, maxBytes: size }))
  const second = await fetchAll(init, rest, first)
  return {
    sizeBytes: artifact.sizeBytes,
    fetchedBytes: first.fetchedBytes + second.fetchedBytes,
    duplicateBytes: first.duplicateBytes + second.duplicateBytes,
    failures: [...first.failures, ...second.failures],
    sources: [...second.sources.values()].map(({ peer, receivedBytes, lost }) => ({
      peer,
      receivedBytes,
      dropped: lost,
    })),
  }
}

/** A file that is damaged seems to be there until it is read; then it has gone and is fetched. */
async function fetchAndRead(
  init: FetchInit,
  wanted: Wanted,
): Promise<{ readonly bytes: Uint8Array; readonly schedule: Schedule }> {
  const schedule = await fetchAll(init, [wanted])
  const bytes = await init.blobs.get(wanted.cid)
  if (bytes !== undefined) return { bytes, schedule }
  const again = await fetchAll(init, [wanted], schedule)
  return { bytes: await needBlob(init.blobs, wanted.cid), schedule: again }
}

async function fetchAll(init: FetchInit, wanted: readonly Wanted[], known?: Schedule): Promise<Schedule> {
  const { transport, blobs, sources, onProgress } = init
  const totalBytes = wanted.reduce((total, { maxBytes }) => total + maxBytes, 0)
  let doneBytes = 0
  const todo: Wanted[] = []
  for (const each of wanted) {
    if (await blobs.has(each.cid)) doneBytes += each.maxBytes
    else todo.push(each)
  }
  onProgress?.({ doneBytes, totalBytes })
  const schedule = new Schedule(
    {
      transport,
      blobs,
      clock: init.clock ?? systemClock(),
      sources: typeof sources === 'function' ? sources : () => sources,
      chunkTimeoutMs: init.chunkTimeoutMs ?? fetchLimits.chunkTimeoutMs,
      inFlight: init.inFlight ?? fetchLimits.inFlight,
      patienceMs: init.patienceMs ?? 0,
      signal: init.signal ?? new AbortController().signal,
      onDone: ({ maxBytes }) => {
        doneBytes += maxBytes
        onProgress?.({ doneBytes, totalBytes })
      },
      unavailable: (cid, failures) => new FetchError(cid, failures),
    },
    todo,
  )
  for (const [peer, source] of known?.sources ?? []) schedule.sources.set(peer, source)
  await schedule.run()
  return schedule
}

function parseCidBytes(bytes: Uint8Array): Cid {
  try {
    return parseCid(CID.decode(bytes).toString())
  } catch (cause) {
    throw new GroundswellError('The request is not a CID.', { code: 'cid/invalid', cause })
  }
}
