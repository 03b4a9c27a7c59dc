/**
 * A link that many transfers share, each of which also has a narrower end of its own: max-min fairness (Bertsekas and
 * Gallager, Data Networks, 1992, 6.5.2). Who cannot use an equal share leaves the rest to the others, so with the level
 * λ transfer i goes at min(cᵢ, λ) where Σ min(cᵢ, λ) is the capacity.
 *
 * Ten thousand transfers may share one link, and each that starts or ends changes the pace of all. So nothing is
 * computed per transfer: those that go at λ are measured against ∫λ dt, those at their own cᵢ have a fixed end, and
 * one that passes from one kind to the other is looked at then. A start or an end costs O(log n).
 */
import { EventQueue } from './event-queue.ts'

export class Transfer {
  readonly bytes: number
  /** Bytes per millisecond that its own end takes. */
  readonly pace: number
  /** Called when the last byte is there. */
  readonly done: () => void
  /** What its entries in the queues must say to be valid; -1 when it is over. */
  version = 0
  atLevel = true
  /** Of ∫λ dt where it goes at λ; of the time in ms otherwise. */
  end = 0

  constructor(bytes: number, pace: number, done: () => void) {
    this.bytes = bytes
    this.pace = pace
    this.done = done
  }
}

interface Waiting {
  readonly transfer: Transfer
  readonly version: number
}

/** Entries whose transfer has changed since are skipped, and thrown out before they are many. */
class Candidates {
  private queue = new EventQueue<Waiting>()

  get size(): number {
    return this.queue.size
  }

  push(key: number, transfer: Transfer, active: number): void {
    if (this.queue.size > 4 * active + 64) this.queue = this.queue.filter(isValid)
    this.queue.push(key, { transfer, version: transfer.version })
  }

  /** The valid one with the smallest key. */
  first(): { readonly key: number; readonly transfer: Transfer } | undefined {
    for (;;) {
      const entry = this.queue.peek()
      if (entry === undefined) return undefined
      if (isValid(entry.value)) return { key: entry.atMs, transfer: entry.value.transfer }
      this.queue.pop()
    }
  }
}

function isValid({ transfer, version }: Waiting): boolean {
  return transfer.version === version
}

export class SharedLink {
  private capacity: number
  private timeMs = 0
  /** ∫λ dt, in bytes. */
  private travelled = 0
  private level = Number.POSITIVE_INFINITY
  private levelCount = 0
  private ownCount = 0
  /** Σ cᵢ of those at their own pace. */
  private ownPace = 0
  private readonly levelByEnd = new Candidates()
  private readonly levelByPace = new Candidates()
  private readonly ownByEnd = new Candidates()
  private readonly ownByPace = new Candidates()

  constructor(bytesPerSecond: number) {
    this.capacity = bytesPerSecond / 1000
  }

  get active(): number {
    return this.levelCount + this.ownCount
  }

  /** Entries in the queues, valid or not: bounded by a multiple of `active`. */
  get waitingEntries(): number {
    return [this.levelByEnd, this.levelByPace, this.ownByEnd, this.ownByPace].reduce(
      (n, { size }) => n + size,
      0,
    )
  }

  /** When the next transfer ends if nothing starts before; infinity when there is none. */
  get nextEndMs(): number {
    const own = this.ownByEnd.first()?.key ?? Number.POSITIVE_INFINITY
    const level = this.levelByEnd.first()
    if (level === undefined) return own
    return Math.min(own, this.timeMs + Math.max(0, level.key - this.travelled) / this.level)
  }

  start(nowMs: number, bytes: number, bytesPerSecond: number, done: () => void): Transfer {
    this.passTime(nowMs)
    const transfer = new Transfer(bytes, bytesPerSecond / 1000, done)
    this.enterLevel(transfer, bytes)
    this.balance()
    return transfer
  }

  /** Breaks a transfer off, and says how many bytes had passed. */
  cancel(nowMs: number, transfer: Transfer): number {
    if (transfer.version < 0) return transfer.bytes
    this.passTime(nowMs)
    const left = this.leave(transfer)
    transfer.version = -1
    this.balance()
    return Math.max(0, transfer.bytes - left)
  }

  setCapacity(nowMs: number, bytesPerSecond: number): void {
    this.passTime(nowMs)
    this.capacity = bytesPerSecond / 1000
    this.balance()
  }

  /** Ends those whose last byte has passed, and gives them. */
  takeEnded(nowMs: number): Transfer[] {
    const ended: Transfer[] = []
    // A remainder below a thousandth of a byte is rounding.
    while (this.nextEndMs <= nowMs || this.isDone(nowMs)) {
      this.passTime(Math.min(nowMs, Math.max(this.timeMs, this.nextEndMs)))
      const own = this.ownByEnd.first()
      const level = this.levelByEnd.first()
      const transfer = own !== undefined && own.key <= this.timeMs ? own.transfer : level?.transfer
      if (transfer === undefined) break
      this.leave(transfer)
      transfer.version = -1
      ended.push(transfer)
      this.balance()
    }
    return ended
  }

  private isDone(nowMs: number): boolean {
    const level = this.levelByEnd.first()
    if (level === undefined) return false
    return level.key - this.travelled - this.level * (nowMs - this.timeMs) < 1e-3
  }

  private passTime(nowMs: number): void {
    const passed = nowMs - this.timeMs
    if (passed <= 0) return
    if (this.levelCount > 0) this.travelled += this.level * passed
    this.timeMs = nowMs
  }

  private enterLevel(transfer: Transfer, left: number): void {
    transfer.version++
    transfer.atLevel = true
    transfer.end = this.travelled + left
    this.levelCount++
    this.levelByEnd.push(transfer.end, transfer, this.active)
    this.levelByPace.push(transfer.pace, transfer, this.active)
  }

  private enterOwn(transfer: Transfer, left: number): void {
    transfer.version++
    transfer.atLevel = false
    transfer.end = this.timeMs + left / transfer.pace
    this.ownCount++
    this.ownPace += transfer.pace
    this.ownByEnd.push(transfer.end, transfer, this.active)
    this.ownByPace.push(-transfer.pace, transfer, this.active)
  }

  /** Takes it out of its kind and says how many bytes are left. */
  private leave(transfer: Transfer): number {
    transfer.version++
    if (transfer.atLevel) {
      this.levelCount--
      return Math.max(0, transfer.end - this.travelled)
    }
    this.ownCount--
    this.ownPace = this.ownCount === 0 ? 0 : this.ownPace - transfer.pace
    return Math.max(0, (transfer.end - this.timeMs) * transfer.pace)
  }

  /** Finds λ. It only rises while this goes on, so no transfer changes its kind more than twice. */
  private balance(): void {
    for (;;) {
      const spare = this.capacity - this.ownPace
      this.level = this.levelCount > 0 ? spare / this.levelCount : Number.POSITIVE_INFINITY
      const fastest = this.ownByPace.first()
      const overfull = this.levelCount > 0 ? this.level : spare < -1e-9 * this.capacity ? 0 : this.level
      if (fastest !== undefined && -fastest.key > overfull * (1 + 1e-9)) {
        this.enterLevel(fastest.transfer, this.leave(fastest.transfer))
        continue
      }
      const slowest = this.levelByPace.first()
      if (slowest === undefined || slowest.key > this.level) return
      this.enterOwn(slowest.transfer, this.leave(slowest.transfer))
    }
  }
}
