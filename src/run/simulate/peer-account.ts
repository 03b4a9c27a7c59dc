/** Where a peer's time goes, and what it has sent, received and achieved. */

export type TimeUse = 'away' | 'computing' | 'communicating' | 'preparing' | 'waiting'

export interface PeerAccount {
  /** Milliseconds by what was done: inner steps; transfers and waiting for an answer; codec, merging and compiling; nothing. */
  readonly timeMs: Record<TimeUse, number>
  sentBytes: number
  receivedBytes: number
  sessions: number
  departures: number
  /** Updates that were made and never sent. */
  dropped: number
  /** Leases given up because the run had taken them back. */
  abandoned: number
  refusedJoins: number
  refusedReports: number
  acceptedSteps: number
  /** When it last came back, until its next accepted contribution. */
  returnedAtMs: number | undefined
}

export class PeerClock {
  readonly account: PeerAccount = {
    timeMs: { away: 0, computing: 0, communicating: 0, preparing: 0, waiting: 0 },
    sentBytes: 0,
    receivedBytes: 0,
    sessions: 0,
    departures: 0,
    dropped: 0,
    abandoned: 0,
    refusedJoins: 0,
    refusedReports: 0,
    acceptedSteps: 0,
    returnedAtMs: undefined,
  }
  private use: TimeUse = 'away'
  private sinceMs = 0

  switchTo(use: TimeUse, nowMs: number): void {
    this.pass(nowMs)
    this.use = use
  }

  pass(nowMs: number): void {
    this.account.timeMs[this.use] += nowMs - this.sinceMs
    this.sinceMs = nowMs
  }

  /** Inner steps were done while something else was waited for. */
  wasComputing(ms: number): void {
    const { timeMs } = this.account
    timeMs.computing += ms
    timeMs.communicating -= ms
  }
}
