/**
 * For tests: histories in which anything may happen. A move is a few random numbers that become an event in view of the
 * state, so that long legal histories are common and illegal events occur too.
 */
import fc from 'fast-check'
import type { PeerId } from '../swarm/index.ts'
import type { RunEvent } from './events.ts'
import type { RoundPolicy } from './policy.ts'
import type { RunState } from './state.ts'
import { cid, peerNumber } from './story.ts'

export interface Move {
  readonly kind: RunEvent['type']
  readonly who: number
  readonly offset: number
  readonly waitMs: number
  readonly value: number
}

export const moverPeers: readonly PeerId[] = [1, 2, 3, 4, 5, 6].map(peerNumber)

/** Small bounds, so that every rule comes into play. */
export const eventfulPolicy: Partial<RoundPolicy> = {
  rounds: 20,
  minimumPeers: 2,
  maximumPeers: 5,
  warmupMs: 2000,
  quorum: 0.5,
  graceMs: 1000,
  maxRoundMs: 20_000,
  maximumStaleness: 2,
  maximumStrikes: 2,
  expulsionRounds: 2,
}

const weights: readonly (readonly [RunEvent['type'], number])[] = [
  ['joined', 60],
  ['ready', 60],
  ['contributed', 200],
  ['checkpointed', 120],
  ['rejected', 12],
  ['disagreed', 6],
  ['ticked', 20],
  ['left', 12],
  ['vanished', 16],
  ['hosted', 2],
  ['paused', 2],
  ['resumed', 10],
  ['policyChanged', 3],
  ['ending', 1],
]

const move: fc.Arbitrary<Move> = fc.record({
  kind: fc.oneof(...weights.map(([kind, weight]) => ({ arbitrary: fc.constant(kind), weight }))),
  who: fc.nat(moverPeers.length - 1),
  offset: fc.constantFrom(0, 0, 0, 0, 0, -1, 1),
  waitMs: fc.constantFrom(0, 1, 600, 5000, -3_600_000, 3_600_000),
  value: fc.nat(60_000),
})

export function moves(minLength: number, maxLength: number): fc.Arbitrary<Move[]> {
  return fc.array(move, { minLength, maxLength, size: 'max' })
}

export function eventOf(state: RunState, { kind, who, offset, waitMs, value }: Move): RunEvent {
  const atMs = state.nowMs + waitMs
  const peer = moverPeers[who]!
  const lease = state.members.get(peer)?.lease
  const round = Math.max(1, (lease?.round ?? state.round) + offset)
  const report = Uint8Array.of(1)
  switch (kind) {
    case 'joined':
      return { type: kind, atMs, peer, name: 'peer', addresses: ['/memory/1'] }
    case 'ready':
      return { type: kind, atMs, peer, stepsPerSecond: value % 3 === 0 ? null : value / 1000 }
    case 'contributed': {
      const most = lease?.steps ?? 10
      const steps = value % 3 === 0 ? 1 + (value % (most + 1)) : most
      return {
        type: kind,
        atMs,
        peer,
        round,
        update: cid(value),
        steps,
        loss: 1.5,
        bytes: value,
        norm: value,
        report,
      }
    }
    case 'rejected':
      return {
        type: kind,
        atMs,
        peer,
        round,
        update: cid(value),
        code: 'sync/invalid',
        reason: 'Not finite.',
        report,
      }
    case 'checkpointed':
      return { type: kind, atMs, round: Math.max(1, state.round + offset), checkpoint: cid(100_000 + value) }
    case 'disagreed':
      return { type: kind, atMs, peer, round: Math.max(1, state.round - 1), checkpoint: cid(value) }
    case 'policyChanged': {
      const policy = { ...state.policy, rounds: 1 + (value % 40), maximumStaleness: value % 4, quorum: 0.25 }
      return { type: kind, atMs, policy }
    }
    case 'hosted':
      return { type: kind, atMs, session: 'again', wallMs: value }
    case 'created':
      throw new RangeError('a run is created once')
    case 'ticked':
    case 'paused':
    case 'resumed':
    case 'ending':
      return { type: kind, atMs }
    case 'left':
    case 'vanished':
      return { type: kind, atMs, peer }
    default:
      throw new TypeError(`no event ${String(kind satisfies never)}`)
  }
}
