/**
 * Artifacts: content of any size (a checkpoint, an update) as a dag-cbor root `{ size, chunks: [link] }` over raw
 * chunks of 1 MiB. The root's CID names the whole; whoever reads it knows the size before allocating anything.
 * Chunks of 1 MiB with 16 in flight match a raw push on a fast line and bound memory on a slow one.
 */
import { CID } from 'multiformats/cid'
import { z } from 'zod'
import {
  type Cid,
  decodeCanonical,
  encodeCanonical,
  GroundswellError,
  joinPieces,
  type Pieces,
  parseCid,
} from '../core/index.ts'
import { type Blobs, maxBlobBytes, needBlob } from './blobs.ts'

export const chunkBytes: number = 1024 * 1024

/** Chunks written side by side: a disk flushes several files in little more time than one. */
const putsInFlight = 8

export interface ArtifactRoot {
  readonly sizeBytes: number
  /** Of each chunk in order: all of `chunkBytes`, the last one of what is left. */
  readonly chunks: readonly Cid[]
}

/**
 * Splits bytes, in one piece or in several that follow one another, into chunks and keeps them with their root; the same
 * bytes always give the same CID.
 * @throws the signal's reason, between two chunks
 */
export async function putArtifact(
  blobs: Blobs,
  content: Uint8Array | Pieces,
  signal?: AbortSignal,
): Promise<Cid> {
  const pieces = content instanceof Uint8Array ? [content] : content
  const sizeBytes = pieces.reduce((total, { byteLength }) => total + byteLength, 0)
  const count = Math.ceil(sizeBytes / chunkBytes)
  const chunks = new Array<Cid>(count)
  let next = 0
  const putInTurn = async (): Promise<void> => {
    for (let i = next++; i < count; i = next++) {
      signal?.throwIfAborted()
      chunks[i] = await blobs.put(within(pieces, i * chunkBytes, Math.min((i + 1) * chunkBytes, sizeBytes)))
    }
  }
  await Promise.all(Array.from({ length: putsInFlight }, putInTurn))
  return blobs.put(encodeArtifactRoot({ sizeBytes, chunks }), { codec: 'dag-cbor' })
}

/** Bytes [from, to) of the pieces together: a view where they lie in one of them. */
function within(pieces: Pieces, from: number, to: number): Uint8Array {
  const parts: Uint8Array[] = []
  let start = 0
  for (const piece of pieces) {
    const end = start + piece.byteLength
    if (end > from && start < to) parts.push(piece.subarray(Math.max(0, from - start), to - start))
    start = end
  }
  return parts.length === 1 ? parts[0]! : joinPieces(parts)
}

/**
 * The bytes of an artifact of which everything is here.
 * @throws GroundswellError `artifact/oversized`, `artifact/malformed` or `blob/not-found`
 */
export async function readArtifact(
  blobs: Blobs,
  root: Cid,
  options: { readonly maxBytes: number },
): Promise<Uint8Array> {
  const { sizeBytes, chunks } = decodeArtifactRoot(await needBlob(blobs, root), options)
  const whole = new Uint8Array(sizeBytes)
  for (const [i, cid] of chunks.entries()) {
    const chunk = await needBlob(blobs, cid)
    if (chunk.byteLength !== chunkSizeBytes({ sizeBytes }, i))
      throw malformedRoot(`chunk ${i} has another size`)
    whole.set(chunk, i * chunkBytes)
  }
  return whole
}

/** The names of all blobs that an artifact consists of, its root first: what to keep when the store is pruned. */
export async function artifactBlobs(
  blobs: Blobs,
  root: Cid,
  options: { readonly maxBytes: number },
): Promise<Cid[]> {
  return [root, ...decodeArtifactRoot(await needBlob(blobs, root), options).chunks]
}

/** The length that chunk `index` must have. */
export function chunkSizeBytes(root: Pick<ArtifactRoot, 'sizeBytes'>, index: number): number {
  return Math.min(chunkBytes, root.sizeBytes - index * chunkBytes)
}

export function encodeArtifactRoot(root: ArtifactRoot): Uint8Array {
  return encodeCanonical({ size: root.sizeBytes, chunks: root.chunks.map((cid) => CID.parse(cid)) })
}

const rootSchema = z.strictObject({
  size: z.int().min(0),
  chunks: z.array(z.unknown()),
})

/** Reads a root that may come from anyone; its size is within `maxBytes` and its list of chunks fits its size. */
export function decodeArtifactRoot(bytes: Uint8Array, options: { readonly maxBytes: number }): ArtifactRoot {
  const parsed = rootSchema.safeParse(decodeCanonical(bytes, maxBlobBytes))
  if (!parsed.success) throw malformedRoot('it is not { size, chunks }')
  const { size, chunks } = parsed.data
  if (size > options.maxBytes) {
    throw new GroundswellError(`Artifact of ${size} bytes exceeds the limit of ${options.maxBytes}.`, {
      code: 'artifact/oversized',
    })
  }
  if (chunks.length !== Math.ceil(size / chunkBytes)) {
    throw malformedRoot(`${chunks.length} chunks do not make ${size} bytes`)
  }
  return { sizeBytes: size, chunks: chunks.map(rawLink) }
}

function rawLink(link: unknown): Cid {
  const cid = CID.asCID(link)
  if (cid === null || cid.code !== 0x55) throw malformedRoot('a chunk is not a link to raw bytes')
  return parseCid(cid.toString())
}

function malformedRoot(why: string): GroundswellError {
  return new GroundswellError(`The root of an artifact is malformed: ${why}.`, { code: 'artifact/malformed' })
}
