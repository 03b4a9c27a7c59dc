/**
 * The host of a run: it appends what happens to the log, lets the reducer say what follows, and does it. It answers
 * the members' messages, fetches and judges every update before it counts, merges each round like everybody else, and
 * keeps the newest checkpoints for those who come later. It may be killed at any instant: `openHost` with the same log
 * and blobs, on this machine or another, goes on where the log ends.
 *
 * Nothing a peer sends can end it. Only its own disk, log or a bug can, or another host that has taken over; then
 * `finished` rejects with the reason.
 */
import { type Cid, type Clock, GroundswellError, type Signer } from '../core/index.ts'
import { type Blobs, type PeerId, serveBlobs, signedMessages, type Transport } from '../swarm/index.ts'
import { createSyncMethod } from '../sync/index.ts'
import { encodeEvent, type RunEvent } from './events.ts'
import { changedPolicy, HostMessages } from './host-messages.ts'
import { HostStore } from './host-store.ts'
import { Journal, logFailure, outOfOrder, superseded } from './journal.ts'
import { type Judge, plausible } from './judge.ts'
import { RoundIndex } from './ledger-page.ts'
import { Liveness } from './liveness.ts'
import type { Log } from './log.ts'
import { type Manifest, runIdOf } from './manifest.ts'
import { hostPlaces, type RoundPolicy } from './policy.ts'
import type { ControlAction, PublicStatus } from './protocol.ts'
import { type Effect, pendingEffects, step } from './reducer.ts'
import { replay } from './replay.ts'
import { ReportDesk } from './report-desk.ts'
import { isPresent, type Member, type RunState } from './state.ts'
import { describeRun, type HostStatus, publicStatus } from './status.ts'

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
  /** Peers that may pause, resume, end and change the run. */
  readonly owners?: readonly PeerId[]
  /** What is checked of every update; `plausible` unless stated. */
  readonly judge?: Judge
  /** Aborted when this host must not lead any more, as when another one has taken over. */
  readonly lease?: AbortSignal
}

/**
 * Opens the run that the log holds, or begins it, and takes it over from any other host.
 * @throws GroundswellError `run/other-run`, `log/damaged`, `host/superseded`
 */
export async function openHost(init: HostInit): Promise<Host> {
  const { log, manifest } = init
  const runId = await runIdOf(manifest)
  if ((await log.length()) === 0) await append(log, createdBy(init, runId), 0)
  const rounds = new RoundIndex()
  const replayed = await replay(log, ({ before, after }) =>
    rounds.note(after.version - 1, (before ?? after).round),
  )
  if (replayed.runId !== runId) {
    throw new GroundswellError('The log belongs to another run than this manifest.', {
      code: 'run/other-run',
      remedy: 'Name another log, or the run file that this log was begun with.',
    })
  }
  const store = await HostStore.open(init, replayed)
  const hosted: RunEvent = {
    type: 'hosted',
    atMs: replayed.nowMs,
    session: nameOf(init.session),
    wallMs: init.clock.now(),
  }
  await append(log, hosted, replayed.version)
  rounds.note(replayed.version, replayed.round)
  const { state } = step(replayed, hosted)
  await store.prune(state, init.lease)
  return new Host(init, { state, store, rounds })
}

/** Of a process, as others read it. */
function nameOf(session: Uint8Array): string {
  return [...session].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

async function append(log: Log, event: RunEvent, expect: number): Promise<void> {
  try {
    await log.append(encodeEvent(event), { expect })
  } catch (thrown) {
    throw logFailure(thrown)
  }
}

function createdBy({ manifest, seed }: HostInit, runId: Cid): RunEvent {
  const { batchSize, gradientAccumulation, sequenceLength } = manifest.inner
  return {
    type: 'created',
    atMs: 0,
    runId,
    policy: manifest.rounds,
    innerSteps: createSyncMethod(manifest.sync).innerSteps,
    batchTokens: batchSize * gradientAccumulation * sequenceLength,
    checkpoint: manifest.initialCheckpoint,
    seed,
  }
}

export class Host implements AsyncDisposable {
  readonly runId: Cid
  readonly manifest: Manifest
  /** Resolves when the last round is merged; rejects when the host cannot go on. */
  readonly finished: Promise<void>
  private readonly init: HostInit
  private readonly store: HostStore
  private readonly journal: Journal
  private readonly messages: HostMessages
  private readonly liveness: Liveness
  private readonly stopping = new AbortController()
  private readonly settleFinished: { resolve: () => void; reject: (reason: unknown) => void }
  private readonly work = new Set<Promise<void>>()
  private readonly listeners = new Set<() => void>()
  private failure: GroundswellError | null = null

  /** Through `openHost` only. */
  constructor(init: HostInit, opened: { state: RunState; store: HostStore; rounds: RoundIndex }) {
    const { clock, log, transport, blobs, manifest } = init
    const { state, store, rounds } = opened
    this.init = init
    this.manifest = manifest
    this.runId = state.runId
    this.store = store
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.finished = promise
    this.finished.catch(() => undefined) // whoever does not wait for the end is told by the status
    this.settleFinished = { resolve, reject }
    const stopping = this.stopping.signal
    this.journal = new Journal({
      ...{ log, clock, state },
      onEvent: (before, after, effects) => {
        rounds.note(before.version, before.round)
        this.messages.tell(before, after)
        this.notify()
        this.perform(effects)
      },
      onFailure: (error) => this.fail(error),
    })
    this.liveness = new Liveness({
      clock,
      vanishAfterMs: () => this.journal.state.policy.vanishAfterMs,
      present: () => presentPeers(this.journal.state),
      onVanished: async (peer) => {
        await this.journal.propose({ type: 'vanished', peer })
      },
      onSwept: () => this.forgetStrangers(),
    })
    const onFailure = (thrown: unknown): void => this.fail(logFailure(thrown))
    const judge = init.judge ?? plausible
    const reports = new ReportDesk({ journal: this.journal, store, judge, stopping, onFailure })
    serveBlobs(transport, blobs)
    const places = hostPlaces(manifest.rounds.maximumPeers)
    this.messages = new HostMessages({
      messages: signedMessages({ ...init, runId: this.runId, maxConcurrent: places.messages }),
      ...{
        clock,
        journal: this.journal,
        life: nameOf(init.session),
        reports,
        liveness: this.liveness,
        stopping,
      },
      ledger: { log, rounds, batchTokens: state.batchTokens },
      owners: init.owners ?? [],
      vanishAfterMs: manifest.rounds.vanishAfterMs,
      failed: () => this.failure !== null,
      describe: () => this.publicStatus(),
      control: (action) => this.control(action),
      onProgress: () => this.notify(),
    })
    init.lease?.addEventListener('abort', this.onSuperseded, { once: true })
    if (init.lease?.aborted) this.onSuperseded()
    this.perform(pendingEffects(state))
    this.inBackground(() => this.liveness.run(stopping))
  }

  /** A snapshot for people and programs. */
  status(): HostStatus {
    const { failure, messages, journal } = this
    const { progress, refusals } = messages
    const { state, nowMs } = journal
    const { transport } = this.init
    return describeRun({ state, nowMs, progress, refusals, failure, name: this.manifest.name, transport })
  }

  /** What everybody may see. */
  publicStatus(): PublicStatus {
    const { state, nowMs } = this.journal
    const { progress } = this.messages
    return publicStatus({ state, nowMs, progress, name: this.manifest.name, method: this.store.method.id })
  }

  /** Calls the listener after every change, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** The parameters of the newest checkpoint, with its round. Not to be written to. */
  checkpoint(): { round: number; checkpoint: Cid; parameters: Float32Array } {
    return { ...this.journal.state.checkpoint, parameters: this.store.parameters }
  }

  /** Lets the open round be the last. */
  async end(): Promise<void> {
    await this.journal.commit({ type: 'ending' }, 'run/ending')
  }

  /** Lets the run stand still when the open round is merged. */
  async pause(): Promise<void> {
    await this.journal.commit({ type: 'paused' }, 'run/paused')
  }

  async resume(): Promise<void> {
    await this.journal.commit({ type: 'resumed' }, 'run/not-paused')
  }

  /** Goes on by other rules, from now on. @throws GroundswellError `control/policy` */
  async changePolicy(change: Partial<RoundPolicy>): Promise<void> {
    const { peers } = hostPlaces(this.manifest.rounds.maximumPeers)
    const policy = changedPolicy(this.journal.state, change, peers)
    await this.journal.commit({ type: 'policyChanged', policy })
  }

  /**
   * Stops answering and waits for what is under way. With `lingerMs`, first gives members that time to fetch the last
   * checkpoint and say good-bye, and onlookers to see the end.
   */
  async stop(options: { readonly lingerMs?: number } = {}): Promise<void> {
    const { lingerMs = 0 } = options
    if (lingerMs > 0 && this.failure === null) await this.linger(lingerMs)
    const reason = new GroundswellError('The host has stopped.', { code: 'host/stopped' })
    this.init.lease?.removeEventListener('abort', this.onSuperseded)
    this.stopping.abort(reason)
    this.messages.wakeAll()
    await Promise.allSettled([...this.work, this.journal.close(reason)])
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  private async linger(lingerMs: number): Promise<void> {
    const { clock } = this.init
    const { promise: allGone, resolve } = Promise.withResolvers<void>()
    const look = (): void => {
      if (!isAwaited(this.journal.state)) resolve()
    }
    const stopListening = this.onChange(look)
    look()
    const over = new AbortController()
    const tooLong = clock.sleep(lingerMs, over.signal).catch(() => undefined)
    const allServed = allGone.then(() => clock.sleep(this.messages.lookedOnForMs, over.signal))
    await Promise.race([allServed.catch(() => undefined), tooLong])
    over.abort()
    stopListening()
  }

  private async control(action: ControlAction): Promise<void> {
    if (action === 'pause') await this.pause()
    else if (action === 'resume') await this.resume()
    else if (action === 'end') await this.end()
    else await this.changePolicy(action.policy)
  }

  private perform(effects: readonly Effect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case 'merge':
          this.inBackground(async () => {
            const checkpoint = await this.store.merge(effect)
            await this.journal.commit({ type: 'checkpointed', round: effect.round, checkpoint })
          })
          break
        case 'wake':
          this.inBackground(() => this.wakeAt(effect.atMs))
          break
        case 'drop':
          this.inBackground(() => this.store.drop(effect.artifacts, () => this.journal.state))
          break
        case 'finish':
          this.settleFinished.resolve()
          break
        default:
          throw new TypeError(`no effect ${String(effect satisfies never)}`)
      }
    }
  }

  /** Sends `ticked` when the deadline has come; it may have moved, or be gone, by then. */
  private async wakeAt(atMs: number): Promise<void> {
    for (;;) {
      const leftMs = atMs - this.journal.nowMs
      if (leftMs <= 0) break
      await this.init.clock.sleep(leftMs, this.stopping.signal) // timers may be a little early
    }
    await this.journal.propose({ type: 'ticked' })
  }

  private forgetStrangers(): void {
    const { members } = this.journal.state
    this.messages.forgetStrangers()
    this.liveness.retain((peer) => members.has(peer))
    this.store.forgetTransfers((peer) => {
      const member = members.get(peer)
      return member === undefined || !isPresent(member)
    })
  }

  private inBackground(work: () => Promise<void>): void {
    const task = work().catch((thrown: unknown) => {
      if (!this.stopping.signal.aborted) this.fail(logFailure(thrown))
    })
    this.work.add(task)
    void task.then(() => this.work.delete(task))
  }

  /** Ends the host because of its own trouble. Whatever was appended to the log is still true. */
  private fail(error: GroundswellError): void {
    this.failure ??= error
    this.settleFinished.reject(this.failure)
    this.stopping.abort(outOfOrder()) // what members hear who are waiting for an answer
    this.messages.wakeAll()
    this.notify()
  }

  private readonly onSuperseded = (): void => this.fail(superseded(this.init.lease?.reason))

  private notify(): void {
    for (const listener of [...this.listeners]) listener()
  }
}

/**
 * Whether somebody may still come for the last checkpoint: members that are present, and those that fell silent within
 * the last two rounds, as they do when this host was away for a moment.
 */
function isAwaited({ counts, members, checkpoint }: RunState): boolean {
  const cameAlong = ({ status, lastRound }: Member): boolean =>
    status === 'vanished' && lastRound > 0 && lastRound >= checkpoint.round - 1
  return counts.present > 0 || members.some(cameAlong)
}

function* presentPeers({ members }: RunState): Iterable<PeerId> {
  for (const [peer, member] of members) if (isPresent(member)) yield peer
}
