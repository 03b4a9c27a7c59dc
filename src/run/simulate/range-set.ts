/** Whole numbers as sorted ranges that neither overlap nor touch: few numbers for many, where most are neighbours. */
import type { BatchRange } from '../state.ts'

export class RangeSet {
  private readonly held: BatchRange[] = []

  get ranges(): readonly BatchRange[] {
    return this.held
  }

  /** Adds a range; false, and nothing added, when part of it is in already. */
  add(range: BatchRange): boolean {
    const { held } = this
    let low = 0
    let high = held.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (held[middle]!.start < range.start) low = middle + 1
      else high = middle
    }
    const before = held[low - 1]
    const after = held[low]
    if (
      (before !== undefined && before.end > range.start) ||
      (after !== undefined && after.start < range.end)
    ) {
      return false
    }
    const joinsBefore = before?.end === range.start
    const joinsAfter = after?.start === range.end
    const start = joinsBefore ? before.start : range.start
    const end = joinsAfter ? after.end : range.end
    held.splice(low - (joinsBefore ? 1 : 0), (joinsBefore ? 1 : 0) + (joinsAfter ? 1 : 0), { start, end })
    return true
  }
}
