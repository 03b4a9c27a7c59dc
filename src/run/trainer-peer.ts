/**
 * A peer that trains: it joins a run, fetches what the run needs, measures itself, and then works on one lease after
 * the other, publishes what it learnt, and merges what was accepted. It may be late, slow, cut off, suspended or alone;
 * it then waits, catches up and goes on, and says why. Its inner optimiser's state stays, across rounds.
 */
import { type Cid, type Clock, GroundswellError, messageOf, type Random, type Signer } from '../core/index.ts'
import { layoutOf } from '../model/index.ts'
import {
  type Blobs,
  fetchBlob,
  isRemote,
  type JoinLink,
  putArtifact,
  RemoteError,
  serveBlobs,
  type Transport,
} from '../swarm/index.ts'
import { createSyncMethod, type SyncMethod, type TensorLayout } from '../sync/index.ts'
import { obtainArtifact } from './artifacts.ts'
import { HostLink, linkPolicy } from './host-link.ts'
import type { PrepareContext, Workload } from './inner-trainer.ts'
import { remedyFor } from './judge.ts'
import { holds, type LeaseResult, workOnLease } from './lease-work.ts'
import { decodeLocal, encodeLocal, type LocalStore } from './local-store.ts'
import { type Manifest, parseRunManifest } from './manifest.ts'
import type {
  CheckpointName,
  LeaseView,
  PeerPhase,
  Progress,
  Report,
  ReportAnswer,
  RunView,
} from './protocol.ts'
import { reasonToCatchUp, reasonToWait, whatBecameOf } from './reasons.ts'
import { Replica, type ReplicaEvent } from './replica.ts'
import { roundLearningRate } from './schedule-position.ts'
import type { Verdict } from './state.ts'

export interface TrainerPeerInit {
  readonly link: JoinLink
  readonly transport: Transport
  /** Of the transport's identity. */
  readonly signer: Signer
  readonly blobs: Blobs
  readonly clock: Clock
  readonly random: Random
  /** 16 random bytes, fresh for this process. */
  readonly session: Uint8Array
  /** What people see. */
  readonly name: string
  readonly prepare: (context: PrepareContext) => Promise<Workload>
  /** Keeps residuals over a restart of the process. */
  readonly localStore?: LocalStore
  readonly onEvent?: (event: PeerEvent) => void
  readonly firstPatienceMs?: number
  readonly patienceMs?: number
}

export type PeerEvent =
  | { readonly type: 'phase'; readonly phase: PeerPhase; readonly why: string }
  | { readonly type: 'joined'; readonly manifest: Manifest }
  | { readonly type: 'measured'; readonly stepsPerSecond: number | null }
  | { readonly type: 'leased'; readonly round: number; readonly steps: number }
  | { readonly type: 'step'; readonly round: number; readonly step: number; readonly loss: number }
  /** `round` is that of the lease, `countedIn` a later one when it came late. */
  | {
      readonly type: 'accepted'
      readonly round: number
      readonly countedIn: number
      readonly steps: number
      readonly tokens: number
    }
  | {
      readonly type: 'refused'
      readonly round: number
      readonly code: string
      readonly message: string
      readonly remedy: string
    }
  /** The lease was taken back before this peer was done with it. */
  | { readonly type: 'missed'; readonly round: number; readonly why: string }
  | { readonly type: 'expelled'; readonly untilRound: number; readonly reason: string; readonly remedy: string }
  | { readonly type: 'reconnecting'; readonly attempt: number; readonly why: string }
  | ReplicaEvent

/** What a contributor always sees. */
export interface PeerStatus {
  readonly phase: PeerPhase
  /** Why it is not training, in words. */
  readonly why: string
  readonly round: number
  readonly lastRound: number
  /** Inner steps done of its lease, and those of the lease; 0 without one. */
  readonly step: number
  readonly leaseSteps: number
  /** Of the median peer. */
  readonly innerSteps: number
  readonly loss: number | null
  readonly tokensPerSecond: number | null
  /** As the host measured it, or else this peer itself. */
  readonly stepsPerSecond: number | null
  /** Its part of all accepted tokens, from 0 to 1. */
  readonly share: number
  readonly contributions: number
  /** Round that counted its last accepted contribution; 0 when there is none. */
  readonly lastAccepted: number
  /** What became of its newest finished lease, and what can be done about it. */
  readonly lastVerdict: (Verdict & { readonly remedy: string }) | null
  readonly checkpoint: CheckpointName | null
  readonly sentBytes: number
  readonly receivedBytes: number
}

export interface PeerResult {
  /** `left`: the signal was aborted. */
  readonly reason: 'finished' | 'left'
  readonly status: PeerStatus
  /** The newest merged parameters, if it got so far. */
  readonly parameters: Float32Array | undefined
}

const peerLimits = {
  /** Own updates that are kept for others to fetch. */
  keptUpdates: 3,
  /** How long a peer that was asked to leave tries to hand in what it has done. */
  partingMs: 5000,
  /** Divergences in a row after which it is no use going on. */
  divergences: 3,
} as const

/** What stays the same for as long as a peer takes part. */
interface Work {
  readonly manifest: Manifest
  readonly method: SyncMethod
  readonly layout: TensorLayout
  readonly workload: Workload
  readonly replica: Replica
}

export class TrainerPeer {
  private readonly init: TrainerPeerInit
  private readonly host: HostLink
  private phase: PeerPhase = 'connecting'
  private why = 'looking for the host'
  private step = 0
  private loss: number | null = null
  private tokensPerSecond: number | null = null
  private measured: number | null = null
  private replica: Replica | undefined
  private manifest: Manifest | undefined
  private readonly ownUpdates: Cid[] = []
  private lease: LeaseView | null = null
  /** The lease with which this peer is done, whatever the newest view still says. */
  private doneWith: LeaseView | undefined
  /** Of the method: what only this peer knows. */
  private local: unknown
  /** Its parameters after its newest lease, if that counts: what some methods go on from. */
  private own: { readonly round: number; readonly parameters: Float32Array } | undefined
  private reportMs = 0
  private divergences = 0
  private expelledUntil = 0
  private view: RunView | undefined
  private contributions = 0
  private lastAccepted = 0
  private lastVerdict: Verdict | null = null

  constructor(init: TrainerPeerInit) {
    this.init = init
    this.host = new HostLink({
      ...init,
      describe: () => ({ progress: this.progress(), held: this.replica?.held ?? null }),
      onReconnecting: (attempt, why) => this.emit({ type: 'reconnecting', attempt, why }),
    })
  }

  /**
   * Takes part until the run is finished, or until the signal says to leave: then it hands in what it has done of its
   * lease, if that goes quickly, and says good-bye.
   */
  async run(signal: AbortSignal): Promise<PeerResult> {
    serveBlobs(this.init.transport, this.init.blobs)
    let reason: PeerResult['reason'] = 'finished'
    try {
      await this.takePart(signal)
    } catch (thrown) {
      if (!signal.aborted) throw thrown
      reason = 'left'
    } finally {
      await this.host.close()
    }
    const merged = this.replica !== undefined && this.replica.round >= 0
    return { reason, status: this.status(), parameters: merged ? this.replica!.parameters : undefined }
  }

  status(): PeerStatus {
    const { view, replica, manifest, lastVerdict } = this
    const { sentBytes, receivedBytes } = this.init.transport.ledger.total()
    return {
      phase: this.phase,
      why: this.why,
      round: view?.round ?? 0,
      lastRound: view?.lastRound ?? 0,
      step: this.step,
      leaseSteps: this.lease?.steps ?? 0,
      innerSteps: manifest === undefined ? 0 : createSyncMethod(manifest.sync).innerSteps,
      loss: this.loss,
      tokensPerSecond: this.tokensPerSecond,
      stepsPerSecond: view?.you.stepsPerSecond ?? this.measured,
      share: view?.you.share ?? 0,
      contributions: Math.max(this.contributions, view?.you.contributions ?? 0),
      lastAccepted: Math.max(this.lastAccepted, view?.you.lastRound ?? 0),
      lastVerdict: lastVerdict === null ? null : { ...lastVerdict, remedy: remedyOf(lastVerdict) },
      checkpoint: replica?.held ?? null,
      sentBytes,
      receivedBytes,
    }
  }

  private async takePart(signal: AbortSignal): Promise<void> {
    const { host, init } = this
    this.enter('connecting', 'looking for the host')
    await host.connect(signal)
    this.enter('fetching', 'fetching what the run is')
    const manifest = await this.fetchManifest(signal)
    this.manifest = manifest
    await host.join(manifest.rounds, signal)
    this.look()
    this.emit({ type: 'joined', manifest })
    const method = createSyncMethod(manifest.sync)
    const layout = layoutOf(manifest.model)
    const replica = new Replica({
      ...{ ...init, manifest, method, layout, host },
      onEvent: (event) => this.emit(event),
    })
    this.replica = replica
    this.enter('fetching', 'fetching the tokenizer and the data')
    const workload = await this.prepare(manifest, layout, signal)
    const work: Work = { manifest, method, layout, workload, replica }
    this.local = await this.loadLocal(work)
    await this.measure(work)
    while (await this.takeTurn(work, signal)) signal.throwIfAborted()
    this.enter('finished', 'the run is finished')
  }

  /** Does the one thing that the newest view asks for; false when there is nothing more to do. */
  private async takeTurn(work: Work, signal: AbortSignal): Promise<boolean> {
    const { host } = this
    const { replica } = work
    const view = this.look()
    if (view.you.status === 'expelled') {
      await this.sitOut(view, signal)
      return true
    }
    const lease = this.leaseIn(view)
    if (lease !== null && this.canWorkOn(lease, work, view)) {
      await this.workOn(lease, work, signal)
      return true
    }
    if (lease !== null && Math.max(replica.round, view.checkpoint.round) >= lease.round) {
      // The checkpoint that it starts from is history: this process was not there when it was given.
      this.enter('waiting', `for a new lease: that of round ${lease.round} is from before this process`)
      await host.startOver(signal)
      return true
    }
    if (replica.isBehind(view) && replica.canFollow(view)) {
      await this.catchUp(replica, view, signal)
      return true
    }
    if (view.phase === 'finished' && !replica.isBehind(view)) return false
    if (view.you.status === 'joining') {
      await host.request('ready', { stepsPerSecond: this.measured }, { signal })
    }
    this.enter('waiting', reasonToWait(view))
    await host.waitFor((each) => each !== view, signal)
    return true
  }

  private leaseIn(view: RunView): LeaseView | null {
    const { lease } = view.you
    return lease !== null && this.doneWith !== undefined && holds(view, this.doneWith) ? null : lease
  }

  /** From the checkpoint before its round, which must be the run's; where the method allows it, one round earlier. */
  private canWorkOn(lease: LeaseView, { replica, method }: Work, view: RunView): boolean {
    if (replica.round === lease.round - 1) {
      return view.checkpoint.round !== replica.round || !replica.isBehind(view)
    }
    const overlaps = method.overlapSteps > 0 && this.own?.round === lease.round - 1
    return overlaps && replica.round === lease.round - 2 && replica.canFollow(view)
  }

  private async workOn(lease: LeaseView, work: Work, signal: AbortSignal): Promise<void> {
    const { replica, method, workload } = work
    this.lease = lease
    this.step = 0
    this.emit({ type: 'leased', round: lease.round, steps: lease.steps })
    this.enter('training', '')
    const own = this.own?.round === lease.round - 1 ? this.own.parameters : undefined
    const overlaps = replica.round < lease.round - 1
    const following = overlaps ? this.followUpTo(lease.round - 1, replica, signal) : Promise.resolve()
    following.catch(() => undefined) // met where it is waited for
    const start = async (): Promise<Float32Array> => {
      await following
      const held = overlaps ? await workload.trainer.parameters() : own
      return method.startRound(replica.state, this.local, held)
    }
    try {
      const result = await workOnLease({
        ...{ method, workload, lease, start, clock: this.init.clock, leaving: signal },
        overlapSteps: overlaps ? method.overlapSteps : 0,
        look: () => ({ view: this.look(), ageMs: this.host.viewAgeMs }),
        reportMs: this.reportMs,
        onStep: ({ step, loss, tokensPerSecond }) => {
          this.step = step
          this.loss = loss
          this.tokensPerSecond = tokensPerSecond
          this.emit({ type: 'step', round: lease.round, step, loss })
        },
      })
      this.own = undefined
      if (result === undefined) {
        this.doneWith = lease
        this.emit({ type: 'missed', round: lease.round, why: whatBecameOf(lease, this.look()) })
      } else {
        await this.handIn(lease, result, work, signal)
      }
    } catch (thrown) {
      this.own = undefined
      await this.recover(thrown, lease, work, signal)
    } finally {
      this.lease = null
    }
  }

  /** What a peer can go on after: a divergence, once or twice, and what is not to be had at the moment. */
  private async recover(thrown: unknown, lease: LeaseView, work: Work, signal: AbortSignal): Promise<void> {
    if (signal.aborted || !(thrown instanceof GroundswellError)) throw thrown
    if (thrown.code === 'artifact/unavailable') {
      await this.waitFor(this.look(), messageOf(thrown), signal)
      return
    }
    if (!thrown.code.endsWith('/diverged') || ++this.divergences >= peerLimits.divergences) throw thrown
    const { code, message } = thrown
    this.doneWith = lease
    const remedy = thrown.remedy ?? 'It goes on with the next lease and a fresh optimiser.'
    this.emit({ type: 'refused', round: lease.round, code, message, remedy })
    await work.workload.trainer.reset()
    await this.host.startOver(signal)
  }

  private async followUpTo(round: number, replica: Replica, signal: AbortSignal): Promise<void> {
    while (replica.round < round) await replica.follow(this.look(), signal)
  }

  /** Encodes, stores and reports. What the method keeps for itself is kept only if the update counts. */
  private async handIn(
    lease: LeaseView,
    { values, steps, tokens, loss }: LeaseResult,
    { method, layout, replica, manifest }: Work,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, blobs } = this.init
    const startedAtMs = clock.steady()
    this.enter('reporting', 'the host is fetching this lease’s update')
    const { round } = lease
    const learningRate = roundLearningRate(manifest.inner, { round, innerSteps: method.innerSteps })
    const { bytes, local } = method.encodeUpdate(
      { state: replica.state, local: this.local, round, values, learningRate },
      layout,
    )
    const update = await putArtifact(blobs, bytes)
    this.ownUpdates.push(update)
    const answer = await this.report({ round, update, steps, tokens, loss }, lease, signal)
    this.doneWith = lease
    this.reportMs = clock.steady() - startedAtMs
    if (answer !== undefined) {
      const { outcome, code, reason } = answer
      this.lastVerdict = { round, outcome, code, reason }
    }
    if (answer !== undefined && answer.outcome !== 'rejected') {
      this.divergences = 0
      this.local = local
      if (method.quantity === 'parameters') this.own = { round, parameters: values }
      this.contributions += 1
      this.lastAccepted = answer.round
      this.emit({ type: 'accepted', round, countedIn: answer.round, steps, tokens })
      await this.init.localStore?.save(encodeLocal(this.init.link.runId, method, local))
    } else if (answer !== undefined) {
      const { code, reason: message, remedy } = answer
      this.emit({ type: 'refused', round, code, message, remedy })
    }
    const excess = this.ownUpdates.length - peerLimits.keptUpdates
    for (const old of this.ownUpdates.splice(0, excess)) await replica.forget(old)
  }

  /** The host's answer; undefined when it would not hear of it. A signal to leave gives it some more seconds. */
  private async report(
    report: Report,
    lease: LeaseView,
    signal: AbortSignal,
  ): Promise<ReportAnswer | undefined> {
    using parting = partingSignal(signal, this.init.clock, peerLimits.partingMs)
    for (;;) {
      const view = this.look()
      try {
        const timeoutMs = linkPolicy.reportTimeoutMs
        return await this.host.request('report', report, { signal: parting.signal, timeoutMs })
      } catch (thrown) {
        if (!(thrown instanceof RemoteError)) throw thrown
        if (thrown.remoteCode === 'member/unknown') {
          await this.host.rejoin(parting.signal) // taken for gone meanwhile; the lease may still be its own
          continue
        }
        if (notNow.has(thrown.remoteCode) && holds(view, lease)) {
          this.enter('reporting', `waiting to hand in: ${thrown.message}`)
          await this.host.waitFor((each) => each !== view, parting.signal)
          continue
        }
        const { remoteCode: code, message, remedy = remedyFor(thrown.remoteCode) } = thrown
        this.emit({ type: 'refused', round: report.round, code, message, remedy })
        return undefined
      }
    }
  }

  /** Merges or fetches what is missing. What has just become unavailable is there again in a newer view. */
  private async catchUp(replica: Replica, view: RunView, signal: AbortSignal): Promise<void> {
    this.enter(replica.round < 0 ? 'fetching' : 'merging', reasonToCatchUp(replica.round, view))
    try {
      await replica.follow(view, signal)
    } catch (thrown) {
      if (!(thrown instanceof GroundswellError) || thrown.code !== 'artifact/unavailable') throw thrown
      await this.waitFor(view, `for what could not be fetched: ${messageOf(thrown)}`, signal)
    }
  }

  private async waitFor(view: RunView, why: string, signal: AbortSignal): Promise<void> {
    this.enter('waiting', why)
    await this.host.waitFor((each) => each !== view, signal)
  }

  /** Looks on until it may come back. */
  private async sitOut(view: RunView, signal: AbortSignal): Promise<void> {
    const { expelledUntil: untilRound, lastVerdict } = view.you
    const reason = lastVerdict?.reason ?? ''
    if (untilRound !== this.expelledUntil) {
      this.expelledUntil = untilRound
      this.emit({ type: 'expelled', untilRound, reason, remedy: remedyFor(lastVerdict?.code ?? '') })
    }
    if (view.round >= untilRound || view.phase === 'finished') {
      await this.host.rejoin(signal)
      if (view.phase === 'finished') {
        throw new GroundswellError(`The run has finished without this peer, which was expelled: ${reason}`, {
          code: 'member/expelled',
          remedy: remedyFor(lastVerdict?.code ?? ''),
        })
      }
    }
    await this.waitFor(view, `for round ${untilRound}: expelled until then, because: ${reason}`, signal)
  }

  private async fetchManifest(signal: AbortSignal): Promise<Manifest> {
    const { transport, blobs, clock, link } = this.init
    return parseRunManifest(
      await fetchBlob({ transport, blobs, clock, cid: link.runId, sources: [link.host], signal }),
    )
  }

  private prepare(manifest: Manifest, layout: TensorLayout, signal: AbortSignal): Promise<Workload> {
    const { transport, blobs, clock, prepare } = this.init
    const from = { transport, blobs, clock, signal, sources: [this.host.host] }
    return prepare({
      manifest,
      layout,
      signal,
      fetchBlob: (cid) => fetchBlob({ ...from, cid }),
      fetchArtifact: (root, { maxBytes }) => obtainArtifact({ ...from, root, maxBytes }),
    })
  }

  private async loadLocal({ method, layout }: Work): Promise<unknown> {
    const { localStore, link } = this.init
    const bytes = await localStore?.load()
    const kept = bytes === undefined ? undefined : decodeLocal(bytes, link.runId, method, layout)
    return kept === undefined ? method.createLocal(layout) : kept.local
  }

  /** Two throw-away steps, of which the first warms up and the second counts. Nothing of them remains. */
  private async measure({ method, workload }: Work): Promise<void> {
    const { trainer } = workload
    this.enter('measuring', 'measuring how fast this machine is')
    let elapsedMs = 0
    try {
      const batch = await workload.batch(0)
      for (let i = 0; i < 2; i++) {
        const startedAtMs = this.init.clock.steady()
        if (method.quantity === 'gradient') await trainer.gradient(batch)
        else await trainer.step(batch, { scheduleStep: 0, rateScale: 0 })
        elapsedMs = this.init.clock.steady() - startedAtMs
      }
      await trainer.reset()
    } catch (thrown) {
      if (!(thrown instanceof GroundswellError) || thrown.code !== 'train/diverged') throw thrown
    }
    this.measured = elapsedMs > 0 ? 1000 / elapsedMs : null
    this.emit({ type: 'measured', stepsPerSecond: this.measured })
  }

  /** The newest view, taken note of. */
  private look(): RunView {
    const { view } = this.host
    if (view === this.view) return view
    this.view = view
    const { lastVerdict } = view.you
    if (lastVerdict !== null && lastVerdict.round >= (this.lastVerdict?.round ?? 0)) this.lastVerdict = lastVerdict
    return view
  }

  private enter(phase: PeerPhase, why: string): void {
    if (phase === this.phase && why === this.why) return
    this.phase = phase
    this.why = why
    this.emit({ type: 'phase', phase, why })
  }

  private emit(event: PeerEvent): void {
    this.init.onEvent?.(event)
  }

  private progress(): Progress {
    const { phase, round, step, loss, tokensPerSecond, sentBytes, receivedBytes } = this.status()
    const finite = (value: number | null): number | null => (Number.isFinite(value) ? value : null)
    return {
      phase,
      round,
      step,
      loss: finite(loss),
      tokensPerSecond: finite(tokensPerSecond),
      sentBytes,
      receivedBytes,
    }
  }
}

/** Refusals of a report that end by themselves. */
const notNow = new Set(['round/not-open', 'run/paused'])

function remedyOf({ outcome, code }: Verdict): string {
  if (outcome === 'rejected') return remedyFor(code)
  return outcome === 'expired' ? 'Nothing has to be done: the next lease is sized by this machine’s speed.' : ''
}

/** Aborts some time after another signal does. */
function partingSignal(signal: AbortSignal, clock: Clock, partingMs: number): { signal: AbortSignal } & Disposable {
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
