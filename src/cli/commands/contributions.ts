/** `contributions`: the ledger of a run, page by page from its host, each peer's signature checked here. */
import { GroundswellError, messageOf } from '../../core/index.ts'
import { type LedgerEntry, verifyLedgerEntry } from '../../run/index.ts'
import { decodeJoinLink, parsePeerId } from '../../swarm/index.ts'
import { withHost } from '../ask-host.ts'
import type { ContributionsCommandLine } from '../command-lines.ts'
import { absolute, type CommandContext } from '../context.ts'
import { counted, formatBytes, formatCount, formatTable, printable } from '../format.ts'

interface Total {
  contributions: number
  tokens: number
  bytes: number
  refused: number
}

export async function contributions(
  context: CommandContext,
  text: string,
  options: ContributionsCommandLine,
): Promise<void> {
  const { output, signal, files } = context
  const link = decodeJoinLink(text)
  const only = options.peer === undefined ? undefined : parsePeerId(options.peer)
  const totals = new Map<string, Total>()
  const csv: string[] = [csvHeader.join(',')]
  const broken: string[] = []
  let count = 0
  await withHost(link, signal, async (client) => {
    for (let from = 0; ; ) {
      const page = await client.ledger({ from }, signal)
      for (const entry of page.entries) {
        if (only !== undefined && entry.peer !== only) continue
        count += 1
        const problem = problemOf(() => verifyLedgerEntry(entry, link.runId, link.host))
        if (problem !== undefined) broken.push(`entry ${entry.position}: ${problem}`)
        const { report: _, ...fields } = entry
        output.event({ event: 'contribution', ...fields, signatureHolds: problem === undefined })
        output.line(lineOf(entry) + (problem === undefined ? '' : '  ✗ its signature does not hold'))
        if (options.csv !== undefined) csv.push(csvLine(entry, problem === undefined))
        addTo(totals, entry)
      }
      if (page.next >= page.length) break
      if (page.next <= from) throw stuck(from)
      from = page.next
    }
  })
  if (totals.size > 0) {
    const header = ['peer', 'contributions', 'tokens', 'bytes', 'refused']
    const rows = [...totals]
      .sort(([, a], [, b]) => b.tokens - a.tokens)
      .map(([peer, total]) => [
        peer,
        formatCount(total.contributions),
        formatCount(total.tokens),
        formatBytes(total.bytes),
        String(total.refused),
      ])
    for (const line of ['', ...formatTable([header, ...rows], new Set([1, 2, 3, 4]))]) output.line(line)
  }
  if (options.csv !== undefined) {
    const path = absolute(context, options.csv)
    await files.write(path, [new TextEncoder().encode(`${csv.join('\n')}\n`)])
    output.line(`Written: ${path}`)
  }
  output.event({
    event: 'done',
    entries: count,
    broken,
    totals: [...totals].map(([peer, total]) => ({ peer, ...total })),
  })
  if (broken.length > 0) {
    throw new GroundswellError(`${broken.length} of ${count} entries do not hold: ${broken[0]!}`, {
      code: 'ledger/mismatch',
      remedy: 'Do not trust this host’s account of who contributed what.',
    })
  }
  output.line('')
  output.line(`${count} ${count === 1 ? 'entry' : 'entries'}, all signatures hold.`)
}

function addTo(totals: Map<string, Total>, { peer, outcome, tokens, bytes }: LedgerEntry): void {
  const total = totals.get(peer) ?? { contributions: 0, tokens: 0, bytes: 0, refused: 0 }
  if (outcome === 'rejected') total.refused += 1
  else {
    total.contributions += 1
    total.tokens += tokens
    total.bytes += bytes
  }
  totals.set(peer, total)
}

function lineOf({ round, leaseRound, peer, steps, tokens, bytes, outcome, reason }: LedgerEntry): string {
  const late = outcome === 'late' ? ` (lease of round ${leaseRound})` : ''
  const work = `${counted(steps, 'step')}, ${counted(tokens, 'token')}, ${formatBytes(bytes)}`
  return `round ${round}  ${peer.slice(-8)}  ${outcome}${late}: ${reason === '' ? work : printable(reason)}`
}

const csvHeader = [
  ...['position', 'run_time_ms', 'round', 'lease_round', 'peer', 'steps', 'tokens', 'bytes', 'loss'],
  ...['outcome', 'code', 'reason', 'update', 'signature_holds'],
]

function csvLine(entry: LedgerEntry, holds: boolean): string {
  const { position, atMs, round, leaseRound, peer, steps, tokens, bytes, loss } = entry
  const numbers = [position, Math.round(atMs), round, leaseRound, peer, steps, tokens, bytes, loss]
  return [...numbers, entry.outcome, entry.code, entry.reason, entry.update, holds].map(csvField).join(',')
}

/** Quoted where needed; what a spreadsheet would run as a formula is text. */
function csvField(value: string | number | boolean): string {
  const text = typeof value === 'string' && /^[=+\-@]/.test(value) ? `'${value}` : String(value)
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

function problemOf(check: () => void): string | undefined {
  try {
    check()
    return undefined
  } catch (thrown) {
    return messageOf(thrown)
  }
}

function stuck(from: number): GroundswellError {
  return new GroundswellError(`The host’s ledger does not go on after entry ${from}.`, {
    code: 'ledger/stuck',
    remedy: 'Try again; if it stays so, the host is broken or dishonest.',
  })
}
