/**
 * The host’s log, read beside the host and without the right to write. It is folded with the reducer of the program itself;
 * what is counted beside the fold is counted from the events alone.
 */
import { createHash } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { isDeepStrictEqual } from 'node:util'
import { createRun, decodeEvent, type RunEvent, type RunState, step } from '../../src/run/index.ts'
import type { PublicStatus } from '../../src/run/protocol.ts'
import { publicStatus } from '../../src/run/status.ts'

export interface LogReading {
  readonly entries: number
  readonly closedRounds: number
  readonly contributions: number
}

/** More than a host adds between two readings. */
const statesKept = 2048

export class LogReader {
  readonly violations: string[] = []
  state: RunState | undefined
  /** States of the living host that were compared with those that its log leads to. */
  compared = 0
  private readonly path: string
  private readonly hash = createHash('sha256')
  private next = 0
  private lastBytes: Uint8Array | undefined
  /** The newest states by version: they share nearly all of their memory. */
  private readonly states = new Map<number, RunState>()
  /** What the host said of states that were not read yet. */
  private readonly said: PublicStatus[] = []
  /** Contributions in the log by peer, round of the lease, and update: how many closed rounds count each. */
  private readonly counted = new Map<string, number>()
  private readonly contributedRounds = new Set<string>()
  private readonly byPeer = new Map<string, number>()
  private readonly checkpoints = new Map<number, string>()
  private readonly mergedRounds = new Set<number>()
  /** Batches that closed rounds have counted: each at most once. */
  private readonly trained = new Set<number>()

  constructor(path: string) {
    this.path = path
  }

  get reading(): LogReading {
    return {
      entries: this.next,
      closedRounds: this.mergedRounds.size,
      contributions: this.counted.size,
    }
  }

  /** Reads what is new. Returns false when the file cannot be read now: there is none yet, or no room for a reader. */
  catchUp(): boolean {
    let rows: { position: number; bytes: Uint8Array }[]
    try {
      using database = openReadOnly(this.path)
      rows = database
        .prepare('SELECT position, bytes FROM entries WHERE position >= ? ORDER BY position')
        .all(Math.max(0, this.next - 1)) as typeof rows
    } catch {
      return false // whether it can be read at the end is asked again then
    }
    if (this.next > 0) this.compareWithLast(rows.shift())
    for (const { position, bytes } of rows) {
      if (position !== this.next) {
        this.violate(`the log has entry ${position} where entry ${this.next} must be`)
        return true
      }
      this.take(new Uint8Array(bytes), position)
      this.next += 1
    }
    this.compareWithSaid()
    return true
  }

  /** Names all entries read so far. */
  digest(): string {
    return this.hash.copy().digest('hex')
  }

  checkpointOf(round: number): string | undefined {
    return this.checkpoints.get(round)
  }

  hasContribution(peer: string, round: number): boolean {
    return this.contributedRounds.has(`${peer} ${round}`)
  }

  contributionsOf(peer: string): number {
    return this.byPeer.get(peer) ?? 0
  }

  /** Contributions that no closed round counts. */
  uncounted(): string[] {
    return [...this.counted].filter(([, times]) => times === 0).map(([key]) => key)
  }

  /** Takes note of what the host says about its state; it is compared once the log is read so far. */
  hear(status: PublicStatus): void {
    this.said.push(status)
  }

  private keep(state: RunState): void {
    this.state = state
    this.states.set(state.version, state)
    this.states.delete(state.version - statesKept)
  }

  private compareWithSaid(): void {
    for (const status of this.said.splice(0)) {
      const state = this.states.get(status.version)
      if (state !== undefined) {
        this.compared += 1
        const { name, method, nowMs } = status
        const replayed = publicStatus({ state, name, method, nowMs, progress: new Map() })
        if (!isDeepStrictEqual(replayed, withoutProgress(status))) {
          this.violate(`after event ${status.version} the host is in another state than its log leads to`)
        }
      } else if (status.version > this.next) this.said.push(status)
    }
  }

  private compareWithLast(row: { bytes: Uint8Array } | undefined): void {
    if (row === undefined) this.violate(`entry ${this.next - 1} of the log has disappeared`)
    else if (Buffer.compare(row.bytes, this.lastBytes!) !== 0) {
      this.violate(`entry ${this.next - 1} of the log is another one than before`)
    }
  }

  private take(bytes: Uint8Array, position: number): void {
    this.lastBytes = bytes
    this.hash.update(bytes)
    let event: RunEvent
    try {
      event = decodeEvent(bytes, position)
    } catch (thrown) {
      this.violate(`entry ${position} of the log cannot be read: ${String(thrown)}`)
      return
    }
    if (event.type === 'created') {
      this.keep(createRun(event))
      this.checkpoints.set(0, event.checkpoint)
      return
    }
    const { state, effects, refusal } = step(this.state!, event)
    if (refusal !== undefined) {
      this.violate(`entry ${position} (${event.type}) cannot follow those before it: ${refusal.message}`)
    }
    this.keep(state)
    if (event.type === 'contributed') {
      const key = `${event.peer} ${event.round} ${event.update}`
      if (this.counted.has(key)) this.violate(`the log has contribution ${key} twice`)
      this.counted.set(key, 0)
      this.byPeer.set(event.peer, this.contributionsOf(event.peer) + 1)
      this.contributedRounds.add(`${event.peer} ${event.round}`)
    }
    if (event.type === 'checkpointed') this.checkpoints.set(event.round, event.checkpoint)
    for (const effect of effects) if (effect.type === 'merge') this.countMerge(effect)
  }

  private countMerge({ round, accepted }: MergeEffect): void {
    if (this.mergedRounds.has(round)) this.violate(`round ${round} is merged twice`)
    this.mergedRounds.add(round)
    for (const { peer, leaseRound, update, ranges } of accepted) {
      const key = `${peer} ${leaseRound} ${update}`
      const times = this.counted.get(key)
      if (times === undefined) this.violate(`round ${round} counts ${key}, which nobody contributed`)
      else if (times > 0) this.violate(`round ${round} counts ${key} once more`)
      this.counted.set(key, (times ?? 0) + 1)
      for (const range of ranges) this.countBatches(range, round)
    }
  }

  private countBatches({ start, end }: { start: number; end: number }, round: number): void {
    for (let batch = start; batch < end; batch++) {
      if (this.trained.has(batch)) this.violate(`round ${round} counts batch ${batch} once more`)
      this.trained.add(batch)
    }
  }

  private violate(text: string): void {
    this.violations.push(text)
  }
}

type MergeEffect = Extract<ReturnType<typeof step>['effects'][number], { type: 'merge' }>

/** What members say about themselves is in no log. */
function withoutProgress(status: PublicStatus): PublicStatus {
  return { ...status, members: status.members.map((member) => ({ ...member, phase: null })) }
}

/** A reader that neither makes the file nor writes to it. */
function openReadOnly(path: string): DatabaseSync {
  return new DatabaseSync(path, { readOnly: true, timeout: 2000 })
}
