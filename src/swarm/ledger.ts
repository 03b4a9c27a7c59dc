/**
 * What went to and came from each peer, and what was refused and why. The figures that a contributor sees and that
 * the host's counters show; bounded in the number of peers, so that a flood of identities costs no memory.
 */
import type { PeerId } from './peer-id.ts'

/** Why something that a peer sent, or failed to send, was refused. */
export const refusalReasons = [
  // as the one that serves
  'request-oversized',
  'request-broken',
  'request-timeout',
  'too-many-requests',
  'handler-failed',
  'reader-stalled',
  // as the one that asks
  'reply-oversized',
  'reply-broken',
  'reply-malformed',
  'reply-timeout',
  'connection-broken',
  // signed messages
  'message-malformed',
  'message-oversized',
  'message-bad-signature',
  'message-foreign-key',
  'message-wrong-run',
  'message-replayed',
  'message-superseded',
  'message-unknown-kind',
  // chunks
  'chunk-wrong-hash',
] as const

export type RefusalReason = (typeof refusalReasons)[number]

/** Payload bytes on streams (without encryption and framing of the connection) and refusals, of one or all peers. */
export interface Account {
  readonly sentBytes: number
  readonly receivedBytes: number
  readonly refusals: Readonly<Partial<Record<RefusalReason, number>>>
}

interface MutableAccount {
  sentBytes: number
  receivedBytes: number
  refusals: Partial<Record<RefusalReason, number>>
}

/** Accounts by peer; the totals stay exact, also for peers whose account was dropped. */
export class PeerLedger {
  private readonly accounts = new Map<PeerId, MutableAccount>()
  private readonly totals: MutableAccount = emptyAccount()
  private readonly maxPeers: number

  constructor(options: { readonly maxPeers?: number } = {}) {
    this.maxPeers = options.maxPeers ?? 4096
  }

  sent(peer: PeerId, bytes: number): void {
    this.account(peer).sentBytes += bytes
    this.totals.sentBytes += bytes
  }

  received(peer: PeerId, bytes: number): void {
    this.account(peer).receivedBytes += bytes
    this.totals.receivedBytes += bytes
  }

  refused(peer: PeerId, reason: RefusalReason): void {
    for (const { refusals } of [this.account(peer), this.totals])
      refusals[reason] = (refusals[reason] ?? 0) + 1
  }

  of(peer: PeerId): Account {
    return copyOf(this.accounts.get(peer) ?? emptyAccount())
  }

  total(): Account {
    return copyOf(this.totals)
  }

  /** The accounts still held, by peer. */
  byPeer(): Map<PeerId, Account> {
    return new Map([...this.accounts].map(([peer, account]) => [peer, copyOf(account)]))
  }

  private account(peer: PeerId): MutableAccount {
    const account = this.accounts.get(peer) ?? emptyAccount()
    // A Map iterates in order of insertion: putting the account last keeps the least recently active one first.
    this.accounts.delete(peer)
    this.accounts.set(peer, account)
    if (this.accounts.size > this.maxPeers) {
      const [oldest] = this.accounts.keys()
      this.accounts.delete(oldest!)
    }
    return account
  }
}

function emptyAccount(): MutableAccount {
  return { sentBytes: 0, receivedBytes: 0, refusals: {} }
}

function copyOf(account: MutableAccount): Account {
  return { ...account, refusals: { ...account.refusals } }
}
