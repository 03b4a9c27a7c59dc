/** A run as its host sees it: one line about the round, one row per member. */
import type { HostStatus, MemberReport } from '../run/index.ts'
import { asWords, counted, formatBytes, formatCount, formatLoss, formatTable, printable } from './format.ts'

const header = ['peer', 'state', 'phase', 'step', 'loss', 'tokens/s', 'sent', 'received', 'last accepted']
const numeric = new Set([3, 4, 5, 6, 7])

type Shown = Pick<HostStatus, 'round' | 'lastRound' | 'phase' | 'loss'> & { readonly members: readonly Row[] }
type Row = Pick<MemberReport, 'peer' | 'name' | 'status' | 'progress' | 'lastRound' | 'rejected'>

export function swarmTable(status: Shown, validationLoss: number | undefined): string[] {
  const present = status.members.filter((member) => !hasGone(member))
  // Of what members handed in: broken messages of those that die are for the metrics.
  const refused = status.members.reduce((sum, { rejected }) => sum + rejected, 0)
  const headline = [
    `round ${Math.min(status.round, status.lastRound)}/${status.lastRound}`,
    asWords(status.phase),
    counted(present.length, 'peer'),
    `loss ${formatLoss(status.loss ?? undefined)}`,
    `validation ${formatLoss(validationLoss)}`,
    ...(refused === 0 ? [] : [`${counted(refused, 'update')} refused`]),
  ].join('  ·  ')
  if (status.members.length === 0) return [headline]
  return [headline, '', ...formatTable([header, ...status.members.map(row)], numeric)]
}

function row(member: Row): string[] {
  const { progress } = member
  return [
    printable(member.name === '' ? member.peer.slice(-8) : member.name),
    member.status,
    hasGone(member) || progress === null ? '–' : progress.phase,
    progress === null ? '–' : String(progress.step),
    formatLoss(progress?.loss ?? undefined),
    progress?.tokensPerSecond === null || progress === null ? '–' : formatCount(progress.tokensPerSecond),
    formatBytes(progress?.sentBytes ?? 0),
    formatBytes(progress?.receivedBytes ?? 0),
    member.lastRound === 0 ? '–' : `round ${member.lastRound}`,
  ]
}

function hasGone({ status }: Row): boolean {
  return status === 'left' || status === 'vanished' || status === 'expelled'
}
