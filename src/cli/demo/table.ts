/**
 * The demo's picture of the swarm: one row per peer, made anew from what the processes last said. A pure function
 * from state to lines, so that it can be tested and shown on any terminal.
 */
import { formatBytes, formatCount, formatDuration, formatLoss, formatTable, printable } from '../format.ts'

export interface PeerRow {
  readonly name: string
  readonly phase: string
  readonly step: number
  readonly loss: number | undefined
  readonly tokensPerSecond: number | undefined
  readonly bytesUp: number
  readonly bytesDown: number
  /** Round of the newest contribution that the host accepted; 0 for none yet. */
  readonly lastAccepted: number
}

export interface SwarmView {
  readonly round: number
  readonly rounds: number
  readonly elapsedSeconds: number
  readonly secondsLeft: number | undefined
  readonly validation: readonly { readonly round: number; readonly loss: number }[]
  readonly peers: readonly PeerRow[]
  /** What happened last, newest at the end. */
  readonly news: readonly string[]
}

const header = ['peer', 'phase', 'step', 'loss', 'tokens/s', 'sent', 'received', 'last accepted']
const numeric = new Set([2, 3, 4, 5, 6])

/** The block that is redrawn at a terminal. */
export function renderSwarm(view: SwarmView): string {
  return [headline(view), '', ...peerTable(view.peers), '', ...view.news.slice(-4)].join('\n')
}

/** The same in one line, for logs. */
export function summariseSwarm(view: SwarmView): string {
  const peers = view.peers
    .map(
      (peer) =>
        `${printable(peer.name)} ${printable(peer.phase)} step ${peer.step} loss ${formatLoss(peer.loss)}`,
    )
    .join(' · ')
  return `${headline(view)} | ${peers}`
}

function peerTable(peers: readonly PeerRow[]): string[] {
  const rows = peers.map((peer) => [
    printable(peer.name),
    printable(peer.phase),
    String(peer.step),
    formatLoss(peer.loss),
    peer.tokensPerSecond === undefined ? '–' : formatCount(peer.tokensPerSecond),
    formatBytes(peer.bytesUp),
    formatBytes(peer.bytesDown),
    peer.lastAccepted === 0 ? '–' : `round ${peer.lastAccepted}`,
  ])
  return formatTable([header, ...rows], numeric)
}

function headline(view: SwarmView): string {
  const parts = [`round ${view.round}/${view.rounds}`, formatDuration(view.elapsedSeconds)]
  if (view.secondsLeft !== undefined) parts.push(`about ${formatDuration(view.secondsLeft)} left`)
  const latest = view.validation.at(-1)
  const first = view.validation[0]
  if (latest !== undefined && first !== undefined) {
    parts.push(
      latest === first
        ? `validation loss ${formatLoss(first.loss)}`
        : `validation loss ${formatLoss(first.loss)} → ${formatLoss(latest.loss)}`,
    )
  }
  return parts.join('  ·  ')
}
