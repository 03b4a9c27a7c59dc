/** Questions about a state that host, views and status ask, none of which looks at all members. */
import { sha256 } from '@noble/hashes/sha2.js'
import { base16 } from 'multiformats/bases/base16'
import { type Cid, encodeCanonical } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'
import { ableCount, isPresent, type Lease, type RunState } from './state.ts'

/** What the peer is to train; null when nothing, or when it is not in the run. */
export function leaseOf(state: RunState, peer: PeerId): Lease | null {
  const member = state.members.get(peer)
  return member !== undefined && isPresent(member) ? member.lease : null
}

/** Whether an update of this name was accepted in the open round or in a kept one. */
export function isKnownUpdate({ updates }: RunState, update: Cid): boolean {
  return updates.open.has(update) || updates.closed.some((each) => each.has(update))
}

/** How many more peers must be ready before a round opens; 0 when it is not for peers that the run waits. */
export function missingPeers({ phase, cold, counts, policy }: RunState): number {
  if (phase !== 'waiting') return 0
  return Math.max(0, (cold ? policy.minimumPeers : 1) - ableCount(counts))
}

/** The peer's share of all tokens accepted so far, from 0 to 1. */
export function shareOf(state: RunState, peer: PeerId): number {
  const { tokens } = state.totals
  return tokens === 0 ? 0 : (state.members.get(peer)?.tokens ?? 0) / tokens
}

/** SHA-256 of the state's canonical encoding, in hexadecimal. */
export function stateHash(state: RunState): string {
  return base16.baseEncode(sha256(encodeState(state)))
}

/** Canonical bytes of the whole state: maps as records, whose keys the encoding sorts. */
export function encodeState(state: RunState): Uint8Array {
  const { updates: _, members, open, batches, ...plain } = state
  return encodeCanonical({
    ...plain,
    members: members.toObject(),
    open: open === null ? null : { ...open, contributions: open.contributions.toObject() },
    batches: { ...batches, returned: batches.returned.toArray() },
  })
}
