/**
 * The seam for content by name. A blob is at most one chunk of an artifact (1 MiB) or one small dag-cbor record, so
 * it fits in memory; its bytes are checked against its CID whenever they go in or come out.
 */
import { type Cid, type CidCodec, cidOf, GroundswellError, matchesCid, parseCid } from '../core/index.ts'

export interface Blobs {
  /** Keeps these bytes; with `expected`, only if that is their name (`blob/hash-mismatch` otherwise). */
  put(bytes: Uint8Array, options?: PutOptions): Promise<Cid>
  /** The bytes, or undefined when they are not here. */
  get(cid: Cid): Promise<Uint8Array | undefined>
  has(cid: Cid): Promise<boolean>
  delete(cid: Cid): Promise<void>
  /** Every blob that is here, in no particular order. */
  list(): Promise<{ cid: Cid; sizeBytes: number }[]>
}

export interface PutOptions {
  /** `raw` unless stated, or the codec of `expected`. */
  readonly codec?: CidCodec
  readonly expected?: Cid
  /** The bytes are handed over: nobody changes them any more, so a store in memory may keep them uncopied. */
  readonly handedOver?: boolean
}

/** The longest blob: a chunk, or a record such as the root of an artifact. */
export const maxBlobBytes: number = 1024 * 1024

/** Blobs in memory, for tests, for tabs and for peers that keep nothing. */
export function memoryBlobs(options: { readonly quotaBytes?: number } = {}): Blobs {
  const quotaBytes = options.quotaBytes ?? Number.POSITIVE_INFINITY
  const held = new Map<Cid, Uint8Array>()
  let usedBytes = 0
  return {
    put: async (bytes, putOptions) => {
      const cid = await nameOfBlob(bytes, putOptions)
      if (held.has(cid)) return cid
      if (usedBytes + bytes.byteLength > quotaBytes) throw quotaExceeded(quotaBytes)
      usedBytes += bytes.byteLength
      held.set(cid, putOptions?.handedOver === true ? bytes : bytes.slice())
      return cid
    },
    get: async (cid) => held.get(parseCid(cid))?.slice(),
    has: async (cid) => held.has(cid),
    delete: async (cid) => {
      usedBytes -= held.get(cid)?.byteLength ?? 0
      held.delete(cid)
    },
    list: async () => [...held].map(([cid, bytes]) => ({ cid, sizeBytes: bytes.byteLength })),
  }
}

/** Deletes every blob that is not in `keep`, until the signal; returns the bytes that became free. */
export async function pruneBlobs(
  blobs: Blobs,
  keep: ReadonlySet<Cid>,
  signal?: AbortSignal,
): Promise<number> {
  let freedBytes = 0
  for (const { cid, sizeBytes } of await blobs.list()) {
    if (signal?.aborted) break
    if (keep.has(cid)) continue
    await blobs.delete(cid)
    freedBytes += sizeBytes
  }
  return freedBytes
}

/** The bytes of a blob that must be here. @throws GroundswellError `blob/not-found` */
export async function needBlob(blobs: Blobs, cid: Cid): Promise<Uint8Array> {
  const bytes = await blobs.get(cid)
  if (bytes === undefined) {
    throw new GroundswellError(`Blob ${cid} is not here.`, {
      code: 'blob/not-found',
      remedy: 'Fetch it from a peer that has it.',
    })
  }
  return bytes
}

/** The name under which bytes are to be kept: what every implementation of `put` does first. */
export async function nameOfBlob(bytes: Uint8Array, options: PutOptions = {}): Promise<Cid> {
  if (bytes.byteLength > maxBlobBytes) {
    throw new GroundswellError(`A blob of ${bytes.byteLength} bytes exceeds the limit of ${maxBlobBytes}.`, {
      code: 'blob/oversized',
      remedy: 'Put it as an artifact, which is split into chunks.',
    })
  }
  const { expected } = options
  if (expected === undefined) return cidOf(bytes, options.codec)
  if (!(await matchesCid(bytes, parseCid(expected)))) {
    throw new GroundswellError(`These ${bytes.byteLength} bytes are not what ${expected} names.`, {
      code: 'blob/hash-mismatch',
    })
  }
  return expected
}

/** The error of a store that may not grow further. */
export function quotaExceeded(quotaBytes: number): GroundswellError {
  return new GroundswellError(`The blob store has reached its quota of ${quotaBytes} bytes.`, {
    code: 'blob/quota',
    remedy: 'Prune old rounds or raise the quota.',
  })
}
