/**
 * Blobs from other peers: asked for by CID, 16 in flight over one or several sources, each checked against its hash
 * before it is used or kept. A source that lies or stalls is dropped and named, the others carry on; whatever is in
 * the store already is not asked for again, so a broken transfer resumes where it was.
 */
import { CID } from 'multiformats/cid'
import {
  type Cid,
  type Clock,
  GroundswellError,
  messageOf,
  parseCid,
  systemClock,
  throwIfAborted,
} from '../core/index.ts'
import { type ArtifactRoot, chunkBytes, chunkSizeBytes, decodeArtifactRoot } from './artifact.ts'
import { type Blobs, maxBlobBytes, needBlob } from './blobs.ts'
import { type PeerId, shortPeerId } from './peer-id.ts'
import { chunkProtocol, isRemote, type Transport } from './transport.ts'

export const fetchLimits = {
  /** Chunks under way at a time, over all sources. */
  inFlight: 16,
  /** For one chunk from one source: 1 MiB at 35 kB/s. */
  chunkTimeoutMs: 30_000,
  /** Times that a source may break the connection before it is dropped. */
  maxBreaks: 3,
  maxRequestBytes: 64,
  /** Chunk requests that this peer serves at a time, each holding one chunk in memory. */
  servedPerPeer: 32,
  served: 128,
} as const

export interface FetchInit {
  readonly transport: Transport
  readonly blobs: Blobs
  /** Who may have it; the order does not matter. */
  readonly sources: readonly PeerId[]
  readonly clock?: Clock
  readonly chunkTimeoutMs?: number
  readonly inFlight?: number
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
  readonly fetchedBytes: number
  /** What went wrong although the fetch succeeded. */
  readonly failures: readonly SourceFailure[]
}

/** Why a source was not used any more, or did not give a blob. */
export interface SourceFailure {
  readonly peer: PeerId
  readonly cid: Cid
  readonly reason: 'wrong-hash' | 'oversized' | 'timeout' | 'broken' | 'missing' | 'refused' | 'malformed'
  readonly message: string
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
  await fetchAll(init, [{ cid, maxBytes }])
  return needBlob(init.blobs, cid)
}

/** Gets an artifact of at most `maxBytes` into the store, from which `readArtifact` then reads it. */
export async function fetchArtifact(
  init: FetchInit & { readonly root: Cid; readonly maxBytes: number },
): Promise<FetchReport> {
  const { root, maxBytes, blobs } = init
  const { onProgress: _later, ...quietly } = init
  // A root of n chunks takes about 41 n bytes; no more is accepted than an artifact of maxBytes can need.
  const maxRootBytes = Math.min(maxBlobBytes, 128 + 48 * Math.ceil(maxBytes / chunkBytes))
  const first = await fetchAll(quietly, [{ cid: root, maxBytes: maxRootBytes }])
  const artifact: ArtifactRoot = decodeArtifactRoot(await needBlob(blobs, root), { maxBytes })
  // The same chunk may occur many times, as zeros do.
  const wanted = new Map(artifact.chunks.map((cid, i) => [cid, chunkSizeBytes(artifact, i)]))
  const report = await fetchAll(
    { ...init, sources: init.sources.filter((peer) => !first.dropped.has(peer)) },
    [...wanted].map(([cid, size]) => ({ cid, maxBytes: size })),
  )
  return {
    sizeBytes: artifact.sizeBytes,
    fetchedBytes: first.fetchedBytes + report.fetchedBytes,
    failures: [...first.failures, ...report.failures],
  }
}

interface Wanted {
  readonly cid: Cid
  readonly maxBytes: number
}

interface Source {
  readonly peer: PeerId
  underWay: number
  breaks: number
  /** Blobs that it does not have. */
  readonly lacks: Set<Cid>
}

interface FetchOutcome {
  readonly fetchedBytes: number
  readonly failures: SourceFailure[]
  readonly dropped: Set<PeerId>
}

async function fetchAll(init: FetchInit, wanted: readonly Wanted[]): Promise<FetchOutcome> {
  const { blobs, onProgress } = init
  const outcome = { fetchedBytes: 0, failures: [] as SourceFailure[], dropped: new Set<PeerId>() }
  const sources: Source[] = [...new Set(init.sources)]
    .filter((peer) => peer !== init.transport.self)
    .map((peer) => ({ peer, underWay: 0, breaks: 0, lacks: new Set() }))
  const totalBytes = wanted.reduce((total, { maxBytes }) => total + maxBytes, 0)
  let doneBytes = 0
  const todo: Wanted[] = []
  for (const each of wanted) {
    if (await blobs.has(each.cid)) doneBytes += each.maxBytes
    else todo.push(each)
  }
  onProgress?.({ doneBytes, totalBytes })

  const failed = new AbortController()
  const signal = AbortSignal.any([failed.signal, ...(init.signal ? [init.signal] : [])])
  const work = async (): Promise<void> => {
    for (let next = todo.shift(); next !== undefined; next = todo.shift()) {
      const fetchedBytes = await fetchOne({ ...init, signal }, next, sources, outcome)
      outcome.fetchedBytes += fetchedBytes
      doneBytes += next.maxBytes
      onProgress?.({ doneBytes, totalBytes })
    }
  }
  const workers = Array.from({ length: Math.min(init.inFlight ?? fetchLimits.inFlight, todo.length) }, () =>
    work().catch((thrown: unknown) => {
      failed.abort(thrown) // the others need not finish what cannot become whole
      throw thrown
    }),
  )
  // All of them are waited for, so that nothing is under way when the caller hears of the first failure.
  const results = await Promise.allSettled(workers)
  throwIfAborted(init.signal)
  if (failed.signal.aborted) throw failed.signal.reason
  for (const result of results) if (result.status === 'rejected') throw result.reason
  return outcome
}

/** One blob from whichever source gives it; the number of its bytes. */
async function fetchOne(
  init: FetchInit & { readonly signal: AbortSignal },
  wanted: Wanted,
  sources: readonly Source[],
  outcome: FetchOutcome,
): Promise<number> {
  const { transport, blobs, signal, clock = systemClock() } = init
  for (let busyTimes = 0; ; ) {
    signal.throwIfAborted()
    const source = sources
      .filter(({ peer, lacks }) => !outcome.dropped.has(peer) && !lacks.has(wanted.cid))
      .sort((a, b) => a.underWay - b.underWay)[0]
    if (source === undefined) throw new FetchError(wanted.cid, outcome.failures)
    source.underWay += 1
    try {
      const bytes = await transport.request(source.peer, chunkProtocol, cidBytes(wanted.cid), {
        maxReplyBytes: wanted.maxBytes,
        timeoutMs: init.chunkTimeoutMs ?? fetchLimits.chunkTimeoutMs,
        signal,
      })
      await blobs.put(bytes, { expected: wanted.cid })
      return bytes.byteLength
    } catch (thrown) {
      signal.throwIfAborted()
      if (isRemote(thrown, 'peer/busy') && busyTimes < 20) {
        await clock.sleep(Math.min(1000, 25 * 2 ** busyTimes++), signal)
        continue
      }
      const reason = failureOf(thrown)
      if (reason === undefined) throw thrown // our own disk or our own bug, not the source's fault
      if (reason === 'wrong-hash') transport.ledger.refused(source.peer, 'chunk-wrong-hash')
      outcome.failures.push({ peer: source.peer, cid: wanted.cid, reason, message: messageOf(thrown) })
      if (reason === 'missing') source.lacks.add(wanted.cid)
      else if (reason !== 'broken' || ++source.breaks > fetchLimits.maxBreaks)
        outcome.dropped.add(source.peer)
    } finally {
      source.underWay -= 1
    }
  }
}

function failureOf(thrown: unknown): SourceFailure['reason'] | undefined {
  if (isRemote(thrown, 'blob/not-found')) return 'missing'
  switch (thrown instanceof GroundswellError ? thrown.code : undefined) {
    case 'blob/hash-mismatch':
      return 'wrong-hash'
    case 'peer/oversized':
      return 'oversized'
    case 'peer/timeout':
      return 'timeout'
    case 'peer/closed':
    case 'peer/unreachable':
      return 'broken'
    case 'peer/malformed':
      return 'malformed'
    case 'peer/refused':
    case 'peer/unsupported':
      return 'refused'
    default:
      return undefined
  }
}

function cidBytes(cid: Cid): Uint8Array {
  return CID.parse(cid).bytes
}

function parseCidBytes(bytes: Uint8Array): Cid {
  try {
    return parseCid(CID.decode(bytes).toString())
  } catch (cause) {
    throw new GroundswellError('The request is not a CID.', { code: 'cid/invalid', cause })
  }
}
