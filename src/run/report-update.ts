/**
 * Handing in: a report is repeated until the host has judged it, over broken lines, restarts of the host and rounds
 * that are not open yet. Reports are idempotent, so asking once more than needed does no harm. Whoever asks again long after
 * an answer was lost may be refused, as the host knows the updates of the newest rounds only: then its account tells.
 */
import { type Clock, GroundswellError } from '../core/index.ts'
import { RemoteError } from '../swarm/index.ts'
import { type HostLink, linkPolicy } from './host-link.ts'
import { remedyFor } from './judge.ts'
import { holds } from './lease-work.ts'
import type { LeaseView, Report, ReportAnswer, RunView } from './protocol.ts'
import { notNow } from './refusals.ts'
import { nothingToSay } from './said-before.ts'

const reportLimits = {
  /** How long a peer that was asked to leave tries to hand in what it has done. */
  partingMs: 5000,
  /** How long after its lease was settled a peer waits for the answer that says so. */
  lostAnswerMs: 3000,
} as const

export interface ReportUpdateInit {
  readonly host: HostLink
  readonly clock: Clock
  readonly lease: LeaseView
  readonly report: Report
  /** Aborted when the peer is to leave, which gives this some more seconds. */
  readonly signal: AbortSignal
  /** Whether what the host says of this peer's work includes this update. */
  readonly counted: (you: RunView['you']) => boolean
  readonly onWaiting: (why: string) => void
  readonly onRefused: (refusal: { code: string; message: string; remedy: string }) => void
}

/** The host’s answer; undefined when it would not hear of it. */
export async function reportUpdate(init: ReportUpdateInit): Promise<ReportAnswer | undefined> {
  const { host, lease } = init
  using parting = partingSignal(init.signal, init.clock, reportLimits.partingMs)
  for (;;) {
    const { view } = host
    try {
      return await ask(init, parting.signal)
    } catch (thrown) {
      if (thrown === answerLost) continue
      if (!(thrown instanceof RemoteError)) throw thrown
      const { remoteCode: code, message, remedy = remedyFor(thrown.remoteCode) } = thrown
      if (code === 'member/unknown') {
        await host.rejoin(parting.signal) // taken for gone meanwhile; the lease may still be its own
      } else if (notNow.has(code) && holds(view, lease)) {
        init.onWaiting(`waiting to hand in: ${message}`)
        await host.waitFor((each) => each !== view, parting.signal)
      } else {
        const { you } = await host.refresh(parting.signal)
        if (init.counted(you)) return acceptedBefore(init.report, you)
        init.onRefused({ code, message, remedy })
        return undefined
      }
    }
  }
}

/** What was answered to a report when it counted, as far as the account of its peer still tells. */
function acceptedBefore({ round }: Report, { lastRound }: RunView['you']): ReportAnswer {
  return { outcome: lastRound > round ? 'late' : 'accepted', round: lastRound, ...nothingToSay }
}

/** One question; when a view has it that the lease is settled, an answer that does not come must have been lost. */
async function ask(
  { host, clock, lease, report }: ReportUpdateInit,
  signal: AbortSignal,
): Promise<ReportAnswer> {
  const over = new AbortController()
  const until = AbortSignal.any([signal, over.signal])
  const body = { ...report, grantedAtMs: lease.grantedAtMs }
  const settled = host
    .waitFor((view) => !holds(view, lease), until)
    .then(() => clock.sleep(reportLimits.lostAnswerMs, until))
    .then(
      () => over.abort(answerLost),
      () => undefined, // answered, or the line has ended, which the question meets itself
    )
  try {
    return await host.request('report', body, { signal: until, timeoutMs: linkPolicy.reportTimeoutMs })
  } finally {
    over.abort()
    await settled
  }
}

const answerLost = new GroundswellError('The answer to a report was lost.', { code: 'report/answer-lost' })

/** Aborts some time after another signal does. */
function partingSignal(
  signal: AbortSignal,
  clock: Clock,
  partingMs: number,
): { signal: AbortSignal } & Disposable {
  const parting = new AbortController()
  const over = new AbortController()
  const onAbort = (): void => {
    clock.sleep(partingMs, over.signal).then(
      () => parting.abort(signal.reason),
      () => undefined, // handed in before
    )
  }
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  return {
    signal: parting.signal,
    [Symbol.dispose]: () => {
      signal.removeEventListener('abort', onAbort)
      over.abort()
    },
  }
}
