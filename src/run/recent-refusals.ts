/**
 * What a run refused lately, for whoever looks at it again and again: the ledger is asked only when the log has grown,
 * and only for what is new.
 */
import type { LedgerEntry, LedgerPage } from './protocol.ts'

/** Entries of the log that are looked through. */
const recentEntries = 2048

export class RecentRefusals {
  private readonly ledger: (from: number) => Promise<LedgerPage>
  private found: readonly LedgerEntry[] = []
  /** The first position that has not been looked at. */
  private next = 0

  /** @param ledger asks the host for a page of its ledger */
  constructor(ledger: (from: number) => Promise<LedgerPage>) {
    this.ledger = ledger
  }

  /** The refusals of the newest entries, oldest first, in a log of as many entries as a status says. */
  async upTo(version: number): Promise<readonly LedgerEntry[]> {
    const first = Math.max(0, version - recentEntries)
    // A host that lost the end of its log goes on from before it.
    this.found = this.found.filter(({ position }) => position >= first && position < version)
    this.next = Math.max(first, Math.min(this.next, version))
    while (this.next < version) {
      const page = await this.ledger(this.next)
      this.found = [...this.found, ...page.entries.filter(({ type }) => type === 'rejected')]
      if (page.next <= this.next) break
      this.next = page.next
    }
    return this.found
  }
}
