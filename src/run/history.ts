/** The log of a run in plain words, one line per event: for people who want to know what happened. */
import { type PeerId, shortPeerId } from '../swarm/index.ts'
import type { RunEvent } from './events.ts'
import { missingPeers } from './queries.ts'
import type { RunState } from './state.ts'

/** What happened; `after` is the state that it led to. */
export function describeEvent(event: RunEvent, after: RunState): string {
  switch (event.type) {
    case 'created':
      return `The run begins: ${count(event.policy.rounds, 'round')} of ${count(event.innerSteps, 'inner step')}, from checkpoint ${event.checkpoint}.`
    case 'hosted':
      return `A host takes the run on: session ${event.session}, ${new Date(event.wallMs).toISOString()}.`
    case 'joined': {
      const lease = after.members.get(event.peer)?.lease
      const asks = `${nameOf(event.peer, after)} asks to take part`
      return lease ? `${asks} again, and has its lease of round ${lease.round} still.` : `${asks}.`
    }
    case 'ready': {
      const speed = event.stepsPerSecond
      const says = speed === null ? '' : `, at ${Number(speed.toPrecision(3))} steps/s by its own account`
      return `${nameOf(event.peer, after)} is ready${says}.`
    }
    case 'left':
      return `${nameOf(event.peer, after)} leaves.`
    case 'vanished':
      return `${nameOf(event.peer, after)} has fallen silent.`
    case 'contributed':
      return describeContribution(event, after)
    case 'rejected': {
      const member = after.members.get(event.peer)
      const expelled =
        member?.status === 'expelled' ? ` It is expelled until round ${member.expelledUntil}.` : ''
      return `${nameOf(event.peer, after)}’s update for round ${event.round} is refused (${event.code}): ${event.reason}${expelled}`
    }
    case 'disagreed':
      return `${nameOf(event.peer, after)} merged round ${event.round} into another checkpoint, ${event.checkpoint}.`
    case 'ticked':
      return 'Time is up.'
    case 'checkpointed':
      return `Round ${event.round} is merged: checkpoint ${event.checkpoint}.`
    case 'paused':
      return 'The owner pauses the run.'
    case 'resumed':
      return 'The owner lets the run go on.'
    case 'policyChanged':
      return `The owner changes the rules; the last round is now ${after.lastRound}.`
    case 'ending':
      return `The owner ends the run with round ${after.lastRound}.`
    default:
      throw new TypeError(`no event ${String(event satisfies never)}`)
  }
}

/** What followed from an event by itself: rounds that opened or closed, waits that began. Often nothing. */
export function describeConsequences(before: RunState, after: RunState): string[] {
  const lines: string[] = []
  const closed = after.closed.at(-1)
  if (closed !== undefined && closed.round !== (before.closed.at(-1)?.round ?? 0)) {
    lines.push(`Round ${closed.round} closes with ${count(closed.accepted.length, 'update')}.`)
  } else if (after.open?.quorumReached && !before.open?.quorumReached) {
    lines.push(`Round ${after.round} has its quorum: ${after.open.outstanding} still out.`)
  }
  const { open } = after
  if (open !== null && (open.round !== before.open?.round || open.openedAtMs !== before.open.openedAtMs)) {
    lines.push(`Round ${open.round} opens for ${count(open.assigned, 'peer')}.`)
  }
  if (after.phase === before.phase) return lines
  if (after.phase === 'waiting') {
    const missing = missingPeers(after)
    lines.push(missing === 0 ? 'The run waits.' : `The run waits for ${count(missing, 'more peer')}.`)
  }
  if (after.phase === 'warmingUp')
    lines.push(`The run warms up: ${count(after.counts.joining, 'peer')} still fetching.`)
  if (after.phase === 'paused') lines.push('The run stands still.')
  if (after.phase === 'finished') lines.push(`The run is finished after round ${after.checkpoint.round}.`)
  return lines
}

function describeContribution(event: Extract<RunEvent, { type: 'contributed' }>, after: RunState): string {
  const { peer, round, steps, loss } = event
  const counted = after.members.get(peer)?.lastRound ?? round
  const late = counted > round ? `, in round ${counted} because it is late` : ''
  const tokens = count(steps * after.batchTokens, 'token')
  return `${nameOf(peer, after)} contributes ${count(steps, 'step')} of its lease of round ${round}${late}: ${tokens}, loss ${loss.toFixed(3)}.`
}

function nameOf(peer: PeerId, { members }: RunState): string {
  const name = members.get(peer)?.name ?? ''
  return name === '' ? shortPeerId(peer) : `${name} (${shortPeerId(peer)})`
}

function count(n: number, thing: string): string {
  return `${n} ${thing}${n === 1 ? '' : 's'}`
}
