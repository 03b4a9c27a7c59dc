/**
 * A peer that trains: it joins a run, fetches what the run needs, and then, round after round, takes H inner steps on
 * its share of the data, publishes what it learnt, and merges what was accepted. It may be late, slow, cut off or
 * alone; it then waits, catches up and goes on, and says why. Its inner optimiser's state stays, across rounds.
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
import { type Manifest, parseRunManifest } from './manifest.ts'
import type { PeerPhase, Progress, RunView } from './protocol.ts'
import { Replica, type ReplicaEvent } from './replica.ts'

/** What does the inner steps, whatever the model and the machine. */
export interface InnerTrainer {
  /** One optimiser step of the given number, counted over the whole run from 0, for the schedule. */
  step(tokens: Int32Array, globalStep: number): Promise<{ loss: number; tokens: number }>
  /** The parameters, flat in the order of the model's layout. */
  parameters(): Promise<Float32Array>
  /** Replaces the parameters and keeps the optimiser's state. The array is not to be written to. */
  setParameters(flat: Float32Array): Promise<void>
}

/** An inner trainer with the data it learns from. */
export interface Workload {
  readonly trainer: InnerTrainer
  /** The tokens of one step of one share of the data. */
  batchAt(at: { step: number; replica: number; replicas: number }): Int32Array | Promise<Int32Array>
}

/** What a workload is made from. Everything fetched here is checked against its CID. */
export interface PrepareContext {
  readonly manifest: Manifest
  readonly layout: TensorLayout
  fetchBlob(cid: Cid): Promise<Uint8Array>
  fetchArtifact(root: Cid, options: { maxBytes: number }): Promise<Uint8Array>
  readonly signal: AbortSignal
}

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
  readonly onEvent?: (event: PeerEvent) => void
  readonly firstPatienceMs?: number
  readonly patienceMs?: number
}

export type PeerEvent =
  | { readonly type: 'phase'; readonly phase: PeerPhase; readonly why: string }
  | { readonly type: 'joined'; readonly manifest: Manifest }
  | { readonly type: 'step'; readonly round: number; readonly step: number; readonly loss: number }
  | { readonly type: 'accepted'; readonly round: number; readonly tokens: number }
  | { readonly type: 'refused'; readonly round: number; readonly code: string; readonly message: string }
  /** The round closed before this peer was done with it. */
  | { readonly type: 'missed'; readonly round: number }
  | { readonly type: 'reconnecting'; readonly attempt: number; readonly why: string }
  | ReplicaEvent

/** What a contributor always sees. */
export interface PeerStatus {
  readonly phase: PeerPhase
  /** Why it is not training, in words. */
  readonly why: string
  readonly round: number
  readonly lastRound: number
  readonly step: number
  readonly innerSteps: number
  readonly loss: number | null
  readonly tokensPerSecond: number | null
  /** Its share of the data, as one of so many; null outside a round. */
  readonly share: { readonly replica: number; readonly replicas: number } | null
  readonly contributions: number
  /** Round of its last accepted contribution; 0 when there is none. */
  readonly lastAccepted: number
  readonly checkpoint: { readonly round: number; readonly checkpoint: Cid } | null
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
} as const

export class TrainerPeer {
  private readonly init: TrainerPeerInit
  private readonly host: HostLink
  private phase: PeerPhase = 'connecting'
  private why = 'looking for the host'
  private step = 0
  private loss: number | null = null
  private tokensPerSecond: number | null = null
  private replica: Replica | undefined
  private manifest: Manifest | undefined
  private readonly ownUpdates: Cid[] = []
  /** The round with which this peer is done: accepted, or refused for good. */
  private doneRound = 0
  private lastAccepted = 0
  /** What the method keeps for this peer alone. */
  private local: unknown
  private hasTrained = false
  private contributions = 0
  private view: RunView | undefined

  constructor(init: TrainerPeerInit) {
    this.init = init
    this.host = new HostLink({
      ...init,
      describe: () => ({ progress: this.progress(), applied: Math.max(0, this.replica?.round ?? 0) }),
      onReconnecting: (attempt, why) => this.emit({ type: 'reconnecting', attempt, why }),
    })
  }

  /** Takes part until the run is finished, or until the signal says to leave. */
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
    const { view, replica } = this
    const { sentBytes, receivedBytes } = this.init.transport.ledger.total()
    const share = view?.open != null && view.you.replica !== null
    return {
      phase: this.phase,
      why: this.why,
      round: view?.round ?? 0,
      lastRound: view?.lastRound ?? 0,
      step: this.step,
      innerSteps: this.manifest?.sync.innerSteps ?? 0,
      loss: this.loss,
      tokensPerSecond: this.tokensPerSecond,
      share: share ? { replica: view!.you.replica!, replicas: view!.open!.replicas } : null,
      contributions: this.contributions,
      lastAccepted: this.lastAccepted,
      checkpoint:
        replica?.checkpoint === undefined ? null : { round: replica.round, checkpoint: replica.checkpoint },
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
    this.view = await host.join(manifest.rounds, signal)
    this.emit({ type: 'joined', manifest })
    const method = createSyncMethod(manifest.sync)
    const layout = layoutOf(manifest.model)
    const replica = new Replica({ ...init, method, layout, host, onEvent: (event) => this.emit(event) })
    this.replica = replica
    this.enter('fetching', 'fetching the tokenizer and the data')
    const workload = await this.prepare(manifest, layout, signal)

    for (;;) {
      signal.throwIfAborted()
      this.view = host.view
      const { view } = this
      if (isBehind(replica, view)) {
        await this.catchUp(replica, view, signal)
        continue
      }
      if (view.phase === 'finished') break
      if (view.you.status === 'joining') await host.request('ready', null, { signal })
      const { open, you } = view
      const mine = open !== null && you.replica !== null && !you.contributed && open.round > this.doneRound
      if (mine && replica.round === open.round - 1) {
        await this.trainRound(
          { round: open.round, replica: you.replica!, replicas: open.replicas },
          {
            ...{ method, layout, workload, merged: replica, signal },
          },
        )
        continue
      }
      this.enter('waiting', reasonToWait(view))
      this.view = await host.waitFor((each) => each !== view, signal)
    }
    this.enter('finished', 'the run is finished')
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

  /** Merges or fetches what is missing. What has just become unavailable is there again in a newer view. */
  private async catchUp(replica: Replica, view: RunView, signal: AbortSignal): Promise<void> {
    this.enter(replica.round < 0 ? 'fetching' : 'merging', reasonToCatchUp(replica, view))
    try {
      await replica.follow(view, signal)
    } catch (thrown) {
      if (!(thrown instanceof GroundswellError) || thrown.code !== 'artifact/unavailable') throw thrown
      this.enter('waiting', `for what could not be fetched: ${messageOf(thrown)}`)
      await this.host.waitFor((each) => each !== view, signal)
    }
  }

  private async trainRound(
    at: { round: number; replica: number; replicas: number },
    by: {
      method: SyncMethod
      layout: TensorLayout
      workload: Workload
      merged: Replica
      signal: AbortSignal
    },
  ): Promise<void> {
    const { round } = at
    const { method, layout, workload, merged, signal } = by
    const { trainer } = workload
    this.step = 0
    this.enter('training', '')
    this.local ??= method.createLocal(layout)
    const own = this.hasTrained ? await trainer.parameters() : undefined
    await trainer.setParameters(method.startRound(merged.state, this.local, own))
    this.hasTrained = true
    const startedMs = this.init.clock.now()
    let tokens = 0
    let losses = 0
    for (let i = 0; i < method.innerSteps; i++) {
      const globalStep = (round - 1) * method.innerSteps + i
      const { replica, replicas } = at
      const done = await trainer.step(
        await workload.batchAt({ step: globalStep, replica, replicas }),
        globalStep,
      )
      tokens += done.tokens
      losses += done.loss
      this.step = i + 1
      this.loss = done.loss
      // A clock that jumped may give nonsense for one round, but never a negative speed.
      this.tokensPerSecond = (1000 * tokens) / Math.max(1, this.init.clock.now() - startedMs)
      this.emit({ type: 'step', round, step: this.step, loss: done.loss })
      await this.init.clock.sleep(0, signal) // lets the network have its turn between steps
      if (!this.isOpen(round)) return this.emit({ type: 'missed', round })
    }
    const { local, state } = { local: this.local, state: merged.state }
    const values = await trainer.parameters()
    const update = method.encodeUpdate({ state, local, round, values, learningRate: 0 }, layout)
    this.enter('reporting', 'the host is fetching this round’s update')
    await this.report({ round, tokens, loss: losses / method.innerSteps }, update.bytes, signal)
    if (this.lastAccepted === round) this.local = update.local
  }

  private isOpen(round: number): boolean {
    this.view = this.host.view
    return this.view.open?.round === round
  }

  private async report(
    about: { round: number; tokens: number; loss: number },
    bytes: Uint8Array,
    signal: AbortSignal,
  ): Promise<void> {
    const { round, tokens } = about
    const update = await putArtifact(this.init.blobs, bytes)
    this.ownUpdates.push(update)
    for (;;) {
      try {
        const timeoutMs = linkPolicy.reportTimeoutMs
        await this.host.request('report', { ...about, update }, { signal, timeoutMs })
        this.doneRound = round
        this.lastAccepted = round
        this.contributions += 1
        this.emit({ type: 'accepted', round, tokens })
        break
      } catch (thrown) {
        if (isRemote(thrown, 'member/unknown')) {
          await this.host.rejoin(signal) // taken for gone meanwhile; the share of the open round is still its own
          continue
        }
        if (!(thrown instanceof RemoteError)) throw thrown
        this.doneRound = round
        this.emit({ type: 'refused', round, code: thrown.remoteCode, message: thrown.message })
        break
      }
    }
    for (const old of this.ownUpdates.splice(0, this.ownUpdates.length - peerLimits.keptUpdates)) {
      await this.replica!.forget(old)
    }
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

/** Whether rounds are missing here, or the checkpoint is not the host's. */
function isBehind(replica: Replica, view: RunView): boolean {
  const newest = view.closed.at(-1)?.round ?? view.checkpoint.round
  if (replica.round < Math.max(newest, view.checkpoint.round)) return true
  return replica.round === view.checkpoint.round && replica.checkpoint !== view.checkpoint.checkpoint
}

function reasonToCatchUp(replica: Replica, view: RunView): string {
  if (replica.round < 0) return `fetching the checkpoint of round ${view.checkpoint.round}`
  return `merging what was accepted in round ${replica.round + 1}`
}

function reasonToWait(view: RunView): string {
  const peers = (count: number): string => (count === 1 ? '1 more peer' : `${count} more peers`)
  if (view.missingPeers > 0) return `for ${peers(view.missingPeers)} to join`
  if (view.open === null)
    return view.phase === 'merging' ? 'for the host to merge the round' : 'for the next round'
  if (view.you.replica === null) return `for the next round: round ${view.open.round} is under way`
  if (view.phase === 'grace') return `for the grace period: ${peers(view.open.outstanding)} may still report`
  return `for ${peers(view.open.outstanding)} to report`
}
