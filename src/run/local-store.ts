/**
 * Where a peer keeps what only it knows (residuals, momenta) so that a restart with the same identity loses none of
 * it. What is kept belongs to one run and one method; anything else that is found there counts as nothing.
 */
import {
  type Cid,
  decodeCanonical,
  encodeCanonical,
  type Files,
  GroundswellError,
  type Pieces,
} from '../core/index.ts'
import type { SyncMethod, TensorLayout } from '../sync/index.ts'

export interface LocalStore {
  load(): Promise<Uint8Array | undefined>
  /** Replaces what was there by these pieces as a whole: after a crash the old or the new is there. */
  save(pieces: Pieces): Promise<void>
}

/** One file. */
export function fileLocalStore(files: Files, path: string): LocalStore {
  return {
    load: async () => ((await files.exists(path)) ? files.read(path) : undefined),
    save: (pieces) => files.write(path, pieces),
  }
}

const format = 'groundswell/local/1'
const maxHeaderBytes = 1024

/** A header { format, run, method }, its length before it as uint32 little-endian, and the method's own bytes. */
export function encodeLocal(run: Cid, method: SyncMethod, local: unknown): Pieces {
  const header = encodeCanonical({ format, run, method: method.id })
  const length = new Uint8Array(4)
  new DataView(length.buffer).setUint32(0, header.byteLength, true)
  return [length, header, ...method.serialiseLocal(local)]
}

/** What was kept for this run; undefined when it is of another run or method, or damaged. */
export function decodeLocal(
  bytes: Uint8Array,
  run: Cid,
  method: SyncMethod,
  layout: TensorLayout,
): { readonly local: unknown } | undefined {
  try {
    const length = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true)
    const header = decodeCanonical(bytes.subarray(4, 4 + length), maxHeaderBytes) as Record<string, unknown>
    if (header.format !== format || header.run !== run || header.method !== method.id) return undefined
    return { local: method.parseLocal(bytes.subarray(4 + length), layout) }
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError || thrown instanceof RangeError)) throw thrown
    return undefined // a fresh start costs one round's residuals, a refusal would cost the peer
  }
}
