/** Why a peer waits, and what became of its work, in words for whoever lends the machine. */
import type { LeaseView, RunView } from './protocol.ts'

export function reasonToWait(view: RunView): string {
  const peers = (count: number): string => (count === 1 ? '1 more peer' : `${count} more peers`)
  if (view.missingPeers > 0) return `for ${peers(view.missingPeers)} to join`
  if (view.phase === 'paused') return 'for the owner of the run, who has paused it'
  if (view.phase === 'warmingUp') return 'for others who are still fetching what they need'
  if (view.phase === 'coolingDown') return 'for the host to merge the round'
  if (view.open === null) return 'for the next round'
  if (view.you.lastRound < view.open.round) return `for the next round: round ${view.open.round} is under way`
  if (view.phase === 'closing') {
    return `for the grace period: ${peers(view.open.outstanding)} may still report`
  }
  return `for ${peers(view.open.outstanding)} to report`
}

export function reasonToCatchUp(round: number, view: RunView): string {
  if (round < 0) return `fetching the checkpoint of round ${view.checkpoint.round}`
  if (view.checkpoint.round < round) {
    return `fetching the checkpoint of round ${view.checkpoint.round}: the host’s log has lost what came after it`
  }
  if (view.checkpoint.round > round && view.closed[0]?.round !== round + 1) {
    return `fetching the checkpoint of round ${view.checkpoint.round}: more was missed than can be merged`
  }
  return `merging what was accepted in round ${round + 1}`
}

/** Why a lease is not in the view any more. */
export function whatBecameOf({ round }: LeaseView, { you, open, phase }: RunView): string {
  const { lastVerdict, status } = you
  if (lastVerdict?.round === round) {
    switch (lastVerdict.outcome) {
      case 'expired':
        return `the lease of round ${round} ran out, and its batches went to others`
      case 'rejected':
        return `its update of round ${round} was rejected: ${lastVerdict.reason}`
      default:
        return `its update of round ${round} had come through already`
    }
  }
  if (status === 'expelled') return 'the peer was expelled'
  if (phase === 'finished') return 'the run is finished'
  return open === null
    ? `the lease of round ${round} was taken back`
    : `the lease of round ${round} was taken back; round ${open.round} is under way`
}
