/**
 * `npm run chaos -- --seed N --faults 200 --peers 4 --minutes M`: a swarm of processes under random faults, judged by what
 * must never happen. The same seed brings the same faults at the same times.
 */
import { parseArgs } from 'node:util'
import { type ChaosReport, chaosLimits, formatMib, mostPeers, runChaos } from './swarm.ts'

const usage = 'npm run chaos -- [--seed N] [--faults 200] [--peers 4] [--minutes 10] [--keep]'

const interrupted = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => interrupted.abort(new Error('Interrupted.')))
}
try {
  process.exitCode = await main()
} catch (thrown) {
  if (!interrupted.signal.aborted) throw thrown
  say('Interrupted: its processes have ended, and nothing was kept.')
  process.exitCode = 130
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: String(crypto.getRandomValues(new Uint32Array(1))[0]!) },
      faults: { type: 'string', default: '200' },
      peers: { type: 'string', default: '4' },
      minutes: { type: 'string', default: '10' },
      keep: { type: 'boolean', default: false },
    },
  })
  const [seed, faults, peers, minutes] = [values.seed, values.faults, values.peers, values.minutes].map(
    Number,
  )
  const whole = [seed!, faults!, peers!].every((value) => Number.isSafeInteger(value) && value >= 0)
  if (!whole || faults! < 1 || peers! < 1 || peers! > mostPeers || !(minutes! > 0)) {
    say(`Usage: ${usage} (1 to ${mostPeers} peers)`)
    return 2
  }
  say(`Chaos with seed ${seed}: ${peers} peers, ${faults} faults`)
  const report = await runChaos({
    ...{ seed: seed!, faults: faults!, peers: peers!, minutes: minutes! },
    ...{ keep: values.keep, signal: interrupted.signal, tell: say },
  })
  for (const line of table(report)) say(line)
  const { violations, kept } = report
  if (kept !== undefined) say(`Logs and homes: ${kept}`)
  if (violations.length === 0) {
    say('Nothing was violated.')
    return 0
  }
  say(`${violations.length} violations:`)
  for (const violation of violations) say(`  ${violation}`)
  say(
    `The same faults at the same times: npm run chaos -- --seed ${seed} --faults ${faults} --peers ${peers} --minutes ${minutes}`,
  )
  say('(What the processes do in between depends on the machine, so a repeat may need several attempts.)')
  return 1
}

function table(report: ChaosReport): string[] {
  const list = (
    values: Readonly<Record<string, number>>,
    format = String as (value: number) => string,
  ): string =>
    Object.entries(values)
      .map(([name, value]) => `${name} ${format(value)}`)
      .join(', ')
  const total = Object.values(report.faults).reduce((sum, count) => sum + count, 0)
  const peak = Object.values(report.peakRssBytes)
  return [
    '',
    `Faults         ${total}: ${list(report.faults)}${report.skipped === 0 ? '' : `; ${report.skipped} had no process to meet`}`,
    `Rounds         ${report.rounds} closed, ${report.entries} events in ${Math.round(report.seconds)} s`,
    `Contributions  ${report.contributions} in the log, ${report.toldAccepted} told accepted, ${report.lost} lost`,
    `Restarts       ${list(report.restarts)}; ${report.gaveUp} ended by themselves and said why`,
    peak.some((bytes) => bytes > 0)
      ? `Memory         peak ${list(report.peakRssBytes, formatMib)}; limit ${formatMib(chaosLimits.rssBytes)}`
      : 'Memory         not measured: this system has no /proc',
    '',
  ]
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
