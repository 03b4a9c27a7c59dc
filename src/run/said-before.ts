/**
 * What was answered to a report, if it was: the first answer may have been lost on the way, and whoever asks again gets
 * it out of the state, which survives a restart of the host.
 */
import type { PeerId } from '../swarm/index.ts'
import { isLeaseOf } from './contributions.ts'
import { remedyFor } from './judge.ts'
import type { Report, ReportAnswer } from './protocol.ts'
import { isKnownUpdate } from './queries.ts'
import type { RunState } from './state.ts'

type Said = Pick<Report, 'round' | 'grantedAtMs' | 'update'>

export const nothingToSay = { code: '', reason: '', remedy: '' } as const

export function saidBefore(state: RunState, peer: PeerId, said: Said): ReportAnswer | undefined {
  const { round, update } = said
  const member = state.members.get(peer)
  if (member === undefined || isLeaseOf(member, said)) return undefined
  if (isKnownUpdate(state, update)) {
    const own = state.open?.contributions.get(peer)
    const inOpen = own?.update === update ? state.open!.round : undefined
    const counted =
      inOpen ??
      state.closed.find(({ accepted }) =>
        accepted.some((each) => each.peer === peer && each.update === update),
      )?.round
    if (counted !== undefined) {
      return { outcome: counted > round ? 'late' : 'accepted', round: counted, ...nothingToSay }
    }
  }
  const { lastVerdict } = member
  if (lastVerdict?.round !== round || lastVerdict.outcome !== 'rejected') return undefined
  const { code, reason } = lastVerdict
  return { outcome: 'rejected', round: state.round, code, reason, remedy: remedyFor(code) }
}
