/**
 * What a peer knows of itself and tells: where it stands, what it is doing and why, what became of its work. The peer
 * writes it down as it goes; whoever lends the machine reads it as a status, the host as progress.
 */
import { remedyFor } from './judge.ts'
import type { PeerEvent, PeerStatus } from './peer-status.ts'
import type { CheckpointName, LeaseView, PeerPhase, Progress, RunView } from './protocol.ts'
import type { Verdict } from './state.ts'

/** What a status needs that others keep. */
export interface RecordSources {
  readonly ledger: () => { readonly sentBytes: number; readonly receivedBytes: number }
  readonly held: () => CheckpointName | null
  /** Of the median peer; 0 as long as that is not known. */
  readonly innerSteps: () => number
  readonly onEvent: (event: PeerEvent) => void
}

export class PeerRecord {
  private readonly sources: RecordSources
  private phase: PeerPhase = 'connecting'
  private why = 'looking for the host'
  private step = 0
  private loss: number | null = null
  private tokensPerSecond: number | null = null
  private measured: number | null = null
  private lease: LeaseView | null = null
  private view: RunView | undefined
  private contributions = 0
  /** Of this peer's, also by earlier processes, that had been accepted when its lease was given. */
  private contributionsBefore = 0
  private lastAccepted = 0
  private lastVerdict: Verdict | null = null

  constructor(sources: RecordSources) {
    this.sources = sources
  }

  /** Steps per second as this peer measured them itself. */
  get stepsPerSecond(): number | null {
    return this.measured
  }

  enter(phase: PeerPhase, why: string): void {
    if (phase === this.phase && why === this.why) return
    this.phase = phase
    this.why = why
    this.sources.onEvent({ type: 'phase', phase, why })
  }

  /** Takes note of a view, and of what it says became of this peer's work. */
  saw(view: RunView): void {
    if (view === this.view) return
    this.view = view
    const { lastVerdict } = view.you
    if (lastVerdict !== null && lastVerdict.round >= (this.lastVerdict?.round ?? 0))
      this.lastVerdict = lastVerdict
  }

  measuredItself(stepsPerSecond: number | null): void {
    this.measured = stepsPerSecond
    this.sources.onEvent({ type: 'measured', stepsPerSecond })
  }

  began(lease: LeaseView): void {
    this.lease = lease
    this.step = 0
    this.contributionsBefore = this.view?.you.contributions ?? this.contributions
    this.sources.onEvent({ type: 'leased', round: lease.round, steps: lease.steps })
    this.enter('training', '')
  }

  stepped(done: { readonly step: number; readonly loss: number; readonly tokensPerSecond: number }): void {
    const { step, loss, tokensPerSecond } = done
    this.step = step
    this.loss = loss
    this.tokensPerSecond = tokensPerSecond
    this.sources.onEvent({ type: 'step', round: this.lease!.round, step, loss })
  }

  /** The lease is over, whatever became of it. */
  ended(): void {
    this.lease = null
  }

  judged(verdict: Verdict): void {
    this.lastVerdict = verdict
  }

  /** `countedIn` is the round that counts it. */
  accepted(
    round: number,
    countedIn: number,
    work: { readonly steps: number; readonly tokens: number },
  ): void {
    this.contributions = this.contributionsBefore + 1 // the view that says so may not have come yet
    this.lastAccepted = countedIn
    this.sources.onEvent({ type: 'accepted', round, countedIn, ...work })
  }

  status(): PeerStatus {
    const { view, lastVerdict } = this
    const { ledger, held, innerSteps } = this.sources
    const { sentBytes, receivedBytes } = ledger()
    return {
      phase: this.phase,
      why: this.why,
      round: view?.round ?? 0,
      lastRound: view?.lastRound ?? 0,
      step: this.step,
      leaseSteps: this.lease?.steps ?? 0,
      innerSteps: innerSteps(),
      loss: this.loss,
      tokensPerSecond: this.tokensPerSecond,
      stepsPerSecond: view?.you.stepsPerSecond ?? this.measured,
      share: view?.you.share ?? 0,
      contributions: Math.max(this.contributions, view?.you.contributions ?? 0),
      lastAccepted: Math.max(this.lastAccepted, view?.you.lastRound ?? 0),
      lastVerdict: lastVerdict === null ? null : { ...lastVerdict, remedy: remedyOf(lastVerdict) },
      checkpoint: held(),
      sentBytes,
      receivedBytes,
    }
  }

  progress(): Progress {
    const { phase, round, step, loss, tokensPerSecond, sentBytes, receivedBytes } = this.status()
    const finite = (value: number | null): number | null => (Number.isFinite(value) ? value : null)
    return {
      ...{ phase, round, step, sentBytes, receivedBytes },
      loss: finite(loss),
      tokensPerSecond: finite(tokensPerSecond),
    }
  }
}

function remedyOf({ outcome, code }: Verdict): string {
  if (outcome === 'rejected') return remedyFor(code)
  return outcome === 'expired'
    ? 'Nothing has to be done: the next lease is sized by this machine’s speed.'
    : ''
}
