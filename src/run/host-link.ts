/**
 * A peer's line to the host: finds it, joins, and keeps asking for the newest view, which is also the heartbeat. When
 * the line breaks it dials again with growing, random pauses; when the host has restarted, or has taken this peer for
 * gone, it joins again. Whoever uses it only waits for views.
 */
import { type Clock, GroundswellError, type Random, type Signer } from '../core/index.ts'
import {
  isRemote,
  type JoinLink,
  type PeerId,
  RemoteError,
  type SignedMessages,
  shortPeerId,
  signedMessages,
  type Transport,
} from '../swarm/index.ts'
import { eventLimits } from './events.ts'
import { unreachableHost } from './host-client.ts'
import type { RoundPolicy } from './policy.ts'
import {
  type CheckpointName,
  type MessageKind,
  type Messages,
  type Progress,
  protocolLimits,
  type RunView,
} from './protocol.ts'
import { messages } from './protocol-schemas.ts'

export interface HostLinkInit {
  readonly link: JoinLink
  readonly transport: Transport
  readonly signer: Signer
  readonly clock: Clock
  /** For the pauses between attempts. */
  readonly random: Random
  readonly session: Uint8Array
  readonly name: string
  /** What goes with the next heartbeat. */
  readonly describe: () => { progress: Progress; held: CheckpointName | null }
  readonly onReconnecting?: (attempt: number, why: string) => void
  /** How long to look for the host at first, and how long to wait for its return later, in pauses. */
  readonly firstPatienceMs?: number
  readonly patienceMs?: number
}

export const linkPolicy = {
  firstPatienceMs: 10_000,
  patienceMs: 600_000,
  dialTimeoutMs: 5000,
  /** For each address when there are others: first all of them are tried quickly, as some may lead nowhere. */
  quickDialTimeoutMs: 1500,
  /** The first pause; each next one is a quarter longer, so that a host that is back is noticed soon. Half of each is random. */
  firstPauseMs: 100,
  pauseGrowth: 1.25,
  longestPauseMs: 10_000,
  /** For an answer that the host gives at once, until the run’s own patience is known. */
  answerTimeoutMs: 20_000,
  /** For any answer, at least: the host answers a `watch` within a third of its patience. */
  leastTimeoutMs: 1000,
  /** For the answer to a report: the host fetches the update first. */
  reportTimeoutMs: 600_000,
  leaveTimeoutMs: 2000,
} as const

export class HostLink {
  readonly host: PeerId
  private readonly init: HostLinkInit
  private readonly messages: SignedMessages
  private readonly waiters = new Set<() => void>()
  private readonly closing = new AbortController()
  private asking = new AbortController()
  private watching: Promise<void> = Promise.resolve()
  private newest: RunView | undefined
  private newestAtMs = 0
  private answerTimeoutMs: number = linkPolicy.answerTimeoutMs
  private failure: unknown

  constructor(init: HostLinkInit) {
    this.init = init
    this.host = init.link.host
    this.messages = signedMessages({ ...init, runId: init.link.runId })
  }

  /**
   * Dials the addresses of the link until one answers.
   * @throws GroundswellError `join/unreachable`
   */
  async connect(signal: AbortSignal): Promise<void> {
    const { link, firstPatienceMs = linkPolicy.firstPatienceMs } = this.init
    await this.withPatience(
      firstPatienceMs,
      signal,
      () => this.dial(signal),
      (cause) => unreachableHost(link, cause),
    )
  }

  /**
   * Joins and gets the first view; from then on `view` is kept up to date until `close`. After `vanishAfterMs` without
   * an answer the host takes this peer for gone, so it is no use waiting longer.
   */
  async join(policy: Pick<RoundPolicy, 'vanishAfterMs'>, signal: AbortSignal): Promise<RunView> {
    await this.rejoin(signal)
    await this.look(this.question(), signal)
    this.answerTimeoutMs = Math.max(linkPolicy.leastTimeoutMs, policy.vanishAfterMs)
    this.watching = this.watch(AbortSignal.any([signal, this.closing.signal]))
    return this.view
  }

  /** The newest view; throws what has ended the line. */
  get view(): RunView {
    if (this.failure !== undefined) throw this.failure
    if (this.newest === undefined) throw new Error('The view is there after joining only.')
    return this.newest
  }

  /** How old the newest view is, in milliseconds: what it says of time left is by so much too long. */
  get viewAgeMs(): number {
    return this.init.clock.steady() - this.newestAtMs
  }

  /** The first view from now on that satisfies. */
  async waitFor(satisfies: (view: RunView) => boolean, signal: AbortSignal): Promise<RunView> {
    while (!satisfies(this.view)) {
      const { promise, resolve: settle } = Promise.withResolvers<void>()
      const resolve = (): void => settle()
      this.waiters.add(resolve)
      signal.addEventListener('abort', resolve, { once: true })
      if (!signal.aborted) await promise
      signal.removeEventListener('abort', resolve)
      this.waiters.delete(resolve)
      signal.throwIfAborted()
    }
    return this.view
  }

  /** Tells the host at once what is different here, instead of when it has news. */
  nudge(): void {
    this.asking.abort(nudged)
  }

  /** Asks the host, again after every break of the line, until it answers or refuses. */
  async request<Kind extends MessageKind>(
    kind: Kind,
    body: Messages[Kind]['body'],
    options: { readonly signal: AbortSignal; readonly timeoutMs?: number },
  ): Promise<Messages[Kind]['reply']> {
    const { signal, timeoutMs = this.answerTimeoutMs } = options
    const { patienceMs = linkPolicy.patienceMs, link } = this.init
    return this.withPatience(
      patienceMs,
      signal,
      () => this.ask(kind, body, timeoutMs, signal),
      (cause) =>
        new GroundswellError(`The host ${shortPeerId(link.host)} has not answered for a long time.`, {
          code: 'run/host-gone',
          remedy: 'Join again when it is back; nothing that was accepted is lost.',
          cause,
        }),
    )
  }

  /** Joins, or joins again after the host said that it does not know this peer. Who is expelled may still look on. */
  async rejoin(signal: AbortSignal): Promise<void> {
    try {
      await this.request('join', this.introduction(), { signal })
    } catch (thrown) {
      if (isRemote(thrown, 'member/expelled')) return
      if (!isRemote(thrown, 'run/finished')) throw thrown
      // Whoever had a part in the run may still fetch its last checkpoint.
      const last = await this.request('watch', this.question(), { signal }).catch(() => undefined)
      if (last === undefined) throw thrown
      this.adopt(last)
    }
  }

  /** Gives up its lease and comes back without one. */
  async startOver(signal: AbortSignal): Promise<void> {
    await this.request('leave', null, { signal })
    await this.rejoin(signal)
    await this.refresh(signal)
  }

  /** Asks for the view of now, whether there is news or not. */
  async refresh(signal: AbortSignal): Promise<RunView> {
    await this.look({ ...this.question(), version: -1 }, signal)
    return this.view
  }

  /** Says good-bye, if anybody listens, and stops asking. */
  async close(): Promise<void> {
    this.closing.abort(new GroundswellError('The line to the host is closed.', { code: 'run/left' }))
    await this.watching
    if (this.newest === undefined) return
    await this.ask('leave', null, linkPolicy.leaveTimeoutMs).catch(() => undefined)
  }

  private async watch(signal: AbortSignal): Promise<void> {
    try {
      while (!signal.aborted) {
        this.asking = new AbortController()
        const until = AbortSignal.any([signal, this.asking.signal])
        try {
          this.adopt(await this.request('watch', this.question(), { signal: until }))
        } catch (thrown) {
          if (thrown === nudged) continue
          if (!isRemote(thrown, 'member/unknown')) throw thrown
          await this.rejoin(signal)
        }
      }
    } catch (thrown) {
      if (signal.aborted) return
      this.failure = thrown
      this.wake()
    }
  }

  /** Gets a view, and joins again first when the host has taken this peer for gone. */
  private async look(question: Messages['watch']['body'], signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        this.adopt(await this.request('watch', question, { signal }))
        return
      } catch (thrown) {
        if (!isRemote(thrown, 'member/unknown')) throw thrown
        await this.rejoin(signal)
      }
    }
  }

  private adopt(view: RunView): void {
    // Of two questions under way the answers may cross. Of a log that was restored from a copy the version is lower.
    const isOlder = view.life === this.newest?.life && view.version < this.newest.version
    if (isOlder) return
    this.newest = view
    this.newestAtMs = this.init.clock.steady()
    this.wake()
  }

  private wake(): void {
    for (const resolve of [...this.waiters]) resolve()
  }

  private introduction(): Messages['join']['body'] {
    const { name, transport } = this.init
    const addresses = transport.addresses.filter(({ length }) => length <= eventLimits.maxAddressLength)
    return { name, addresses: addresses.slice(0, eventLimits.maxAddresses) }
  }

  private question(): Messages['watch']['body'] {
    return { version: this.newest?.version ?? -1, ...this.init.describe() }
  }

  private ask<Kind extends MessageKind>(
    kind: Kind,
    body: Messages[Kind]['body'],
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<Messages[Kind]['reply']> {
    return this.messages.signedRequest<Messages[Kind]['reply']>(this.host, {
      kind,
      body,
      reply: messages[kind].reply,
      maxReplyBytes: kind === 'watch' ? protocolLimits.maxViewBytes : protocolLimits.maxAnswerBytes,
      timeoutMs,
      ...(signal === undefined ? {} : { signal }),
    })
  }

  private async dial(signal: AbortSignal): Promise<void> {
    const { addresses } = this.init.link
    const { quickDialTimeoutMs, dialTimeoutMs } = linkPolicy
    let failure: unknown
    for (const timeoutMs of addresses.length > 1 ? [quickDialTimeoutMs, dialTimeoutMs] : [dialTimeoutMs]) {
      for (const address of addresses) {
        try {
          await this.init.transport.dial(address, { timeoutMs, signal })
          return
        } catch (thrown) {
          signal.throwIfAborted()
          failure = thrown
        }
      }
    }
    throw failure
  }

  /** Repeats what fails because of the line, dialling in between, until the pauses add up to the patience. */
  private async withPatience<Result>(
    patienceMs: number,
    signal: AbortSignal,
    work: () => Promise<Result>,
    giveUp: (cause: unknown) => GroundswellError,
  ): Promise<Result> {
    const { clock, random, onReconnecting } = this.init
    let pausedMs = 0
    for (let attempt = 1; ; attempt++) {
      try {
        return await work()
      } catch (thrown) {
        signal.throwIfAborted()
        if (!isTroubleOfTheLine(thrown)) throw thrown
        if (pausedMs >= patienceMs) throw giveUp(thrown)
        onReconnecting?.(attempt, (thrown as GroundswellError).message)
      }
      const { firstPauseMs, pauseGrowth, longestPauseMs } = linkPolicy
      const longestMs = Math.min(longestPauseMs, firstPauseMs * pauseGrowth ** (attempt - 1))
      const pauseMs = longestMs * (0.5 + 0.5 * random.nextFloat())
      pausedMs += pauseMs
      await clock.sleep(pauseMs, signal)
      await this.dial(signal).catch(() => undefined) // the next attempt tells
      signal.throwIfAborted()
    }
  }
}

const nudged = new GroundswellError('Asked anew.', { code: 'run/nudged' })

const curable = new Set([
  ...['peer/unreachable', 'peer/timeout', 'peer/closed', 'peer/malformed', 'peer/unsupported', 'peer/busy'],
  ...['peer/internal', 'host/failed', 'host/stopped', 'report/busy', 'message/too-many', 'join/too-many'],
  'artifact/unavailable', // the host could not fetch what was reported: it may have lost the connection, too
])

/** What a new connection, or some patience, may cure. */
export function isTroubleOfTheLine(thrown: unknown): boolean {
  if (thrown instanceof RemoteError) {
    return curable.has(thrown.remoteCode)
  }
  return thrown instanceof GroundswellError && curable.has(thrown.code)
}
