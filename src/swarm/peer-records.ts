/**
 * What libp2p remembers of peers, bounded. Its store takes a record of everybody who connects, with up to 8 KiB of what
 * they say of themselves, and of everybody who was dialled in vain; it looks at their age only when somebody asks for
 * them, so a flood of identities would stay for ever. What is kept lets those be dialled again who went just now.
 */
import type { Libp2p, PeerId } from '@libp2p/interface'

/** Keeps the records of those who are connected, and of others those written last, `most` in all. */
export function boundPeerRecords(
  node: Pick<Libp2p, 'addEventListener' | 'getConnections' | 'peerStore'>,
  most: number,
): void {
  /** By name; the one written longest ago comes first. */
  const records = new Map<string, PeerId>()
  node.addEventListener('peer:update', ({ detail }) => {
    const { id } = detail.peer
    records.delete(id.toString())
    records.set(id.toString(), id)
    for (let looks = records.size; looks > 0 && records.size > most; looks--) {
      const [name, oldest] = records.entries().next().value!
      records.delete(name)
      if (node.getConnections(oldest).length > 0) records.set(name, oldest)
      else void node.peerStore.delete(oldest).catch(() => undefined) // it is written again, or gone with the node
    }
  })
}
