/**
 * The host of a run: it appends what happens to the log, lets the reducer say what follows, and does it. It answers
 * the members' messages, fetches and checks every update before it counts, merges each round like everybody else, and
 * keeps the newest checkpoints for those who come later. It may be killed at any instant: `openHost` with the same log
 * and blobs goes on where the log ends.
 *
 * Nothing a peer sends can end it. Only its own disk, log or a bug can, and then `finished` rejects with the reason.
 */
import { type Cid, type Clock, GroundswellError, messageOf, type Signer } from '../core/index.ts'
import {
  type Blobs,
  type IncomingMessage,
  type PeerId,
  type SignedMessages,
  serveBlobs,
  signedMessages,
  type Transport,
} from '../swarm/index.ts'
import { type Accepted, encodeEvent, type RunEvent } from './events.ts'
import { type CheckedUpdate, HostStore } from './host-store.ts'
import type { Log } from './log.ts'
import { type Manifest, runIdOf } from './manifest.ts'
import {
  type MessageKind,
  type Messages,
  messages,
  type Progress,
  type RunView,
  viewFor,
} from './protocol.ts'
import {
  type Effect,
  isPresent,
  peersOf,
  pendingEffects,
  type Refusal,
  type RunState,
  step,
} from './reducer.ts'
import { replay } from './replay.ts'
import { describeRun, type HostStatus } from './status.ts'

export interface HostInit {
  readonly manifest: Manifest
  readonly transport: Transport
  /** Of the transport's identity. */
  readonly signer: Signer
  /** Holds the manifest's initial checkpoint and whatever else it names. */
  readonly blobs: Blobs
  readonly log: Log
  readonly clock: Clock
  /** 16 random bytes, fresh for this process. */
  readonly session: Uint8Array
  /** Random text from which a new run's seeds are derived. */
  readonly seed: string
}

const hostLimits = {
  /** A member counts as gone after this many silent sweeps, of which there are four in `vanishAfterMs`. */
  silentSweeps: 4,
  /** Longest time until a `watch` without news is answered. */
  maxPollMs: 2000,
} as const

/** Opens the run that the log holds, or begins it. */
export async function openHost(init: HostInit): Promise<Host> {
  const runId = await runIdOf(init.manifest)
  const { log, manifest } = init
  if ((await log.length()) === 0) {
    const created: RunEvent = {
      type: 'created',
      atMs: init.clock.now(),
      runId,
      policy: manifest.rounds,
      checkpoint: manifest.initialCheckpoint,
      seed: init.seed,
    }
    await log.append(encodeEvent(created), { expect: 0 })
  }
  const state = await replay(log)
  if (state.runId !== runId) {
    throw new GroundswellError('The log belongs to another run than this manifest.', {
      code: 'run/other-run',
      remedy: 'Name another log, or the run file that this log was begun with.',
    })
  }
  return new Host(init, state, await HostStore.open(init, state))
}

export class Host implements AsyncDisposable {
  readonly runId: Cid
  readonly manifest: Manifest
  /** Resolves when the last round is merged; rejects when the host cannot go on. */
  readonly finished: Promise<void>
  private readonly init: HostInit
  private readonly store: HostStore
  private readonly messages: SignedMessages
  private readonly stopping = new AbortController()
  private readonly settleFinished: { resolve: () => void; reject: (reason: unknown) => void }
  private readonly work = new Set<Promise<void>>()
  private readonly listeners = new Set<() => void>()
  private readonly waiters = new Map<PeerId, () => void>()
  private readonly progress = new Map<PeerId, Progress>()
  private readonly silence = new Map<PeerId, number>()
  private readonly refusals = new Map<string, number>()
  /** Updates that are being fetched, by the peer that reported them. */
  private readonly reporting = new Map<PeerId, Cid>()
  private state: RunState
  /** The newest state whose news concern everybody. */
  private newsVersion: number
  private commits: Promise<unknown> = Promise.resolve()
  private failure: GroundswellError | null = null

  constructor(init: HostInit, state: RunState, store: HostStore) {
    this.init = init
    this.manifest = init.manifest
    this.runId = state.runId
    this.store = store
    this.state = state
    this.newsVersion = state.version
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.finished = promise
    this.finished.catch(() => undefined) // whoever does not wait for the end is told by the status
    this.settleFinished = { resolve, reject }
    serveBlobs(init.transport, init.blobs)
    this.messages = signedMessages({ ...init, runId: this.runId })
    this.answerMessages()
    this.perform(pendingEffects(state))
    this.inBackground(() => this.sweep())
  }

  /** A snapshot for people and programs. */
  status(): HostStatus {
    const { state, progress, refusals, failure } = this
    return describeRun({
      state,
      progress,
      refusals,
      failure,
      name: this.manifest.name,
      transport: this.init.transport,
    })
  }

  /** Calls the listener after every change, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** The parameters of the newest checkpoint, with its round. Not to be written to. */
  checkpoint(): { round: number; checkpoint: Cid; parameters: Float32Array } {
    return { ...this.state.checkpoint, parameters: this.store.parameters }
  }

  /** Lets the open round be the last. */
  async end(): Promise<void> {
    await this.commit({ type: 'ending', atMs: this.now() })
  }

  /**
   * Stops answering and waits for what is under way. With `lingerMs`, first gives members that time to fetch the last
   * checkpoint and say good-bye.
   */
  async stop(options: { readonly lingerMs?: number } = {}): Promise<void> {
    const { lingerMs = 0 } = options
    const anybody = (): boolean => Object.values(this.state.members).some(isPresent)
    const { promise: allGone, resolve } = Promise.withResolvers<void>()
    const stopListening = this.onChange(() => {
      if (!anybody()) resolve()
    })
    if (lingerMs > 0 && anybody() && this.failure === null) {
      const linger = new AbortController()
      await Promise.race([allGone, this.init.clock.sleep(lingerMs, linger.signal)])
      linger.abort()
    }
    stopListening()
    this.stopping.abort(new GroundswellError('The host has stopped.', { code: 'host/stopped' }))
    for (const release of this.waiters.values()) release()
    await Promise.allSettled([...this.work, this.commits])
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  // Messages

  private answerMessages(): void {
    this.handle('join', async ({ from, body }) => {
      await this.commit({ type: 'joined', atMs: this.now(), peer: from, ...body }, 'member/present')
      return null
    })
    this.handle('ready', async ({ from }) => {
      await this.commit({ type: 'ready', atMs: this.now(), peer: from }, 'member/ready')
      return null
    })
    this.handle('watch', (message) => this.watch(message))
    this.handle('report', async (message) => {
      await this.receiveReport(message)
      return null
    })
    this.handle('applied', async ({ from, body }) => {
      await this.commit({ type: 'applied', atMs: this.now(), peer: from, ...body }, 'round/reported')
      const closed = this.state.closed.find(({ round }) => round === body.round)
      return { checkpoint: closed?.checkpoint ?? null }
    })
    this.handle('leave', async ({ from }) => {
      await this.commit({ type: 'left', atMs: this.now(), peer: from }, 'member/unknown')
      return null
    })
  }

  private handle<Kind extends MessageKind>(
    kind: Kind,
    answer: (message: IncomingMessage<Messages[Kind]['body']>) => Promise<Messages[Kind]['reply']>,
  ): void {
    this.messages.handleSigned(kind, {
      body: messages[kind].body,
      answer: async (message) => {
        if (this.failure !== null) throw outOfOrder() // the reason is for the host's owner only
        this.stopping.signal.throwIfAborted()
        if (message.from in this.state.members) this.silence.set(message.from, 0)
        try {
          return await answer(message as IncomingMessage<Messages[Kind]['body']>)
        } catch (thrown) {
          if (thrown instanceof GroundswellError) this.count(thrown.code)
          throw thrown
        }
      },
    })
  }

  private async watch({ from, body, signal }: IncomingMessage<Messages['watch']['body']>): Promise<RunView> {
    this.requireMember(from)
    this.progress.set(from, body.progress)
    this.notify()
    this.waiters.get(from)?.() // a newer question replaces the one before
    if (this.newsVersion <= body.version) await this.news(from, signal)
    this.requireMember(from)
    return viewFor(this.state, from, body.applied)
  }

  /** Resolves when there is news, when the asking peer has gone, or after a while. */
  private async news(peer: PeerId, signal: AbortSignal): Promise<void> {
    const pollMs = Math.min(hostLimits.maxPollMs, this.manifest.rounds.vanishAfterMs / 3)
    const awake = new AbortController()
    const wake = (): void => awake.abort()
    this.waiters.set(peer, wake)
    signal.addEventListener('abort', wake, { once: true })
    if (signal.aborted || this.stopping.signal.aborted) wake()
    await this.init.clock.sleep(pollMs, awake.signal).catch(() => undefined)
    signal.removeEventListener('abort', wake)
    if (this.waiters.get(peer) === wake) this.waiters.delete(peer)
  }

  private async receiveReport({
    from,
    body,
    signal,
    envelope,
  }: IncomingMessage<Messages['report']['body']>): Promise<void> {
    if (this.isAccepted(from, body)) return // its first answer was lost on the way
    const { batchSize, gradientAccumulation, sequenceLength } = this.manifest.inner
    const maxTokens = this.manifest.sync.innerSteps * batchSize * gradientAccumulation * sequenceLength
    if (body.tokens > maxTokens) {
      throw new GroundswellError(`A round has at most ${maxTokens} tokens of one peer, not ${body.tokens}.`, {
        code: 'report/too-many-tokens',
      })
    }
    const event: RunEvent = { type: 'contributed', atMs: this.now(), peer: from, ...body, report: envelope }
    const { refusal } = step(this.state, event)
    if (refusal !== undefined) throw refusalError(refusal)
    if (this.reporting.has(from)) {
      throw new GroundswellError('Another report of this peer is being fetched.', {
        code: 'report/busy',
        remedy: 'Wait for its answer.',
      })
    }
    if ([...this.reporting.values()].includes(body.update)) {
      throw new GroundswellError(`Update ${body.update} is being contributed by another peer.`, {
        code: 'round/copy',
      })
    }
    this.reporting.set(from, body.update)
    try {
      const until = AbortSignal.any([signal, this.stopping.signal])
      await this.accept(await this.store.fetchUpdate(from, body.update, until), event)
    } finally {
      this.reporting.delete(from)
    }
  }

  /** Stores first and logs then: what the log says is here whatever becomes of the peer. */
  private async accept(update: CheckedUpdate, event: RunEvent): Promise<void> {
    try {
      await this.store.keepUpdate(update)
    } catch (thrown) {
      if (thrown instanceof GroundswellError && thrown.code === 'artifact/malformed') throw thrown
      this.fail(thrown) // the host's own disk
      throw outOfOrder()
    }
    const refusal = await this.propose({ ...event, atMs: this.now() })
    if (refusal === undefined) return
    await this.store.drop([update.root], () => this.state)
    throw refusalError(refusal)
  }

  private isAccepted(peer: PeerId, { round, update }: Messages['report']['body']): boolean {
    const { open, closed } = this.state
    if (open?.round === round) return open.contributions[peer]?.update === update
    const accepted = closed.find((each) => each.round === round)?.accepted ?? []
    return accepted.some((each) => each.peer === peer && each.update === update)
  }

  private requireMember(peer: PeerId): void {
    const member = this.state.members[peer]
    if (member !== undefined && isPresent(member)) return
    throw new GroundswellError('The peer is not in the run.', {
      code: 'member/unknown',
      remedy: 'Join again.',
    })
  }

  // Events

  /** Decides, appends, and then acts: one event at a time, in the order of the calls. Returns why it cannot happen. */
  private propose(event: RunEvent): Promise<Refusal | undefined> {
    const decided = this.commits.then(() => this.decide(event))
    this.commits = decided.catch(() => undefined)
    return decided
  }

  private async decide(event: RunEvent): Promise<Refusal | undefined> {
    if (this.failure !== null) throw outOfOrder()
    this.stopping.signal.throwIfAborted()
    const before = this.state
    const { state, effects, refusal } = step(before, event)
    if (refusal !== undefined) return refusal
    try {
      await this.init.log.append(encodeEvent(event), { expect: before.version })
    } catch (thrown) {
      this.fail(thrown)
      throw outOfOrder()
    }
    this.state = state
    if (isNews(before, state)) {
      this.newsVersion = state.version
      for (const wake of [...this.waiters.values()]) wake()
    }
    this.notify()
    this.perform(effects)
    return undefined
  }

  /** Makes it happen, or throws why it cannot; that it `happened` already is no reason to. */
  private async commit(event: RunEvent, happened?: string): Promise<void> {
    const refusal = await this.propose(event)
    if (refusal !== undefined && refusal.code !== happened) throw refusalError(refusal)
  }

  // Effects

  private perform(effects: readonly Effect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case 'merge':
          this.inBackground(() => this.merge(effect.round, effect.accepted))
          break
        case 'wake':
          this.inBackground(() => this.wakeAt(effect.atMs))
          break
        case 'drop':
          this.inBackground(() => this.store.drop(effect.artifacts, () => this.state))
          break
        case 'finish':
          this.settleFinished.resolve()
          break
        default:
          throw new TypeError(`no effect ${String(effect satisfies never)}`)
      }
    }
  }

  private async merge(round: number, accepted: readonly Accepted[]): Promise<void> {
    const checkpoint = await this.store.merge(round, accepted)
    await this.commit({ type: 'checkpointed', atMs: this.now(), round, checkpoint })
  }

  /** Sends `ticked` when the deadline has come; it may have moved, or be gone, by then. */
  private async wakeAt(atMs: number): Promise<void> {
    await this.init.clock.sleep(Math.max(0, atMs - this.now()), this.stopping.signal)
    await this.propose({ type: 'ticked', atMs: Math.max(atMs, this.now()) })
  }

  /** Counts for how long each member has said nothing. Counted in sweeps, so that no jump of the clock matters. */
  private async sweep(): Promise<void> {
    const intervalMs = this.manifest.rounds.vanishAfterMs / hostLimits.silentSweeps
    for (;;) {
      await this.init.clock.sleep(intervalMs, this.stopping.signal)
      for (const peer of peersOf(this.state.members)) {
        if (!isPresent(this.state.members[peer]!)) continue
        const silent = (this.silence.get(peer) ?? 0) + 1
        this.silence.set(peer, silent)
        if (silent <= hostLimits.silentSweeps) continue
        await this.propose({ type: 'vanished', atMs: this.now(), peer })
      }
      this.forgetStrangers()
    }
  }

  private forgetStrangers(): void {
    for (const held of [this.silence, this.progress]) {
      for (const peer of held.keys()) if (!(peer in this.state.members)) held.delete(peer)
    }
    this.store.forgetTransfers(
      (peer) => !(peer in this.state.members) || !isPresent(this.state.members[peer]!),
    )
  }

  private inBackground(work: () => Promise<void>): void {
    const task = work().catch((thrown: unknown) => {
      if (!this.stopping.signal.aborted) this.fail(thrown)
    })
    this.work.add(task)
    void task.then(() => this.work.delete(task))
  }

  /** Ends the host because of its own trouble. Whatever was appended to the log is still true. */
  private fail(thrown: unknown): void {
    this.failure ??=
      thrown instanceof GroundswellError
        ? thrown
        : new GroundswellError(`The host failed: ${messageOf(thrown)}`, {
            code: 'host/failed',
            cause: thrown,
          })
    this.settleFinished.reject(this.failure)
    this.stopping.abort(this.failure)
    this.notify()
  }

  private notify(): void {
    for (const listener of [...this.listeners]) listener()
  }

  private count(reason: string): void {
    this.refusals.set(reason, (this.refusals.get(reason) ?? 0) + 1)
  }

  private now(): number {
    return this.init.clock.now()
  }
}

/** Whether members have to learn of it before their next heartbeat. */
function isNews(before: RunState, after: RunState): boolean {
  return (
    before.phase !== after.phase ||
    before.open?.openedAtMs !== after.open?.openedAtMs ||
    before.open?.round !== after.open?.round ||
    before.checkpoint.checkpoint !== after.checkpoint.checkpoint
  )
}

function outOfOrder(): GroundswellError {
  return new GroundswellError('The host cannot go on.', {
    code: 'host/failed',
    remedy: 'Wait until its owner has restarted it.',
  })
}

function refusalError({ code, message, remedy }: Refusal): GroundswellError {
  return new GroundswellError(message, remedy === undefined ? { code } : { code, remedy })
}
