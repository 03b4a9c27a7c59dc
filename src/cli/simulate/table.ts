/** A simulation as people read it: some of its rounds, and what it all came to. */
import type { Quantiles, RoundRow, SimulationReport } from '../../run/index.ts'
import { formatBytes, formatCount, formatDuration, formatLoss, formatTable } from '../format.ts'

const maxRows = 12
const header = ['round', 'began', 'took', 'peers', 'in time', 'late', 'tokens', 'tokens/s']

/** Rounds at even distances, the first and the last among them. */
export function roundTable(rounds: readonly RoundRow[]): string[] {
  const shown = rounds.length <= maxRows ? rounds : evenly(rounds)
  const trained = rounds.some(({ trainingLoss }) => trainingLoss !== null)
  const rows = shown.map((row) => {
    const seconds = (row.closedAtMs - row.openedAtMs) / 1000
    return [
      String(row.round),
      formatDuration(row.openedAtMs / 1000),
      formatDuration(seconds),
      String(row.assigned),
      String(row.inTime),
      String(row.late),
      formatCount(row.tokens),
      formatCount(row.tokens / Math.max(1e-3, seconds)),
      ...(trained
        ? [formatLoss(row.trainingLoss ?? undefined), formatLoss(row.validationLoss ?? undefined)]
        : []),
    ]
  })
  const titles = trained ? [...header, 'loss', 'validation'] : header
  return formatTable([titles, ...rows], new Set(titles.keys()))
}

/** What it all came to, as pairs of a name and a sentence. */
export function summaryLines(report: SimulationReport): string[] {
  const { time, contributions, batches, membership, host } = report
  const lines: [string, string][] = [
    [
      'Time',
      `${report.rounds.length} rounds in ${formatDuration(report.virtualMs / 1000)}; ` +
        `${formatCount(report.tokens)} tokens, ${formatCount(report.tokensPerSecond)} a second`,
    ],
    [
      'Peers’ time',
      `${percent(time.computing)} computing, ${percent(time.communicating)} on the line, ` +
        `${percent(time.preparing)} coding and merging, ${percent(time.waiting)} waiting`,
    ],
    [
      'Computing',
      `${percent(report.computingShare.least)} to ${percent(report.computingShare.most)} by peer`,
    ],
    ['Sent', `${span(report.peerSentBytes, formatBytes)} by peer; host ${formatBytes(host.sentBytes)}`],
    [
      'Received',
      `${span(report.peerReceivedBytes, formatBytes)} by peer; host ${formatBytes(host.receivedBytes)}`,
    ],
    [
      'Updates',
      `${formatCount(contributions.accepted)} accepted, ${formatCount(contributions.late)} of them late; ` +
        `${formatCount(contributions.refused)} came too late, ${formatCount(contributions.dropped)} never arrived`,
    ],
    [
      'Batches',
      `${formatCount(batches.trained)} trained, ${formatCount(batches.returned)} taken back, ` +
        `${formatCount(batches.out)} out at the end`,
    ],
    [
      'Comings',
      `${formatCount(membership.joins)} joins, ${formatCount(membership.leaves)} left, ` +
        `${formatCount(membership.vanished)} vanished`,
    ],
  ]
  if (report.returnMs.count > 0) {
    const seconds = (ms: number): string => formatDuration(ms / 1000)
    lines.push(['After a return', `${span(report.returnMs, seconds)} to the next accepted update`])
  }
  const { losses } = report
  if (losses.length > 0) {
    const [first, last] = [losses[0]!, losses.at(-1)!]
    const start = losses.length === 1 ? '' : `${formatLoss(first.loss)} after round ${first.round}, `
    lines.push(['Validation loss', `${start}${formatLoss(last.loss)} at the end`])
  }
  lines.push(['Same again', `trace ${report.traceHash.slice(0, 16)}, state ${report.stateHash.slice(0, 16)}`])
  return formatTable(lines, new Set())
}

function evenly(rounds: readonly RoundRow[]): RoundRow[] {
  return Array.from(
    { length: maxRows },
    (_, i) => rounds[Math.round((i * (rounds.length - 1)) / (maxRows - 1))]!,
  )
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`
}

function span({ median, ninetieth }: Quantiles, format: (value: number) => string): string {
  return `${format(median)} (nine in ten up to ${format(ninetieth)})`
}
