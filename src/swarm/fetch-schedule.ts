/**
 * Which blob is asked of which source, and when. Each next blob goes to the source from which it is expected first,
 * so that load spreads by measured speed. When nothing is left to ask for, what is under way at a slow source is asked
 * of a fast one as well (the endgame of BitTorrent, http://bittorrent.org/bittorrentecon.pdf): whichever comes first
 * counts, the other is called off.
 */
import { CID } from 'multiformats/cid'
import { type Cid, type Clock, GroundswellError, messageOf } from '../core/index.ts'
import type { Blobs } from './blobs.ts'
import { Source, type SourceFailure } from './fetch-sources.ts'
import type { PeerId } from './peer-id.ts'
import { chunkProtocol, isRemote, type Transport } from './transport.ts'

export interface Wanted {
  readonly cid: Cid
  readonly maxBytes: number
}

export interface ScheduleInit {
  readonly transport: Transport
  readonly blobs: Blobs
  readonly clock: Clock
  readonly sources: () => readonly PeerId[]
  readonly chunkTimeoutMs: number
  readonly inFlight: number
  /** How long to go on while there is no source at all that could be asked. */
  readonly patienceMs: number
  readonly signal: AbortSignal
  readonly onDone: (wanted: Wanted) => void
  /** What to throw when no source is left that could give a blob. */
  readonly unavailable: (cid: Cid, failures: readonly SourceFailure[]) => Error
}

const scheduleLimits = {
  /** A blob that is under way is asked again of a source that is expected to give it in less than half the time. */
  endgameFactor: 2,
  /** Requests for one blob at a time… */
  maxAskedAtOnce: 2,
  /** …and for a small one, which is nearly nothing to get twice, after each such silence one more: they may be lost. */
  overdueMs: 5000,
  smallBytes: 65_536,
  maxAskedWhenOverdue: 4,
  /** How often the sources and what is under way are looked at again. */
  lookMs: 250,
  /** How often sources that have nothing to offer are asked again, within the patience. */
  retryMs: 1000,
  /** Failures that are remembered; the first and the newest. */
  maxFailures: 256,
} as const

/** Made once, as a new one with its stack for each chunk shows in profiles. */
const wokenUp = new Error('There is news.')

interface Asked {
  readonly wanted: Wanted
  readonly source: Source
  readonly at: number
  readonly callOff: AbortController
}

export class Schedule {
  readonly sources: Map<PeerId, Source> = new Map()
  readonly failures: SourceFailure[] = []
  fetchedBytes = 0
  duplicateBytes = 0
  private readonly init: ScheduleInit
  private readonly left: Map<Cid, Wanted>
  private readonly queue: Wanted[]
  private readonly underWay = new Set<Asked>()
  private readonly settling = new Set<Promise<void>>()
  private news = Promise.withResolvers<void>()
  private thrown: { readonly error: unknown } | undefined
  private sourcelessSince: number | undefined

  constructor(init: ScheduleInit, wanted: readonly Wanted[]) {
    this.init = init
    this.left = new Map(wanted.map((each) => [each.cid, each]))
    this.queue = [...this.left.values()]
  }

  /** Resolves when everything is in the store; when it settles, nothing is under way any more. */
  async run(): Promise<void> {
    const { signal } = this.init
    try {
      while (this.left.size > 0) {
        signal.throwIfAborted()
        if (this.thrown !== undefined) throw this.thrown.error
        this.takeInSources()
        while (this.askNext() || this.askAgain());
        await this.wait(this.underWay.size > 0 ? scheduleLimits.lookMs : this.pauseMs())
      }
    } finally {
      for (const { callOff } of this.underWay) callOff.abort(new Error('The fetch has ended.'))
      await Promise.all(this.settling)
    }
  }

  private takeInSources(): void {
    for (const peer of this.init.sources()) {
      if (peer !== this.init.transport.self && !this.sources.has(peer))
        this.sources.set(peer, new Source(peer))
    }
  }

  /** Asks for one more blob; false when there is nothing to ask for or nobody to ask. */
  private askNext(): boolean {
    if (this.underWay.size >= this.init.inFlight || !this.anybodyFree()) return false
    for (const [i, wanted] of this.queue.entries()) {
      const source = this.best(wanted)
      if (source === undefined) continue // others may have the next
      this.queue.splice(i, 1)
      this.ask(wanted, source)
      return true
    }
    return false
  }

  /** Asks a faster source for what a slow one holds up; false when there is nothing of the kind. */
  private askAgain(): boolean {
    if (this.queue.length > 0 || this.underWay.size >= this.init.inFlight) return false
    const { maxAskedAtOnce, maxAskedWhenOverdue, overdueMs, smallBytes } = scheduleLimits
    const now = this.init.clock.steady()
    for (const { wanted, source, at } of this.underWay) {
      const same = [...this.underWay].filter((each) => each.wanted === wanted)
      const silentMs = now - Math.max(...same.map((each) => each.at))
      const isOverdue = wanted.maxBytes <= smallBytes && silentMs >= overdueMs
      if (same.length >= (isOverdue ? maxAskedWhenOverdue : maxAskedAtOnce)) continue
      const other = this.best(wanted, source) ?? (isOverdue ? this.best(wanted) : undefined)
      const elapsedMs = now - at
      if (other === undefined || (!other.proven && elapsedMs < scheduleLimits.lookMs)) continue
      const expectedMs = source.expectedMs(wanted.maxBytes, source.underWay - 1) - elapsedMs
      // Overdue, or of unknown speed: it may take as long again as it has taken.
      const remainingMs = expectedMs > 0 ? expectedMs : elapsedMs
      if (remainingMs <= scheduleLimits.endgameFactor * other.expectedMs(wanted.maxBytes)) continue
      this.ask(wanted, other)
      return true
    }
    return false
  }

  private anybodyFree(): boolean {
    const now = this.init.clock.steady()
    const alone = this.sources.size === 1
    return this.askable().some((source) => source.restMs(now) === 0 && source.hasRoom(1, alone))
  }

  /** Those that did not lie; what was lost is asked again only while another carries on, or the fetch would never end. */
  private askable(): Source[] {
    const honest = [...this.sources.values()].filter(({ banned }) => !banned)
    return honest.some(({ lost }) => !lost) ? honest : []
  }

  /** The source that is expected to give it first. */
  private best({ cid, maxBytes }: Wanted, except?: Source): Source | undefined {
    const now = this.init.clock.steady()
    const able = this.askable().filter((source) => source !== except && !source.lacks.has(cid))
    return able
      .filter((source) => source.restMs(now) === 0 && source.hasRoom(maxBytes, able.length === 1))
      .sort((a, b) => a.expectedMs(maxBytes) - b.expectedMs(maxBytes) || a.underWay - b.underWay)[0]
  }

  /** How long to wait with nothing under way. @throws what `unavailable` gives when waiting is in vain */
  private pauseMs(): number {
    const { clock, patienceMs } = this.init
    const now = clock.steady()
    const sources = [...this.sources.values()]
    const next = this.queue[0]!
    const hopeful = sources.filter((source) => !source.lost && !source.lacks.has(next.cid))
    if (hopeful.length > 0) {
      this.sourcelessSince = undefined
      return Math.max(1, Math.min(...hopeful.map((source) => source.restMs(now))))
    }
    this.sourcelessSince ??= now
    const patientMs = patienceMs - (now - this.sourcelessSince)
    if (patientMs <= 0) throw this.init.unavailable(next.cid, this.failures)
    // Looked at again from the start after a pause: a peer may have come back, or have got the blob meanwhile.
    const pauseMs = Math.min(patientMs, scheduleLimits.retryMs)
    void clock.sleep(pauseMs, this.init.signal).then(
      () => {
        for (const source of sources) source.reconsider()
        this.tell()
      },
      () => undefined,
    )
    return pauseMs + scheduleLimits.lookMs
  }

  private ask(wanted: Wanted, source: Source): void {
    const asked = { wanted, source, at: this.init.clock.steady(), callOff: new AbortController() }
    this.underWay.add(asked)
    source.underWay += 1
    const settled = this.settle(asked).finally(() => {
      this.underWay.delete(asked)
      source.underWay -= 1
      this.settling.delete(settled)
      this.tell()
    })
    this.settling.add(settled)
  }

  /** One request until it has an outcome; never rejects. */
  private async settle(asked: Asked): Promise<void> {
    const { wanted, source, at, callOff } = asked
    const { transport, blobs, clock, chunkTimeoutMs, signal, onDone } = this.init
    try {
      const bytes = await transport.request(source.peer, chunkProtocol, CID.parse(wanted.cid).bytes, {
        maxReplyBytes: wanted.maxBytes,
        timeoutMs: chunkTimeoutMs,
        signal: AbortSignal.any([signal, callOff.signal]),
      })
      this.fetchedBytes += bytes.byteLength
      if (!this.left.has(wanted.cid)) {
        this.duplicateBytes += bytes.byteLength
        return
      }
      await blobs.put(bytes, { expected: wanted.cid, handedOver: true })
      source.gave(bytes.byteLength, clock.steady() - at)
      if (!this.left.delete(wanted.cid)) return // the other one was faster by a moment
      onDone(wanted)
      for (const other of this.underWay) {
        if (other.wanted === wanted && other.callOff !== callOff)
          other.callOff.abort(new Error('It has come.'))
      }
    } catch (thrown) {
      if (signal.aborted || callOff.signal.aborted) return
      this.recordFailure(asked, thrown)
    }
  }

  private recordFailure(asked: Asked, thrown: unknown): void {
    const { wanted, source } = asked
    const now = this.init.clock.steady()
    const reason = failureOf(thrown)
    this.underWay.delete(asked)
    if (reason === 'missing' || reason === 'timeout') this.callOff(wanted, source)
    const pending = [...this.underWay].some((each) => each.wanted === wanted)
    if (this.left.has(wanted.cid) && !pending) this.queue.unshift(wanted)
    if (isRemote(thrown, 'peer/busy') && source.wasBusy(now)) return
    if (reason === undefined) {
      this.thrown ??= { error: thrown } // our own disk or our own bug, not the source's fault
      return
    }
    if (reason === 'wrong-hash') this.init.transport.ledger.refused(source.peer, 'chunk-wrong-hash')
    if (reason === 'missing') source.lacks.add(wanted.cid)
    source.failed(reason, asked.at, now)
    this.failures.push({ peer: source.peer, cid: wanted.cid, reason, message: messageOf(thrown) })
    if (this.failures.length > scheduleLimits.maxFailures)
      this.failures.splice(scheduleLimits.maxFailures / 2, 1)
  }

  /** Waits no longer for other answers of a source that does not have the blob, or has been silent for so long. */
  private callOff(wanted: Wanted, source: Source): void {
    for (const other of this.underWay) {
      if (other.wanted !== wanted || other.source !== source) continue
      this.underWay.delete(other)
      other.callOff.abort(new Error('It will not come.'))
    }
  }

  private tell(): void {
    this.news.resolve()
  }

  private async wait(ms: number): Promise<void> {
    const { clock, signal } = this.init
    const woken = new AbortController()
    const until = AbortSignal.any([signal, woken.signal])
    try {
      await Promise.race([this.news.promise, clock.sleep(ms, until).catch(() => undefined)])
    } finally {
      woken.abort(wokenUp)
      this.news = Promise.withResolvers()
    }
  }
}

function failureOf(thrown: unknown): SourceFailure['reason'] | undefined {
  if (isRemote(thrown, 'blob/not-found')) return 'missing'
  switch (thrown instanceof GroundswellError ? thrown.code : undefined) {
    case 'blob/hash-mismatch':
      return 'wrong-hash'
    case 'peer/oversized':
      return 'oversized'
    case 'peer/timeout':
      return 'timeout'
    case 'peer/closed':
    case 'peer/unreachable':
      return 'broken'
    case 'peer/malformed':
      return 'malformed'
    case 'peer/refused':
    case 'peer/unsupported':
      return 'refused'
    default:
      return undefined
  }
}
