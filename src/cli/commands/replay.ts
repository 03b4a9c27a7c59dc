/** `replay`: a run’s log run through the reducer again, told line by line, with every signed report checked. */
import { z } from 'zod'
import { GroundswellError, messageOf } from '../../core/index.ts'
import {
  describeConsequences,
  describeEvent,
  type LedgerEntry,
  type ReplayedEvent,
  replay as replayLog,
  stateHash,
  verifyLedgerEntry,
} from '../../run/index.ts'
import { openSignedRequest, type PeerId, parsePeerId } from '../../swarm/index.ts'
import type { ReplayCommandLine } from '../command-lines.ts'
import type { CommandContext } from '../context.ts'
import { counted, formatBytes, formatCount, printable } from '../format.ts'
import { openLogToRead } from '../open-log.ts'

const claimSchema = z.object({ steps: z.number(), tokens: z.number(), loss: z.number() })

export async function replay(
  context: CommandContext,
  place: string,
  options: ReplayCommandLine,
): Promise<void> {
  const { output, signal } = context
  const { from = 0, to = Number.POSITIVE_INFINITY } = options
  const only = options.peer === undefined ? undefined : parsePeerId(options.peer)
  const log = await openLogToRead(context, place)
  let reports = 0
  const broken: string[] = []
  let host: PeerId | undefined
  try {
    const state = await replayLog(log, (replayed) => {
      signal.throwIfAborted()
      const { event, before, after } = replayed
      const position = after.version - 1
      if (event.type === 'contributed' || event.type === 'rejected') {
        reports += 1
        try {
          host = verified(replayed, position, host)
        } catch (thrown) {
          broken.push(`entry ${position}: ${messageOf(thrown)}`)
        }
      }
      const wanted = only === undefined || ('peer' in event && event.peer === only)
      if (position < from || position > to || !wanted) return
      const text = printable(describeEvent(event, after))
      const then = before === null ? [] : describeConsequences(before, after)
      const { type, atMs } = event
      output.event({
        event: 'entry',
        position,
        type,
        atMs,
        text,
        then,
        peer: 'peer' in event ? event.peer : null,
      })
      output.line(`${String(position).padStart(6)}  ${runTime(atMs)}  ${text}`)
      for (const line of only === undefined ? then : []) output.line(`${' '.repeat(20)}→ ${printable(line)}`)
    })
    const { totals, checkpoint, phase, round, version, nowMs } = state
    const hash = stateHash(state)
    output.line('')
    output.line(`${formatCount(version)} entries, ${runTime(nowMs).trim()} of run time; state ${hash}`)
    output.line(`${phase}, round ${Math.min(round, state.lastRound)} of ${state.lastRound}`)
    output.line(`Checkpoint of round ${checkpoint.round}: ${checkpoint.checkpoint}`)
    output.line(
      `Accepted: ${counted(totals.contributions, 'contribution')}, ${formatCount(totals.tokens)} tokens, ${formatBytes(totals.bytes)}`,
    )
    output.line(
      broken.length === 0
        ? `${reports} signed reports, all signatures hold.`
        : `${broken.length} of ${reports} signed reports do not hold:`,
    )
    for (const line of broken) output.line(`  ${line}`)
    output.event({
      event: 'done',
      ...{ entries: version, stateHash: hash, phase, round, lastRound: state.lastRound, checkpoint },
      ...{ totals, reports, broken },
    })
    if (broken.length > 0) {
      throw new GroundswellError(`${broken.length} of ${reports} signed reports do not hold: ${broken[0]!}`, {
        code: 'ledger/mismatch',
        remedy: 'Do not trust this log’s account of who contributed what.',
      })
    }
  } finally {
    await log.close()
  }
}

/** Checks a report against its event; the host that it was sent to, which must be the same for all. */
function verified(
  { event, before, after }: ReplayedEvent,
  position: number,
  host: PeerId | undefined,
): PeerId {
  if (event.type !== 'contributed' && event.type !== 'rejected') throw new TypeError('not a report')
  const opened = openSignedRequest(event.report)
  const to = host ?? parsePeerId(opened.to)
  const round = before?.round ?? after.round
  const { atMs, peer, update, report } = event
  const shared = { position, atMs, round, leaseRound: event.round, peer, update, report }
  const entry: LedgerEntry =
    event.type === 'contributed'
      ? {
          ...{ ...shared, type: 'contributed', steps: event.steps, loss: event.loss, bytes: event.bytes },
          tokens: event.steps * after.batchTokens,
          outcome: event.round < round ? 'late' : 'accepted',
          ...{ code: '', reason: '' },
        }
      : {
          ...{
            ...shared,
            ...claimSchema.parse(opened.body),
            type: 'rejected',
            bytes: 0,
            outcome: 'rejected',
          },
          ...{ code: event.code, reason: event.reason },
        }
  verifyLedgerEntry(entry, after.runId, to)
  return to
}

/** Hours, minutes and seconds that hosts have spent on the run. */
function runTime(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  const two = (n: number): string => String(n).padStart(2, '0')
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`.padStart(
    9,
  )
}
