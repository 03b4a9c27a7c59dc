/** `status`: a run as everybody may see it, asked from its host. */
import { systemClock } from '../../core/index.ts'
import {
  ableCount,
  isHostAway,
  type LedgerEntry,
  linkPolicy,
  type PublicStatus,
  RecentRefusals,
} from '../../run/index.ts'
import { decodeJoinLink } from '../../swarm/index.ts'
import { withHost } from '../ask-host.ts'
import type { StatusCommandLine } from '../command-lines.ts'
import type { CommandContext } from '../context.ts'
import {
  asWords,
  counted,
  formatBytes,
  formatCount,
  formatDuration,
  formatLoss,
  formatTable,
  printable,
} from '../format.ts'

const everyMs = 1000
const refusalsShown = 5

export async function status(
  { output, signal }: CommandContext,
  text: string,
  options: StatusCommandLine,
): Promise<void> {
  await withHost(decodeJoinLink(text), signal, async (client) => {
    const clock = systemClock()
    const refusals = new RecentRefusals((from) => client.ledger({ from }, signal))
    const look = async (): Promise<Look> => {
      const now = await client.status(signal)
      return { now, refused: await refusals.upTo(now.version) }
    }
    let lines: string[] = []
    let seenMs: number | undefined
    /** Nothing, where a host that was there may come back: it is asked for as long as its peers ask for it. */
    const awayOrThrow = (thrown: unknown): undefined => {
      signal.throwIfAborted()
      if (!options.watch || seenMs === undefined || !isHostAway(thrown)) throw thrown
      const forMs = clock.steady() - seenMs
      if (forMs >= linkPolicy.patienceMs) throw thrown
      output.event({ event: 'away', forMs })
      const away = `The host has not answered for ${formatDuration(forMs / 1000)}; it is asked again until it does.`
      show(output, options, [away], [...lines, ''])
    }
    for (;;) {
      const seen = await look().catch(awayOrThrow)
      if (seen !== undefined) {
        const { now, refused } = seen
        const told = {
          ...now,
          why: whyOf(now),
          refused: refused.map((entry) => ({ ...entry, report: undefined })),
        }
        output.event({ event: 'status', ...told })
        lines = describe(now, refused)
        seenMs = clock.steady()
        show(output, options, lines)
        if (!options.watch || now.phase === 'finished') {
          output.event({ event: 'done', ...told })
          break
        }
      }
      await clock.sleep(everyMs, signal)
    }
    output.settle()
  })
}

interface Look {
  readonly now: PublicStatus
  readonly refused: readonly LedgerEntry[]
}

/** @param above what a terminal that is watched keeps; elsewhere it stands there anyway */
function show(
  output: CommandContext['output'],
  { watch }: StatusCommandLine,
  lines: readonly string[],
  above: readonly string[] = [],
): void {
  if (watch && output.interactive) output.redraw([...above, ...lines].join('\n'))
  else for (const line of lines) output.line(line)
}

/** Why the run is where it is, in words. */
export function whyOf({ phase, open, counts, policy, pauseRequested }: PublicStatus): string {
  const soon = pauseRequested && phase !== 'paused' ? '; it will pause when this round is merged' : ''
  switch (phase) {
    case 'waiting': {
      const able = ableCount(counts)
      const missing = Math.max(0, policy.minimumPeers - able)
      return missing === 0
        ? 'for somebody who is ready'
        : `for peers: ${able} of ${policy.minimumPeers} are ready, ${counts.joining} still fetch what they need`
    }
    case 'warmingUp':
      return `enough are ready; ${counts.joining} still fetch what they need`
    case 'training':
      return `${open?.inTime ?? 0} of ${open?.assigned ?? 0} have handed in, ${open?.outstanding ?? 0} are at work${soon}`
    case 'closing': {
      const ms = open?.closesInMs ?? null
      const left = ms === null ? '' : `, closes in ${formatDuration(Math.max(0, ms) / 1000)}`
      return `enough have handed in; ${open?.outstanding ?? 0} may still follow${left}${soon}`
    }
    case 'coolingDown':
      return `the host merges the round${soon}`
    case 'paused':
      return 'the owner lets it stand still'
    case 'finished':
      return 'all rounds are merged'
  }
}

function describe(status: PublicStatus, refused: readonly LedgerEntry[]): string[] {
  const { totals, checkpoint, batches, members, known } = status
  const lines = [
    `Run “${printable(status.name)}” (${status.method})`,
    `Id          ${status.runId}`,
    `Phase       ${asWords(status.phase)}: ${whyOf(status)}`,
    `Round       ${Math.min(status.round, status.lastRound)} of ${status.lastRound}, loss ${formatLoss(status.loss ?? undefined)}`,
    `Checkpoint  ${checkpoint.checkpoint} (round ${checkpoint.round})`,
    `Accepted    ${counted(totals.contributions, 'contribution')}, ${counted(totals.tokens, 'token')}, ${formatBytes(totals.bytes)}`,
    `Batches     ${formatCount(batches.next)} leased, ${formatCount(batches.pooled)} waiting again, ${formatCount(batches.skipped)} given up`,
  ]
  if (members.length > 0) {
    const header = [
      'peer',
      'status',
      'does',
      'steps/s',
      'share',
      'last accepted',
      'late',
      'refused',
      'ran out',
    ]
    const rows = members.map((member) => [
      printable(member.name === '' ? member.peer.slice(-8) : member.name),
      member.status,
      member.phase ?? '–',
      member.stepsPerSecond === null ? '–' : member.stepsPerSecond.toPrecision(3),
      totals.tokens === 0 ? '–' : `${((100 * member.tokens) / totals.tokens).toFixed(1)} %`,
      member.lastRound === 0 ? 'nothing yet' : `round ${member.lastRound}`,
      String(member.late),
      member.strikes > 0 ? `${member.rejected} (${member.strikes} in a row)` : String(member.rejected),
      String(member.expired),
    ])
    lines.push('', ...formatTable([header, ...rows], new Set([3, 4, 6, 7, 8])))
    if (known > members.length) lines.push(`… and ${known - members.length} more`)
  }
  if (refused.length > 0) lines.push('', `Refused lately (${refused.length}):`)
  for (const { round, peer, reason, code } of refused.slice(-refusalsShown)) {
    const name = members.find((member) => member.peer === peer)?.name ?? ''
    lines.push(
      `  round ${round}, ${printable(name || peer.slice(-8))}: ${printable(reason)} (${printable(code)})`,
    )
  }
  return lines
}
