/**
 * A peer that trains: it joins a run, fetches what the run needs, measures itself, and then works on one lease after
 * the other, publishes what it learnt, and merges what was accepted. It may be late, slow, cut off, suspended or alone;
 * it then waits, catches up and goes on, and says why. Its inner optimiser's state stays, across rounds.
 */
import {
  type Cid,
  type Clock,
  GroundswellError,
  inTurns,
  messageOf,
  type Random,
  type Signer,
  takingTurns,
} from '../core/index.ts'
import { layoutOf } from '../model/index.ts'
import {
  type Blobs,
  fetchBlob,
  isRemote,
  type JoinLink,
  putArtifact,
  serveBlobs,
  type Transport,
} from '../swarm/index.ts'
import { createSyncMethod, type SyncMethod, type TensorLayout } from '../sync/index.ts'
import { longestArtifactBytes, obtainArtifact } from './artifacts.ts'
import { HostLink } from './host-link.ts'
import type { PrepareContext, Workload } from './inner-trainer.ts'
import { remedyFor } from './judge.ts'
import { KeptArtifacts } from './kept-artifacts.ts'
import { holds, type LeaseResult, workOnLease } from './lease-work.ts'
import { LocalMemory, type LocalStore } from './local-store.ts'
import { type Manifest, parseRunManifest } from './manifest.ts'
import { measureSpeed } from './measure.ts'
import { PeerRecord } from './peer-record.ts'
import type { PeerEvent, PeerResult, PeerStatus } from './peer-status.ts'
import type { CheckpointName, LeaseView, RunView } from './protocol.ts'
import { reasonToCatchUp, reasonToWait, whatBecameOf } from './reasons.ts'
import { Replica } from './replica.ts'
import { reportUpdate } from './report-update.ts'
import { roundLearningRate } from './schedule-position.ts'

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
  /** Throws where this machine has no place for the run; asked before the peer joins, when only the manifest has come. */
  readonly fits?: (manifest: Manifest) => void
  readonly prepare: (context: PrepareContext) => Promise<Workload>
  /** Keeps residuals over a restart of the process. */
  readonly localStore?: LocalStore
  readonly onEvent?: (event: PeerEvent) => void
  readonly firstPatienceMs?: number
  readonly patienceMs?: number
}

const peerLimits = {
  /** Own updates that are kept for others to fetch. */
  keptUpdates: 3,
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
  readonly kept: KeptArtifacts
  readonly memory: LocalMemory
}

export class TrainerPeer {
  private readonly init: TrainerPeerInit
  private readonly host: HostLink
  private readonly record: PeerRecord
  private replica: Replica | undefined
  /** Of the method; 0 before the manifest has come. */
  private innerSteps = 0
  private readonly ownUpdates: Cid[] = []
  /** The lease with which this peer is done, whatever the newest view still says. */
  private doneWith: LeaseView | undefined
  /** Of the host, as the newest view told. */
  private life = ''
  /** Its parameters after its newest lease, if that counts: what some methods go on from. */
  private own: { readonly round: number; readonly parameters: Float32Array | undefined } | undefined
  /** Catching up beside the training. */
  private following: Promise<void> | undefined
  private reportMs = 0
  private divergences = 0
  private expelledUntil = 0

  constructor(init: TrainerPeerInit) {
    this.init = init
    const held = (): CheckpointName | null => this.replica?.held ?? null
    this.record = new PeerRecord({
      held,
      ledger: () => init.transport.ledger.total(),
      innerSteps: () => this.innerSteps,
      onEvent: (event) => this.emit(event),
    })
    this.host = new HostLink({
      ...init,
      describe: () => ({ progress: this.record.progress(), held: held() }),
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
    return this.record.status()
  }

  private async takePart(signal: AbortSignal): Promise<void> {
    const { host, init } = this
    this.record.enter('connecting', 'looking for the host')
    await host.connect(signal)
    this.record.enter('fetching', 'fetching what the run is')
    const manifest = await this.fetchManifest(signal)
    init.fits?.(manifest)
    const method = createSyncMethod(manifest.sync)
    this.innerSteps = method.innerSteps
    await host.join(manifest.rounds, signal)
    this.look()
    this.emit({ type: 'joined', manifest })
    const layout = layoutOf(manifest.model)
    const run = init.link.runId
    const maxBytes = longestArtifactBytes(method, layout)
    const kept = new KeptArtifacts({ blobs: init.blobs, store: init.localStore, run, maxBytes })
    const replica = new Replica({
      ...{ ...init, manifest, method, layout, host, kept },
      onEvent: (event) => this.emit(event),
    })
    this.replica = replica
    await replica.tidy(this.look())
    this.record.enter('fetching', 'fetching the tokenizer and the data')
    const workload = await this.prepare(manifest, layout, signal)
    const memory = new LocalMemory({ store: init.localStore, run, method, layout })
    const work: Work = { manifest, method, layout, workload, replica, kept, memory }
    await memory.restore(this.look().you)
    await this.measure(work)
    while (await this.takeTurn(work, signal)) signal.throwIfAborted()
    this.record.enter('finished', 'the run is finished')
  }

  /** Does the one thing that the newest view asks for; false when there is nothing more to do. */
  private async takeTurn(work: Work, signal: AbortSignal): Promise<boolean> {
    const { host } = this
    const { replica } = work
    const view = this.look()
    if (view.life !== this.life) this.doneWith = undefined // what was done may have been lost with the end of the log
    this.life = view.life
    if (view.you.status === 'expelled') {
      await this.sitOut(view, signal)
      return true
    }
    const lease = this.leaseIn(view)
    if (lease !== null && this.canWorkOn(lease, work, view)) {
      work.memory.settle(view.you)
      await this.workOn(lease, work, signal)
      return true
    }
    const newestRound = Math.max(replica.round, view.checkpoint.round)
    const isStale = lease !== null && newestRound >= lease.round && !replica.isAhead(view)
    if (isStale && view.phase !== 'finished') {
      // The checkpoint that it starts from is history: this process was not there when it was given.
      this.record.enter(
        'waiting',
        `for a new lease: that of round ${lease.round} is from before this process`,
      )
      await host.startOver(signal)
      return true
    }
    if (replica.isBehind(view) && replica.canFollow(view)) {
      await this.catchUpBeside(work, view, signal)
      return true
    }
    if (view.phase === 'finished' && !replica.isBehind(view)) return false
    if (view.you.status === 'joining') {
      await this.sayReady(signal)
      return true
    }
    this.record.enter('waiting', reasonToWait(view))
    await host.waitFor((each) => each !== view, signal)
    return true
  }

  /** Until the host has heard it, which a view may tell sooner than an answer that was lost. */
  private async sayReady(signal: AbortSignal): Promise<void> {
    const { view } = this.host
    const said = new AbortController()
    const until = AbortSignal.any([signal, said.signal])
    const asked = this.host.request(
      'ready',
      { stepsPerSecond: this.record.stepsPerSecond },
      { signal: until },
    )
    const seen = this.host.waitFor(({ you }) => you.status !== 'joining', until)
    try {
      await Promise.race([asked, seen])
      // The view is from before: it counts this very peer among those that are missing.
      const missingPeers = Math.max(0, view.missingPeers - 1)
      await this.waitFor(view, reasonToWait({ ...view, missingPeers }), signal)
    } catch (thrown) {
      // Too late, or taken for gone: the next view tells.
      if (!isRemote(thrown, 'run/finished') && !isRemote(thrown, 'member/unknown')) throw thrown
      await this.waitFor(view, 'for news of the run', signal)
    } finally {
      said.abort()
      await Promise.allSettled([asked, seen])
    }
  }

  private leaseIn(view: RunView): LeaseView | null {
    const { lease } = view.you
    return lease !== null && this.doneWith !== undefined && holds(view, this.doneWith) ? null : lease
  }

  /** From the checkpoint before its round, which must be the run's; where the method allows it, one round earlier. */
  private canWorkOn(lease: LeaseView, { replica, method }: Work, view: RunView): boolean {
    if (replica.round === lease.round - 1) return !replica.differs(view)
    const overlaps = method.overlapSteps > 0 && this.own?.round === lease.round - 1
    return overlaps && replica.round === lease.round - 2 && replica.canFollow(view)
  }

  private async workOn(lease: LeaseView, work: Work, signal: AbortSignal): Promise<void> {
    const { replica, method, workload, memory } = work
    this.record.began(lease)
    const own = this.own?.round === lease.round - 1 ? this.own.parameters : undefined
    const overlaps = replica.round < lease.round - 1
    const following = overlaps ? this.followUpTo(lease.round - 1, replica, signal) : Promise.resolve()
    following.catch(() => undefined) // met where it is waited for
    const start = async (): Promise<Float32Array> => {
      await following
      if (own === undefined) return method.startRound(replica.state, memory.local, undefined)
      const now = overlaps ? await workload.trainer.parameters() : own
      return method.startRound(replica.state, memory.local, { handedIn: own, now })
    }
    try {
      const result = await workOnLease({
        ...{ method, workload, lease, start, clock: this.init.clock, leaving: signal },
        overlapSteps: overlaps ? method.overlapSteps : 0,
        look: () => ({ view: this.look(), ageMs: this.host.viewAgeMs }),
        reportMs: this.reportMs,
        onStep: (done) => this.record.stepped(done),
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
      this.record.ended()
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
    while (replica.round < round) await (this.following ?? replica.follow(this.look(), signal))
  }

  /** Encodes, stores and reports. What the method keeps for itself is kept only if the update counts. */
  private async handIn(
    lease: LeaseView,
    { values, steps, tokens, loss }: LeaseResult,
    { method, layout, replica, manifest, kept, memory }: Work,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, blobs } = this.init
    const startedAtMs = clock.steady()
    this.record.enter('reporting', 'the host is fetching this lease’s update')
    const { round } = lease
    const learningRate = roundLearningRate(manifest.inner, { round, innerSteps: method.innerSteps })
    const input = { state: replica.state, local: memory.local, round, values, learningRate }
    const { bytes, local } = await inTurns(takingTurns(clock), method.encodeUpdate, input, layout)
    const update = await putArtifact(blobs, bytes)
    this.ownUpdates.push(update)
    await kept.add([update])
    await memory.keep(round, local)
    const answer = await reportUpdate({
      ...{ host: this.host, clock, lease, signal, report: { round, update, steps, tokens, loss } },
      counted: (you) => memory.counts(you),
      onWaiting: (why) => this.record.enter('reporting', why),
      onRefused: (refusal) => this.emit({ type: 'refused', round, ...refusal }),
    })
    this.doneWith = lease
    this.reportMs = clock.steady() - startedAtMs
    if (answer !== undefined) {
      const { outcome, code, reason } = answer
      this.record.judged({ round, outcome, code, reason })
    }
    if (answer !== undefined && answer.outcome !== 'rejected') {
      this.divergences = 0
      memory.accepted()
      if (method.quantity === 'parameters') {
        this.own = { round, parameters: method.startsFromOwn ? values : undefined }
      }
      this.record.accepted(round, answer.round, { steps, tokens })
    } else if (answer !== undefined) {
      const { code, reason: message, remedy } = answer
      this.emit({ type: 'refused', round, code, message, remedy })
    }
    const excess = this.ownUpdates.length - peerLimits.keptUpdates
    await kept.drop(this.ownUpdates.splice(0, excess))
  }

  /** Catches up, and where the method lets a peer train meanwhile, looks whether there is a lease. */
  private async catchUpBeside({ method, replica }: Work, view: RunView, signal: AbortSignal): Promise<void> {
    if (method.overlapSteps === 0 || this.own === undefined) return this.catchUp(replica, view, signal)
    this.following ??= this.catchUp(replica, view, signal).finally(() => {
      this.following = undefined
    })
    this.following.catch(() => undefined) // met by whoever waits for it last
    await Promise.race([this.following, this.host.waitFor((each) => each !== view, signal)])
  }

  /** Merges or fetches what is missing. What has just become unavailable is there again in a newer view. */
  private async catchUp(replica: Replica, view: RunView, signal: AbortSignal): Promise<void> {
    this.record.enter(replica.round < 0 ? 'fetching' : 'merging', reasonToCatchUp(replica.round, view))
    try {
      await replica.follow(view, signal)
      this.host.nudge() // others may fetch from here
    } catch (thrown) {
      if (!(thrown instanceof GroundswellError) || thrown.code !== 'artifact/unavailable') throw thrown
      await this.waitFor(view, `for what could not be fetched: ${messageOf(thrown)}`, signal)
    }
  }

  private async waitFor(view: RunView, why: string, signal: AbortSignal): Promise<void> {
    this.record.enter('waiting', why)
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
    if (view.phase === 'finished') {
      throw new GroundswellError(`The run has finished without this peer, which was expelled: ${reason}`, {
        code: 'member/expelled',
        remedy: remedyFor(lastVerdict?.code ?? ''),
      })
    }
    if (view.round >= untilRound) await this.host.rejoin(signal)
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

  private async measure({ method, workload }: Work): Promise<void> {
    this.record.enter('measuring', 'measuring how fast this machine is')
    this.record.measuredItself(await measureSpeed(method, workload, this.init.clock))
  }

  /** The newest view, taken note of. */
  private look(): RunView {
    this.record.saw(this.host.view)
    return this.host.view
  }

  private emit(event: PeerEvent): void {
    this.init.onEvent?.(event)
  }
}
