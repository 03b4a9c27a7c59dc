/**
 * `npm run chaos -- --seed N --faults 200 --peers 4 --minutes M`: a swarm of processes under random faults, judged by what
 * must never happen. The same seed brings the same faults at the same times.
 */
import { parseArgs } from 'node:util'
import { type FaultKind, faultKinds } from './plan.ts'
import { tableOf } from './report.ts'
import { mostPeers, rssLimitBytes, runChaos } from './swarm.ts'

const usage =
  'npm run chaos -- [--seed N] [--faults 200] [--peers 4] [--minutes 10] [--kinds kill,clock,…] [--keep]'

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
// All processes and disks are gone by now; a socket that lingers must not keep this one.
process.stdout.write('', () => process.exit())

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: String(crypto.getRandomValues(new Uint32Array(1))[0]!) },
      faults: { type: 'string', default: '200' },
      peers: { type: 'string', default: '4' },
      minutes: { type: 'string', default: '10' },
      kinds: { type: 'string', default: Object.keys(faultKinds).join(',') },
      keep: { type: 'boolean', default: false },
    },
  })
  const [seed, faults, peers, minutes] = [values.seed, values.faults, values.peers, values.minutes].map(
    Number,
  )
  const kinds = values.kinds.split(',')
  const known = kinds.every((kind) => Object.hasOwn(faultKinds, kind))
  const whole = [seed!, faults!, peers!].every((value) => Number.isSafeInteger(value) && value >= 0)
  if (!known || !whole || faults! < 1 || peers! < 1 || peers! > mostPeers || !(minutes! > 0)) {
    say(`Usage: ${usage} (1 to ${mostPeers} peers; kinds: ${Object.keys(faultKinds).join(', ')})`)
    return 2
  }
  say(`Chaos with seed ${seed}: ${peers} peers, ${faults} faults`)
  const report = await runChaos({
    ...{ seed: seed!, faults: faults!, peers: peers!, minutes: minutes! },
    without: (Object.keys(faultKinds) as FaultKind[]).filter((kind) => !kinds.includes(kind)),
    ...{ keep: values.keep, signal: interrupted.signal, tell: say },
  })
  say('')
  for (const line of tableOf(report, rssLimitBytes)) say(line)
  say('')
  const { violations, kept } = report
  if (kept !== undefined) say(`Logs and homes: ${kept}`)
  if (violations.length === 0) {
    say('Nothing was violated.')
    return 0
  }
  say(`${violations.length} violations:`)
  for (const violation of violations) say(`  ${violation}`)
  say(
    `The same faults at the same times: npm run chaos -- --seed ${seed} --faults ${faults} --peers ${peers} --minutes ${minutes}${kinds.length === Object.keys(faultKinds).length ? '' : ` --kinds ${values.kinds}`}`,
  )
  say('(What the processes do in between depends on the machine, so a repeat may need several attempts.)')
  return 1
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
