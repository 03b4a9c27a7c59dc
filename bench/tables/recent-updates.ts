/**
 * One peer's newest updates in the place of its fellows': a merge of many then reads each from memory of its own, as it
 * does in a run, where the same update many times over would come from the cache. While there are not enough, they are
 * repeated.
 */
import type { Contribution, SyncSettings } from '../../src/sync/index.ts'

export class RecentUpdates<Update> {
  private readonly count: number
  /** Updates of one part of the model are merged with those of the same part only. */
  private readonly parts: Update[][]

  constructor(count: number, sync: SyncSettings) {
    this.count = count
    const parts = 'fragments' in sync ? sync.fragments : 1
    this.parts = Array.from({ length: parts }, () => [])
  }

  add(round: number, update: Update): void {
    const kept = this.of(round)
    kept.unshift(update)
    if (kept.length > this.count) kept.pop()
  }

  /** So many contributions for the merge of a round, the newest update first. */
  contributions(round: number, count: number): readonly Contribution<Update>[] {
    const kept = this.of(round)
    return Array.from({ length: count }, (_, i) => ({
      ...{ peer: `${i}`, update: kept[i % kept.length]!, weight: 1 },
    }))
  }

  private of(round: number): Update[] {
    return this.parts[round % this.parts.length]!
  }
}
