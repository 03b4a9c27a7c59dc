/**
 * What must hold in every run at every time, kept by a book of its own beside the reducer: every batch below `next` is
 * in exactly one place (accepted, leased, or on its way back), or counted among those that were given up; and whatever
 * was accepted is merged exactly once.
 */
import type { PeerId } from '../../swarm/index.ts'
import { type BatchRange, type ClosedRound, isPresent, type Lease, type RunState } from '../state.ts'
import { RangeSet } from './range-set.ts'

export class WorkLedger {
  private readonly done = new RangeSet()
  /** Accepted, and not yet in a closed round: update by peer. */
  private readonly pending = new Map<PeerId, { readonly update: string; readonly steps: number }>()
  private steps = 0

  /** Batches that count. */
  get acceptedSteps(): number {
    return this.steps
  }

  /** The reducer has accepted an update of the first `steps` batches of a lease. */
  accept(peer: PeerId, update: string, lease: Lease | null, steps: number): void {
    if (lease === null) throw new Error(`An update of ${peer} was accepted that had no lease.`)
    if (this.pending.has(peer)) throw new Error(`Two updates of ${peer} were accepted in one round.`)
    for (const range of firstBatches(lease.ranges, steps)) {
      if (!this.done.add(range)) throw new Error(`Batches ${range.start}–${range.end} were accepted twice.`)
    }
    this.pending.set(peer, { update, steps })
    this.steps += steps
  }

  /** A round has closed: it must hold all that was accepted, and nothing else. */
  close({ round, accepted }: ClosedRound): void {
    for (const { peer, update, steps, ranges } of accepted) {
      const expected = this.pending.get(peer)
      if (expected?.update !== update || expected.steps !== steps || countBatches(ranges) !== steps) {
        throw new Error(`Round ${round} merges ${update} of ${peer}, which was not accepted so.`)
      }
      this.pending.delete(peer)
    }
    for (const [peer, { update }] of this.pending) {
      throw new Error(`Update ${update} of ${peer} was accepted and is not in round ${round}.`)
    }
  }

  /** Looks at all members: O(n log n). */
  check(state: RunState): void {
    const { next, pool, returned, skipped } = state.batches
    const places: { readonly range: BatchRange; readonly where: string }[] = [
      ...this.done.ranges.map((range) => ({ range, where: 'accepted' })),
      ...pool.map((range) => ({ range, where: 'in the pool' })),
      ...Array.from(returned, (range) => ({ range, where: 'returned' })),
    ]
    let present = 0
    let outstanding = 0
    for (const [peer, member] of state.members) {
      const { lease } = member
      const here = isPresent(member)
      if (here) present++
      if (here && lease !== null && lease.round === state.open?.round) outstanding++
      if (lease === null) continue
      if (countBatches(lease.ranges) !== lease.steps) throw new Error(`The lease of ${peer} miscounts.`)
      for (const range of lease.ranges) places.push({ range, where: `leased to ${peer}` })
    }
    if (present !== state.counts.present) {
      throw new Error(`${present} members are present, the state counts ${state.counts.present}.`)
    }
    if (state.open !== null && outstanding !== state.open.outstanding) {
      throw new Error(`${outstanding} leases are out, the state counts ${state.open.outstanding}.`)
    }
    places.sort((a, b) => a.range.start - b.range.start)
    let end = 0
    let before = 'nowhere'
    let missing = 0
    for (const { range, where } of places) {
      if (range.end <= range.start) throw new Error(`An empty range is ${where}.`)
      missing += Math.max(0, range.start - end)
      if (range.start < end) throw new Error(`Batch ${range.start} is ${where} and ${before}.`)
      end = range.end
      before = where
    }
    missing += next - end
    if (missing !== skipped) throw new Error(`${missing} batches are nowhere, the state counts ${skipped}.`)
  }
}

/** The first `count` batches of some ranges. */
export function firstBatches(ranges: readonly BatchRange[], count: number): BatchRange[] {
  const first: BatchRange[] = []
  let left = count
  for (const { start, end } of ranges) {
    if (left <= 0) break
    const taken = Math.min(left, end - start)
    first.push({ start, end: start + taken })
    left -= taken
  }
  return first
}

function countBatches(ranges: readonly BatchRange[]): number {
  return ranges.reduce((sum, { start, end }) => sum + end - start, 0)
}
