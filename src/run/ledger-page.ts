/**
 * The public record of who contributed what: pages cut from the log itself, and the check that anybody can make of an
 * entry without asking the host, because each carries the peer's own signed report.
 */
import { type Cid, GroundswellError, systemClock, takingTurns } from '../core/index.ts'
import { openSignedRequest, type PeerId } from '../swarm/index.ts'
import { decodeEvent, type RunEvent } from './events.ts'
import type { Log } from './log.ts'
import { type LedgerEntry, type LedgerPage, protocolLimits, type Report } from './protocol.ts'
import { reportSchema } from './protocol-schemas.ts'

/**
 * In which round the run was at some places of the log, so that a page needs only what lies between such a place and
 * itself. One number for `stride` entries.
 */
export class RoundIndex {
  private readonly rounds: number[] = []

  static readonly stride = 1024

  /** The round in which the event at `position` happens; called for every position in order. */
  note(position: number, round: number): void {
    if (position % RoundIndex.stride === 0) this.rounds[position / RoundIndex.stride] = round
  }

  /** The nearest noted place at or before a position. */
  before(position: number): { readonly position: number; readonly round: number } {
    const index = Math.min(Math.floor(position / RoundIndex.stride), this.rounds.length - 1)
    return index < 0
      ? { position: 0, round: 1 }
      : { position: index * RoundIndex.stride, round: this.rounds[index]! }
  }
}

/** Decoded before others have their turn. */
const entriesInOneGo = 128

/** Of a page that holds nothing: finding its place, and signing it. */
const leastPageCost = 0.1

/** What one page is cut with. */
export interface LedgerInit {
  readonly log: Log
  readonly rounds: RoundIndex
  readonly batchTokens: number
}

/** The entries from a position of the log on: at most `limit`, from at most `maxLedgerScan` events. */
export async function ledgerPage(
  { log, rounds, batchTokens }: LedgerInit,
  { from, limit }: { readonly from: number; readonly limit: number },
): Promise<LedgerPage> {
  const length = await log.length()
  const entries: LedgerEntry[] = []
  let { position: next, round } = rounds.before(from)
  if (from >= length) return { entries, next: length, length }
  const end = Math.min(length, from + protocolLimits.maxLedgerScan)
  const pause = takingTurns(systemClock(), 0)
  for await (const { position, bytes } of log.read(next)) {
    if (position >= end || entries.length >= limit) break
    next = position + 1
    if (next % entriesInOneGo === 0) await pause()
    const event = decodeEvent(bytes, position)
    if (event.type === 'checkpointed') round = event.round + 1
    if (position < from) continue
    const entry = entryOf(event, { position, round, batchTokens })
    if (entry !== undefined) entries.push(entry)
  }
  return { entries, next: Math.max(next, from), length }
}

/** What a page cost to make, as a share of the dearest. */
export function ledgerPageCost({ rounds }: LedgerInit, from: number, { next }: LedgerPage): number {
  const read = Math.max(0, next - rounds.before(from).position)
  const most = protocolLimits.maxLedgerScan + RoundIndex.stride
  return Math.min(1, leastPageCost + read / most)
}

function entryOf(
  event: RunEvent,
  at: { readonly position: number; readonly round: number; readonly batchTokens: number },
): LedgerEntry | undefined {
  const { position, round, batchTokens } = at
  if (event.type === 'contributed') {
    const { type, atMs, peer, round: leaseRound, update, steps, loss, bytes, report } = event
    const outcome = leaseRound === round ? 'accepted' : 'late'
    const tokens = steps * batchTokens
    const claim = { leaseRound, peer, update, steps, tokens, loss }
    return { position, atMs, type, round, ...claim, bytes, outcome, code: '', reason: '', report }
  }
  if (event.type === 'rejected') {
    const { type, atMs, peer, round: leaseRound, update, code, reason, report } = event
    const { steps, tokens, loss } = claimOf(report).body
    const claim = { leaseRound, peer, update, steps, tokens, loss }
    return { position, atMs, type, round, ...claim, bytes: 0, outcome: 'rejected', code, reason, report }
  }
  return undefined
}

function claimOf(envelope: Uint8Array): { from: PeerId; run: string; to: string; body: Report } {
  const { from, run, to, kind, body } = openSignedRequest(envelope)
  const parsed = reportSchema.safeParse(body)
  if (kind !== 'report' || !parsed.success) throw mismatch('its signed message is no report')
  return { from, run, to, body: parsed.data }
}

/**
 * Checks, without the host, that the peer itself signed exactly what the entry claims, for this run and to this host.
 * What the host added (when it came, which round counts it, why it was rejected) rests on the host's word.
 * @throws GroundswellError `ledger/mismatch`, or `message/bad-signature` and other `message/…` codes
 */
export function verifyLedgerEntry(entry: LedgerEntry, runId: Cid, host: PeerId): void {
  const { from, run, to, body } = claimOf(entry.report)
  if (run !== runId) throw mismatch('its report is for another run')
  if (to !== host) throw mismatch('its report was sent to another host')
  if (from !== entry.peer) throw mismatch('its report is signed by another peer')
  const claimed: [string, unknown, unknown][] = [
    ['the round of the lease', entry.leaseRound, body.round],
    ['the update', entry.update, body.update],
    ['the inner steps', entry.steps, body.steps],
    ['the tokens', entry.tokens, body.tokens],
    ['the loss', entry.loss, body.loss],
  ]
  for (const [what, said, signed] of claimed) {
    if (said !== signed) throw mismatch(`${what} should be ${String(signed)} and not ${String(said)}`)
  }
  const late = entry.round > entry.leaseRound
  const outcome = entry.type === 'rejected' ? 'rejected' : late ? 'late' : 'accepted'
  if (entry.outcome !== outcome) throw mismatch(`its outcome should be “${outcome}”`)
}

function mismatch(why: string): GroundswellError {
  return new GroundswellError(`The ledger’s entry does not hold: ${why}.`, {
    code: 'ledger/mismatch',
    remedy: 'Do not trust this copy of the ledger.',
  })
}
