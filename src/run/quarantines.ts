/**
 * Where updates of strangers are until they have proved to be some: in memory, each peer's apart from the others', and
 * all within one budget. What has come of a transfer that broke off stays for when it is reported again, as long as
 * there is room; what has lain there longest goes first.
 */
import type { Cid } from '../core/index.ts'
import { type Blobs, memoryBlobs, type PeerId } from '../swarm/index.ts'

interface Quarantine {
  readonly root: Cid
  readonly blobs: Blobs
  readonly held: Set<Cid>
  bytes: number
  underWay: boolean
}

export class Quarantines {
  private readonly budgetBytes: number
  /** Those that were left longest ago come first. */
  private readonly all = new Map<PeerId, Quarantine>()
  private sum = 0

  constructor(budgetBytes: number) {
    this.budgetBytes = budgetBytes
  }

  /** Bytes held in all. */
  get bytes(): number {
    return this.sum
  }

  /** A peer's quarantine for an update, with what has come of it before; nothing is taken from it until it is left. */
  enter(peer: PeerId, root: Cid, onBlob: () => void = () => undefined): Blobs {
    const known = this.all.get(peer)
    if (known?.root === root) {
      known.underWay = true
      return this.counted(peer, known, onBlob)
    }
    this.drop(peer)
    const begun = { root, blobs: memoryBlobs(), held: new Set<Cid>(), bytes: 0, underWay: true }
    this.all.set(peer, begun)
    return this.counted(peer, begun, onBlob)
  }

  /** Keeps what has come, while there is room for it. */
  leave(peer: PeerId): void {
    const left = this.all.get(peer)
    if (left === undefined) return
    left.underWay = false
    this.all.delete(peer)
    this.all.set(peer, left)
    this.makeRoom()
  }

  drop(peer: PeerId): void {
    this.sum -= this.all.get(peer)?.bytes ?? 0
    this.all.delete(peer)
  }

  /** Drops those of peers that are gone. */
  forget(isGone: (peer: PeerId) => boolean): void {
    for (const peer of [...this.all.keys()]) if (isGone(peer)) this.drop(peer)
  }

  private counted(peer: PeerId, quarantine: Quarantine, onBlob: () => void): Blobs {
    const { blobs, held } = quarantine
    return {
      ...blobs,
      put: async (bytes, options) => {
        const cid = await blobs.put(bytes, options)
        onBlob()
        if (held.has(cid)) return cid
        held.add(cid)
        quarantine.bytes += bytes.byteLength
        // One that was dropped meanwhile, as its peer is gone, does not count any more.
        if (this.all.get(peer) === quarantine) this.sum += bytes.byteLength
        this.makeRoom()
        return cid
      },
    }
  }

  private makeRoom(): void {
    for (const [peer, { underWay }] of this.all) {
      if (this.sum <= this.budgetBytes) return
      if (!underWay) this.drop(peer)
    }
  }
}
