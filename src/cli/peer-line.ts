/** A peer's own state as one line: where the run is, what it does and why, and its last contribution that counted. */
import type { PeerStatus } from '../run/index.ts'
import { counted, formatBytes, formatCount, formatLoss } from './format.ts'

/** When its newest accepted contribution came through, and what it held. */
export interface LastWork {
  readonly at: Date
  readonly tokens: number
}

type Shown = Omit<PeerStatus, 'stepsPerSecond' | 'innerSteps' | 'contributions' | 'checkpoint'>

export function peerLine(status: Shown, work: LastWork | undefined): string {
  const doing =
    status.phase === 'training'
      ? `training, step ${status.step}/${status.leaseSteps}`
      : status.phase === 'waiting'
        ? `waiting ${status.why}`
        : status.why
  const traffic = `sent ${formatBytes(status.sentBytes)}, received ${formatBytes(status.receivedBytes)}`
  // Before a host has told of the run there is no round, and nothing that could have been accepted.
  if (status.lastRound === 0) return [doing, traffic].join('  ·  ')
  return [
    `round ${status.round}/${status.lastRound}`,
    doing,
    `loss ${formatLoss(status.loss ?? undefined)}`,
    `${formatCount(status.tokensPerSecond ?? Number.NaN)} tokens/s`,
    traffic,
    ...(status.share > 0 ? [`${(100 * status.share).toFixed(1)} % of the run`] : []),
    lastAccepted(status, work),
  ].join('  ·  ')
}

function lastAccepted({ lastAccepted: round, lastVerdict }: Shown, work: LastWork | undefined): string {
  const { outcome } = lastVerdict ?? {}
  const bad = outcome === 'expired' ? 'ran out' : outcome === 'rejected' ? 'refused:' : undefined
  const trouble =
    bad === undefined ? '' : `; round ${lastVerdict!.round} ${bad} ${lastVerdict!.reason}`.trimEnd()
  if (round === 0) return `nothing accepted yet${trouble}`
  const when = work === undefined ? '' : ` at ${work.at.toLocaleTimeString('en-GB')}`
  const held = work === undefined ? '' : ` (${counted(work.tokens, 'token')})`
  return `last accepted: round ${round}${when}${held}${trouble}`
}
