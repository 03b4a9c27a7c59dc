/**
 * Two stores of blobs as one: a fast one near by, such as the disk from which a host serves its peers, before a durable
 * one that outlives the machine. What is put is in the durable store when that resolves; whatever is read from there is
 * kept in the fast one.
 */
import { GroundswellError } from '../core/index.ts'
import type { Blobs } from './blobs.ts'

/** `fast` may lack anything, for instance after a move to a new machine; `durable` decides what is there. */
export function tieredBlobs(fast: Blobs, durable: Blobs): Blobs {
  return {
    put: async (bytes, options) => {
      const cid = await durable.put(bytes, options)
      await fast.put(bytes, { expected: cid })
      return cid
    },
    get: async (cid) => {
      const near = await fast.get(cid)
      if (near !== undefined) return near
      const far = await durable.get(cid)
      // A fast store that is full still lets its owner read.
      if (far !== undefined) await fast.put(far, { expected: cid }).catch(ignoreFull)
      return far
    },
    has: async (cid) => (await fast.has(cid)) || (await durable.has(cid)),
    delete: async (cid) => {
      await durable.delete(cid)
      await fast.delete(cid)
    },
    list: () => durable.list(),
  }
}

function ignoreFull(thrown: unknown): void {
  const full = thrown instanceof GroundswellError && ['blob/quota', 'blob/disk-full'].includes(thrown.code)
  if (!full) throw thrown
}
