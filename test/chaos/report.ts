/** What became of a run under faults, and the table that says it. */

export interface ChaosReport {
  readonly violations: readonly string[]
  /** Those that happened, by kind. */
  readonly faults: Readonly<Record<string, number>>
  /** Faults whose process was not there when their time came. */
  readonly skipped: number
  readonly closedRounds: number
  /** In the log. */
  readonly entries: number
  readonly contributions: number
  /** Contributions that peers were told are accepted. */
  readonly told: number
  /** Of both, those that no closed round counts. */
  readonly lost: number
  /** States of the living host that were compared with those that its log leads to. */
  readonly compared: number
  readonly restarts: Readonly<Record<string, number>>
  /** Processes that ended because their disk was full or the host out of reach, and said so. */
  readonly gaveUp: number
  readonly peakRssBytes: Readonly<Record<string, number>>
  readonly seconds: number
  /** Where the logs and homes are, if they were kept. */
  readonly kept: string | undefined
}

export function tableOf(report: ChaosReport, rssLimitBytes: number): string[] {
  const { faults, skipped, restarts, peakRssBytes, gaveUp } = report
  const list = (
    values: Readonly<Record<string, number>>,
    format: (value: number) => string = String,
  ): string =>
    Object.entries(values)
      .map(([name, value]) => `${name} ${format(value)}`)
      .join(', ')
  const total = Object.values(faults).reduce((sum, count) => sum + count, 0)
  const measured = Object.values(peakRssBytes).some((bytes) => bytes > 0)
  return [
    `Faults         ${total}: ${list(faults)}${skipped === 0 ? '' : `; ${skipped} had no process to meet`}`,
    `Rounds         ${report.closedRounds} closed, ${report.entries} events in ${Math.round(report.seconds)} s`,
    `Contributions  ${report.contributions} in the log, ${report.told} told accepted, ${report.lost} lost`,
    `State          compared ${report.compared} times with the one that the log leads to`,
    `Restarts       ${list(restarts)}; ${gaveUp} ended by themselves and said why`,
    measured
      ? `Memory         peak ${list(peakRssBytes, formatMib)}; limit ${formatMib(rssLimitBytes)}`
      : 'Memory         not measured: this system has no /proc',
  ]
}

export function formatMib(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024)} MiB`
}
