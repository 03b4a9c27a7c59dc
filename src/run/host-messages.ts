/**
 * How a host answers: every kind of message in one place, each within its quota, and each refusal counted by its
 * reason. `watch` is the only one that waits, for news or for a while.
 */
import { type Clock, GroundswellError } from '../core/index.ts'
import type { IncomingMessage, PeerId, SignedMessages } from '../swarm/index.ts'
import { type Journal, outOfOrder, refusalError } from './journal.ts'
import { type LedgerInit, ledgerPage, ledgerPageCost } from './ledger-page.ts'
import type { Liveness } from './liveness.ts'
import { roundPolicySchema } from './policy.ts'
import type {
  ControlAction,
  LedgerPage,
  MessageKind,
  Messages,
  Progress,
  PublicStatus,
  RunView,
} from './protocol.ts'
import { messages } from './protocol-schemas.ts'
import { JoinQuota, MessageQuota, QuestionQuota } from './quota.ts'
import type { ReportDesk } from './report-desk.ts'
import { isPresent, type Member, type RunState } from './state.ts'
import { Holders, viewFor } from './views.ts'

const messageLimits = {
  /** Longest time until a `watch` without news is answered. */
  maxPollMs: 2000,
  /** A public status is made anew at most this often. */
  statusEveryMs: 250,
  /** Who has asked for a status asks again within this time, if it goes on looking. */
  nextLookMs: 3000,
  /** Of encoding and signing one, in pages of the ledger. */
  statusCost: 0.1,
} as const

export interface HostMessagesInit {
  readonly messages: SignedMessages
  readonly clock: Clock
  readonly journal: Journal
  /** Name of this process, as in its `hosted` event. */
  readonly life: string
  readonly reports: ReportDesk
  readonly liveness: Liveness
  readonly ledger: LedgerInit
  readonly owners: readonly PeerId[]
  /** Of the manifest: peers rely on it for how long to wait for an answer. */
  readonly vanishAfterMs: number
  readonly stopping: AbortSignal
  readonly failed: () => boolean
  readonly describe: () => PublicStatus
  readonly control: (action: ControlAction) => Promise<void>
  readonly onProgress: () => void
}

type Answers = {
  readonly [Kind in MessageKind]: (
    message: IncomingMessage<Messages[Kind]['body']>,
  ) => Promise<Messages[Kind]['reply']>
}

export class HostMessages {
  readonly progress: Map<PeerId, Progress> = new Map()
  readonly refusals: Map<string, number> = new Map()
  private readonly init: HostMessagesInit
  private readonly quota: MessageQuota
  private readonly joins: JoinQuota
  private readonly questions: QuestionQuota
  private readonly holders = new Holders()
  private readonly waiters = new Map<PeerId, () => void>()
  /** The newest state whose news concern everybody. */
  private newsVersion: number
  /** When somebody was last told that the run is not finished. */
  private lookedAtMs = Number.NEGATIVE_INFINITY
  private described: { status: PublicStatus; atMs: number } | undefined

  constructor(init: HostMessagesInit) {
    this.init = init
    this.quota = new MessageQuota(init.clock)
    this.joins = new JoinQuota(init.clock, () => init.journal.state.policy.maximumPeers)
    this.questions = new QuestionQuota(init.clock)
    this.newsVersion = init.journal.state.version
    const answers = this.answers()
    for (const kind of Object.keys(answers) as MessageKind[]) this.handle(kind, answers)
  }

  /** Wakes those who watch when there is something that they should know before their next heartbeat. */
  tell(before: RunState, after: RunState): void {
    if (!isNews(before, after)) return
    this.newsVersion = after.version
    this.wakeAll()
  }

  /** How long until everybody who looks on has had the time to see what has become of the run. */
  get lookedOnForMs(): number {
    return Math.max(0, this.lookedAtMs + messageLimits.nextLookMs - this.init.clock.steady())
  }

  wakeAll(): void {
    for (const wake of [...this.waiters.values()]) wake()
  }

  /** Forgets what is kept of peers that the state does not know, or that have gone. */
  forgetStrangers(): void {
    const { members } = this.init.journal.state
    const known = (peer: PeerId): boolean => members.has(peer)
    for (const peer of this.progress.keys()) if (!known(peer)) this.progress.delete(peer)
    for (const peer of [...this.holders.peers()]) {
      const member = members.get(peer)
      if (member === undefined || !isPresent(member)) this.holders.forget(peer)
    }
    this.quota.retain(known)
  }

  private answers(): Answers {
    const { journal, reports } = this.init
    return {
      join: (message) => this.join(message),
      ready: async ({ from, body }) => {
        await journal.commit({ type: 'ready', peer: from, ...body }, 'member/ready')
        return null
      },
      watch: (message) => this.watch(message),
      report: (message) => reports.receive(message),
      disagreed: async ({ from, body }) => {
        await journal.commit({ type: 'disagreed', peer: from, ...body }, 'round/reported')
        return null
      },
      leave: async ({ from }) => {
        await journal.commit({ type: 'left', peer: from }, 'member/unknown')
        return null
      },
      status: (message) => this.status(message),
      ledger: (message) => this.ledger(message),
      control: (message) => this.control(message),
    }
  }

  private handle<Kind extends MessageKind>(kind: Kind, answers: Answers): void {
    const { init } = this
    init.messages.handleSigned<Messages[Kind]['body']>(kind, {
      body: messages[kind].body,
      answer: async (message) => {
        try {
          if (init.failed()) throw outOfOrder() // the reason is for the host's owner only
          init.stopping.throwIfAborted()
          const known = init.journal.state.members.has(message.from)
          if (!this.quota.admit(message.from, known)) throw tooMany()
          if (known) init.liveness.heard(message.from)
          return await answers[kind](message)
        } catch (thrown) {
          if (thrown instanceof GroundswellError) this.count(thrown.code)
          throw thrown
        }
      },
    })
  }

  /** The place is taken before the join has its turn, as what is before it in the queue may decide it. */
  private async join({ from, body }: IncomingMessage<Messages['join']['body']>): Promise<null> {
    const { journal } = this.init
    const contributed = this.hasContributed(from)
    if (!this.joins.take(from, contributed)) throw tooManyJoins()
    const refusal = await journal.propose({ type: 'joined', peer: from, ...body })
    if (refusal === undefined) return null
    this.joins.giveBack(from, contributed)
    if (refusal.code === 'member/present') return null
    throw refusalError(refusal)
  }

  private async watch({ from, body, signal }: IncomingMessage<Messages['watch']['body']>): Promise<RunView> {
    const { journal } = this.init
    this.requireMember(from)
    this.progress.set(from, body.progress)
    this.holders.set(from, body.held)
    this.init.onProgress()
    this.waiters.get(from)?.() // a newer question replaces the one before
    if (this.newsVersion <= body.version) await this.news(from, signal)
    this.init.stopping.throwIfAborted()
    const member = this.requireMember(from)
    const merged = body.held?.round ?? -1
    const { holders } = this
    return viewFor(journal.state, from, member, {
      merged,
      nowMs: journal.nowMs,
      holders,
      life: this.init.life,
    })
  }

  /** Resolves when there is news, when the asking peer has gone, or after a while. */
  private async news(peer: PeerId, signal: AbortSignal): Promise<void> {
    const { clock, stopping, vanishAfterMs, journal } = this.init
    const patienceMs = Math.min(vanishAfterMs, journal.state.policy.vanishAfterMs)
    const pollMs = Math.min(messageLimits.maxPollMs, patienceMs / 3)
    const awake = new AbortController()
    const wake = (): void => awake.abort()
    this.waiters.set(peer, wake)
    signal.addEventListener('abort', wake, { once: true })
    if (signal.aborted || stopping.aborted) wake()
    await clock.sleep(pollMs, awake.signal).catch(() => undefined)
    signal.removeEventListener('abort', wake)
    if (this.waiters.get(peer) === wake) this.waiters.delete(peer)
  }

  private async status({ from }: IncomingMessage<Messages['status']['body']>): Promise<PublicStatus> {
    const { statusCost } = messageLimits
    this.placeForQuestion(from, statusCost).settle(statusCost)
    const nowMs = this.init.clock.steady()
    const { phase } = this.init.journal.state
    const hasEnded = phase === 'finished' && this.described?.status.phase !== phase
    if (
      hasEnded ||
      this.described === undefined ||
      nowMs - this.described.atMs >= messageLimits.statusEveryMs
    ) {
      this.described = { status: this.init.describe(), atMs: nowMs }
    }
    if (this.described.status.phase !== 'finished') this.lookedAtMs = nowMs
    return this.described.status
  }

  private async ledger({ from, body }: IncomingMessage<Messages['ledger']['body']>): Promise<LedgerPage> {
    const { ledger } = this.init
    const place = this.placeForQuestion(from, 1)
    let cost = 1
    try {
      const page = await ledgerPage(ledger, body)
      cost = ledgerPageCost(ledger, body.from, page)
      return page
    } finally {
      place.settle(cost)
    }
  }

  private hasContributed(peer: PeerId): boolean {
    return (this.init.journal.state.members.get(peer)?.contributions ?? 0) > 0
  }

  private placeForQuestion(peer: PeerId, most: number): { readonly settle: (cost: number) => void } {
    const isStranger = !this.hasContributed(peer) && !this.init.owners.includes(peer)
    const place = this.questions.take(peer, isStranger, most)
    if (place === undefined) throw tooManyQuestions()
    return place
  }

  private async control({ from, body }: IncomingMessage<Messages['control']['body']>): Promise<PublicStatus> {
    const { owners, control, describe } = this.init
    if (!owners.includes(from)) {
      throw new GroundswellError('Only an owner of the run may do that.', {
        code: 'control/not-owner',
        remedy: 'Name this peer as an owner when the host is started.',
      })
    }
    await control(body.action)
    return describe()
  }

  /** Members that take part; and of the others who may look on: the expelled, and at the end all, for the last checkpoint. */
  private requireMember(peer: PeerId): Member {
    const { members, phase } = this.init.journal.state
    const member = members.get(peer)
    const mayLook = phase === 'finished' || member?.status === 'expelled'
    if (member !== undefined && (isPresent(member) || mayLook)) return member
    throw new GroundswellError('The peer is not in the run.', {
      code: 'member/unknown',
      remedy: 'Join again.',
    })
  }

  private count(reason: string): void {
    this.refusals.set(reason, (this.refusals.get(reason) ?? 0) + 1)
  }
}

/**
 * The policy in force with some values changed, for a host that was opened with room for so many peers.
 * @throws GroundswellError `control/policy`
 */
export function changedPolicy(
  state: RunState,
  change: Extract<ControlAction, object>['policy'],
  mostPeers: number,
): RunState['policy'] {
  if ((change.maximumPeers ?? 0) > mostPeers) {
    throw new GroundswellError(`That policy cannot be: this host has room for ${mostPeers} peers.`, {
      code: 'control/policy',
      remedy: 'Begin a run with a larger maximumPeers for more.',
    })
  }
  const parsed = roundPolicySchema.safeParse({ ...state.policy, ...change })
  if (parsed.success) return parsed.data
  const { path, message } = parsed.error.issues[0]!
  throw new GroundswellError(`That policy cannot be: ${[...path, message].join(': ')}.`, {
    code: 'control/policy',
    remedy: 'Choose values that the “run” section of a run file could have.',
  })
}

/** Whether members have to learn of it before their next heartbeat. */
function isNews(before: RunState, after: RunState): boolean {
  return (
    before.phase !== after.phase ||
    before.open?.openedAtMs !== after.open?.openedAtMs ||
    before.open?.round !== after.open?.round ||
    before.checkpoint.checkpoint !== after.checkpoint.checkpoint ||
    before.pauseRequested !== after.pauseRequested
  )
}

function tooMany(): GroundswellError {
  return new GroundswellError('Too many messages in a short time.', {
    code: 'message/too-many',
    remedy: 'Ask again in a second.',
  })
}

function tooManyJoins(): GroundswellError {
  return new GroundswellError('Too many have joined in a short time.', {
    code: 'join/too-many',
    remedy: 'Ask again in ten seconds.',
  })
}

function tooManyQuestions(): GroundswellError {
  return new GroundswellError('The host is asked too much at once.', {
    code: 'question/too-many',
    remedy: 'Ask again in a second.',
  })
}
