/**
 * What a simulation is asked for: how far it came and how fast, where the peers' time went, what travelled, and what
 * became of the work. Totals and one row per round and peer; never the events themselves.
 */
import type { RunEvent } from '../events.ts'
import type { RunState } from '../state.ts'
import type { PeerAccount, TimeUse } from './peer-account.ts'
import type { PeerTraits, WorldSettings } from './world.ts'

export interface RoundRow {
  readonly round: number
  readonly openedAtMs: number
  readonly closedAtMs: number
  /** When the host had merged it; null when the run ended before. */
  readonly mergedAtMs: number | null
  /** In the run when it opened, and with a lease. */
  readonly present: number
  readonly assigned: number
  readonly inTime: number
  /** Contributions with a lease of an earlier round. */
  readonly late: number
  readonly steps: number
  readonly tokens: number
  /** Mean over the accepted batches, as peers reported it; null without training. */
  readonly trainingLoss: number | null
  readonly validationLoss: number | null
}

export interface PeerRow {
  readonly name: string
  readonly stepsPerSecond: number
  readonly acceptedSteps: number
  readonly sessions: number
  /** Of the time that it was switched on. */
  readonly computingShare: number
  readonly sentBytes: number
  readonly receivedBytes: number
}

export interface Quantiles {
  readonly count: number
  readonly least: number
  readonly median: number
  /** Nine in ten are below. */
  readonly ninetieth: number
  readonly most: number
}

export interface SimulationReport {
  readonly rounds: readonly RoundRow[]
  readonly peers: readonly PeerRow[]
  readonly events: number
  readonly virtualMs: number
  readonly tokens: number
  readonly tokensPerSecond: number
  /** Of all accepted updates. */
  readonly updateBytes: number
  /** Batches: leased in all, of those accepted, taken back, and still out; and how many numbers were used. */
  readonly batches: {
    readonly leased: number
    readonly trained: number
    readonly returned: number
    readonly out: number
    readonly next: number
  }
  readonly contributions: {
    readonly accepted: number
    /** Of the accepted. */
    readonly late: number
    readonly expired: number
    readonly refused: number
    readonly dropped: number
    readonly abandoned: number
  }
  readonly membership: {
    readonly joins: number
    readonly leaves: number
    readonly vanished: number
    readonly returns: number
    readonly refusedJoins: number
  }
  /** Shares of all peers' time in the run; they add up to 1. */
  readonly time: Readonly<Record<Exclude<TimeUse, 'away'>, number>>
  readonly computingShare: Quantiles
  readonly peerSentBytes: Quantiles
  readonly peerReceivedBytes: Quantiles
  readonly host: { readonly sentBytes: number; readonly receivedBytes: number }
  /** From coming back to the next accepted contribution. */
  readonly returnMs: Quantiles
  readonly losses: readonly { round: number; atMs: number; tokens: number; loss: number }[]
  /** SHA-256 over the events as a log would hold them, and of the state that they lead to. */
  readonly traceHash: string
  readonly stateHash: string
}

interface BookedPeer {
  readonly traits: PeerTraits
  readonly account: PeerAccount
}

/** Keeps the accounts of one simulation. */
export class SimulationBook {
  private readonly peers: readonly BookedPeer[]
  private readonly options: { readonly world: WorldSettings; readonly training?: unknown }
  private readonly rows: RoundRow[] = []
  private readonly counts = { events: 1, joins: 0, leaves: 0, vanished: 0, accepted: 0, late: 0, expired: 0 }
  private leasedSteps = 0
  private tokens = 0
  private updateBytes = 0
  private readonly losses: { round: number; atMs: number; tokens: number; loss: number }[] = []
  private readonly returns: number[] = []
  private readonly host = { sentBytes: 0, receivedBytes: 0 }
  private servedByPeers = 0
  private opened: { atMs: number; present: number; assigned: number } | undefined

  constructor(
    peers: readonly BookedPeer[],
    options: { readonly world: WorldSettings; readonly training?: unknown },
  ) {
    this.peers = peers
    this.options = options
  }

  /** An event was taken. */
  saw(event: RunEvent, before: RunState, state: RunState): void {
    const { counts } = this
    counts.events++
    if (event.type === 'joined') counts.joins++
    if (event.type === 'left') counts.leaves++
    if (event.type === 'vanished') counts.vanished++
    if (event.type === 'contributed') counts.accepted++
    if (state.closed.at(-1)?.round !== before.closed.at(-1)?.round) this.roundClosed(state)
    if (state.open !== null && state.open !== before.open) {
      const { round, openedAtMs } = state.open
      if (round !== before.open?.round || openedAtMs !== before.open.openedAtMs) this.roundOpened(state)
    }
    if (event.type === 'checkpointed') {
      const at = this.rows.findLastIndex(({ round }) => round === event.round)
      if (at >= 0) this.rows[at] = { ...this.rows[at]!, mergedAtMs: state.nowMs }
    }
  }

  accepted(peer: BookedPeer, steps: number, nowMs: number): void {
    const { account } = peer
    account.acceptedSteps += steps
    if (account.returnedAtMs === undefined) return
    this.returns.push(nowMs - account.returnedAtMs)
    account.returnedAtMs = undefined
  }

  measured(round: number, loss: number): void {
    const at = this.rows.findLastIndex((row) => row.round === round)
    if (at < 0) return
    const row = { ...this.rows[at]!, validationLoss: loss }
    this.rows[at] = row
    this.losses.push({ round, atMs: row.mergedAtMs ?? row.closedAtMs, tokens: this.tokens, loss })
  }

  rowOf(round: number): RoundRow {
    return this.rows.findLast((row) => row.round === round)!
  }

  uploaded({ account }: BookedPeer, bytes: number): void {
    account.sentBytes += bytes
    this.host.receivedBytes += bytes
  }

  downloaded({ account }: BookedPeer, bytes: number, hostShare: number): void {
    account.receivedBytes += bytes
    this.host.sentBytes += bytes * hostShare
    this.servedByPeers += bytes * (1 - hostShare)
  }

  report(end: {
    readonly state: RunState
    readonly acceptedSteps: number
    readonly traceHash: string
    readonly stateHash: string
  }): SimulationReport {
    const { state, acceptedSteps, traceHash, stateHash } = end
    const { counts } = this
    const out = sum([...state.members.values()].map(({ lease }) => lease?.steps ?? 0))
    const peers = this.peerRows()
    const accounts = this.peers.map(({ account }) => account)
    const all = (of: (account: PeerAccount) => number): number => sum(accounts.map(of))
    const spent = (use: TimeUse): number => all(({ timeMs }) => timeMs[use])
    const present =
      spent('computing') + spent('communicating') + spent('preparing') + spent('waiting') || Number.MIN_VALUE
    return {
      rounds: this.rows,
      peers,
      events: counts.events,
      virtualMs: state.nowMs,
      tokens: this.tokens,
      tokensPerSecond: (1000 * this.tokens) / Math.max(1, state.nowMs),
      updateBytes: this.updateBytes,
      batches: {
        leased: this.leasedSteps,
        trained: acceptedSteps,
        returned: this.leasedSteps - acceptedSteps - out,
        out,
        next: state.batches.next,
      },
      contributions: {
        accepted: counts.accepted,
        late: counts.late,
        expired: sum([...state.members.values()].map(({ expired }) => expired)),
        refused: all(({ refusedReports }) => refusedReports),
        dropped: all(({ dropped }) => dropped),
        abandoned: all(({ abandoned }) => abandoned),
      },
      membership: {
        joins: counts.joins,
        leaves: counts.leaves,
        vanished: counts.vanished,
        returns: all(({ sessions }) => Math.max(0, sessions - 1)),
        refusedJoins: all(({ refusedJoins }) => refusedJoins),
      },
      time: {
        computing: spent('computing') / present,
        communicating: spent('communicating') / present,
        preparing: spent('preparing') / present,
        waiting: spent('waiting') / present,
      },
      computingShare: quantilesOf(peers.map(({ computingShare }) => computingShare)),
      peerSentBytes: quantilesOf(peers.map(({ sentBytes }) => sentBytes)),
      peerReceivedBytes: quantilesOf(peers.map(({ receivedBytes }) => receivedBytes)),
      host: { ...this.host },
      returnMs: quantilesOf(this.returns),
      losses: this.losses,
      traceHash,
      stateHash,
    }
  }

  private roundOpened(state: RunState): void {
    const { openedAtMs, assigned, round } = state.open!
    this.opened = { atMs: openedAtMs, present: state.counts.present, assigned }
    for (const { lease } of state.members.values()) {
      if (lease?.round === round && lease.grantedAtMs === openedAtMs) this.leasedSteps += lease.steps
    }
  }

  private roundClosed(state: RunState): void {
    const { round, accepted } = state.closed.at(-1)!
    const late = accepted.filter(({ leaseRound }) => leaseRound !== round).length
    const steps = sum(accepted.map((each) => each.steps))
    const tokens = sum(accepted.map((each) => each.tokens))
    const trained = this.options.training !== undefined && steps > 0
    this.counts.late += late
    this.tokens += tokens
    this.updateBytes += sum(accepted.map((each) => each.bytes))
    this.rows.push({
      round,
      openedAtMs: this.opened?.atMs ?? 0,
      closedAtMs: state.nowMs,
      mergedAtMs: null,
      present: this.opened?.present ?? 0,
      assigned: this.opened?.assigned ?? 0,
      inTime: accepted.length - late,
      late,
      steps,
      tokens,
      trainingLoss: trained ? sum(accepted.map((each) => each.loss * each.steps)) / steps : null,
      validationLoss: null,
    })
  }

  private peerRows(): PeerRow[] {
    // What peers gave each other was booked together: each gave by its line and by the time it was there.
    const weights = this.peers.map(({ traits, account }) => traits.upBytesPerSecond * presentMs(account))
    const total = sum(weights) || 1
    return this.peers.map(({ traits, account }, i) => ({
      name: traits.name,
      stepsPerSecond: traits.stepsPerSecond,
      acceptedSteps: account.acceptedSteps,
      sessions: account.sessions,
      computingShare: presentMs(account) === 0 ? 0 : account.timeMs.computing / presentMs(account),
      sentBytes: account.sentBytes + (this.servedByPeers * weights[i]!) / total,
      receivedBytes: account.receivedBytes,
    }))
  }
}

function presentMs({ timeMs }: PeerAccount): number {
  return timeMs.computing + timeMs.communicating + timeMs.preparing + timeMs.waiting
}

function quantilesOf(values: readonly number[]): Quantiles {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0
  return { count: sorted.length, least: at(0), median: at(0.5), ninetieth: at(0.9), most: at(1) }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
