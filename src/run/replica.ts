/**
 * A peer's copy of the merged model: the synchronisation method's state after some round, kept in step with the run by
 * merging the same updates as everybody else, or, when too much was missed, by fetching the host's checkpoint. Where a
 * method keeps all copies the same, its CID is compared with the host's after each merge; who differs takes the host's.
 */
import { type Cid, type Clock, inTurns, takingTurns } from '../core/index.ts'
import { type Blobs, type PeerId, putArtifact, type Transport } from '../swarm/index.ts'
import type { Contribution, SyncMethod, TensorLayout } from '../sync/index.ts'
import { obtainArtifact } from './artifacts.ts'
import type { HostLink } from './host-link.ts'
import { Introductions } from './introductions.ts'
import type { KeptArtifacts } from './kept-artifacts.ts'
import type { Manifest } from './manifest.ts'
import type { CheckpointName, ClosedRoundView, RunView } from './protocol.ts'
import { mergeContextOf } from './schedule-position.ts'

export interface ReplicaInit {
  readonly manifest: Pick<Manifest, 'inner'>
  readonly method: SyncMethod
  readonly layout: TensorLayout
  readonly transport: Transport
  readonly blobs: Blobs
  readonly kept: KeptArtifacts
  readonly clock: Clock
  readonly host: HostLink
  readonly onEvent: (event: ReplicaEvent) => void
}

export type ReplicaEvent =
  | { readonly type: 'merged'; readonly round: number; readonly checkpoint: Cid }
  | { readonly type: 'fetched'; readonly round: number; readonly checkpoint: Cid }
  /** Its own result differed from the host's. */
  | { readonly type: 'disagreed'; readonly round: number; readonly checkpoint: Cid; readonly elected: Cid }

const replicaLimits = {
  /** Newest checkpoints that a peer keeps for others to fetch. */
  keptCheckpoints: 2,
  /** Updates fetched at a time. */
  fetchesAtATime: 8,
  /** A round whose updates are together longer than so many checkpoints is not merged here: its checkpoint is fetched. */
  dearestMerge: 4,
} as const

type Accepted = NonNullable<ClosedRoundView['accepted']>

export class Replica {
  private readonly init: ReplicaInit
  private readonly known: Introductions
  private keptCheckpoints: readonly Cid[] = []
  private merged: unknown
  private newest: CheckpointName | undefined

  constructor(init: ReplicaInit) {
    this.init = init
    this.known = new Introductions(init.transport)
  }

  /** The newest round that is merged here; -1 before the first checkpoint has come. */
  get round(): number {
    return this.newest?.round ?? -1
  }

  get held(): CheckpointName | null {
    return this.newest ?? null
  }

  /** The method's state. Not to be changed. */
  get state(): unknown {
    return this.merged
  }

  /** The merged parameters. Not to be written to. */
  get parameters(): Float32Array {
    return this.init.method.parameters(this.merged)
  }

  /** Frees what earlier processes have left, except for the checkpoint to begin with. */
  async tidy({ checkpoint: { checkpoint } }: RunView): Promise<void> {
    if (await this.init.kept.restore(checkpoint)) this.keptCheckpoints = [checkpoint]
  }

  /** Whether rounds are missing here, or the checkpoint is not the host's. */
  isBehind(view: RunView): boolean {
    const newest = view.closed.at(-1)?.round ?? view.checkpoint.round
    return this.round < Math.max(newest, view.checkpoint.round) || this.differs(view)
  }

  /** Whether rounds are merged here that the host does not know: its log has lost its end. */
  isAhead({ phase, round }: RunView): boolean {
    const isClosed = phase === 'coolingDown' || phase === 'finished'
    return this.round > (isClosed ? round : round - 1)
  }

  /** Whether the host got another checkpoint for the round that is merged here, or has none. */
  differs(view: RunView): boolean {
    if (this.newest === undefined) return false
    if (this.isAhead(view)) return true
    if (!this.init.method.replicated) return false
    const elected = this.electedFor(view)
    return elected !== undefined && elected !== this.newest.checkpoint
  }

  /** Whether there is something to do about it: a round too dear to merge is fetched once the host has merged it. */
  canFollow(view: RunView): boolean {
    if (view.checkpoint.round > this.round || this.differs(view)) return true
    return this.canMerge(view.closed.filter(({ round }) => round > this.round))
  }

  /** Brings this copy to the newest closed round of a view, as far as the view allows. */
  async follow(view: RunView, signal: AbortSignal): Promise<void> {
    this.known.introduce(view, signal)
    if (this.isAhead(view)) return this.fetchCheckpoint(view, signal)
    const closed = view.closed.filter(({ round }) => round > this.round)
    if (this.newest !== undefined && this.canMerge(closed)) {
      for (const each of closed) await this.mergeRound(each, signal)
    } else if (view.checkpoint.round > this.round) {
      await this.fetchCheckpoint(view, signal)
    }
    if (this.differs(view)) await this.takeTheHosts(view, signal)
  }

  /** Whether nothing lies between this copy and those rounds, and merging them costs less than a checkpoint. */
  private canMerge(closed: readonly ClosedRoundView[]): boolean {
    const { method, layout } = this.init
    if (this.newest === undefined || closed[0]?.round !== this.round + 1) return false
    let updates = 0
    for (const each of closed) {
      if (each.accepted === null) return false
      updates += this.neededOf(each).length
    }
    const dearest = closed.length === 1 ? replicaLimits.dearestMerge : 1
    return updates * method.maximumUpdateBytes(layout) <= dearest * method.stateBytes(layout) || updates <= 2
  }

  /** The checkpoint that the host has for the round held here, if the view tells. */
  private electedFor(view: RunView): Cid | undefined {
    if (view.checkpoint.round === this.round) return view.checkpoint.checkpoint
    return view.closed.find(({ round }) => round === this.round)?.checkpoint ?? undefined
  }

  private async takeTheHosts(view: RunView, signal: AbortSignal): Promise<void> {
    const { host, onEvent } = this.init
    const { round, checkpoint } = this.newest!
    onEvent({ type: 'disagreed', round, checkpoint, elected: this.electedFor(view)! })
    // The run goes on whatever becomes of this word.
    await host.request('disagreed', { round, checkpoint }, { signal }).catch(() => undefined)
    signal.throwIfAborted()
    await this.fetchCheckpoint(view, signal)
  }

  private async mergeRound(closed: ClosedRoundView, signal: AbortSignal): Promise<void> {
    const { method, manifest, transport, clock, kept, onEvent } = this.init
    const needed = this.neededOf(closed)
    const foreign = needed.filter(({ peer }) => peer !== transport.self).map(({ update }) => update)
    await kept.add(foreign)
    const contributions = await this.obtainUpdates(needed, signal)
    const context = { ...mergeContextOf(manifest, method, closed), self: this.self }
    const state = await inTurns(takingTurns(clock), method.merge, this.merged, contributions, context)
    const checkpoint = await this.keep(closed.round, state)
    await kept.drop(foreign)
    onEvent({ type: 'merged', round: closed.round, checkpoint })
  }

  /** Whose merge this is, where that matters. */
  private get self(): PeerId | null {
    const { method, transport } = this.init
    return method.replicated ? null : transport.self
  }

  /** The accepted updates of a round that this peer's merge reads. */
  private neededOf({ accepted, seed }: ClosedRoundView): Accepted {
    const peers = accepted!.map(({ peer }) => peer)
    const read = new Set(this.init.method.partners?.(peers, { seed, self: this.self }) ?? peers)
    return accepted!.filter(({ peer }) => read.has(peer))
  }

  /** Updates in the order of the merge, several being fetched at a time. */
  private async obtainUpdates(accepted: Accepted, signal: AbortSignal): Promise<Contribution<unknown>[]> {
    const { method, layout, host } = this.init
    const maxBytes = method.maximumUpdateBytes(layout)
    const contributions = new Array<Contribution<unknown>>(accepted.length)
    let next = 0
    const obtainInTurn = async (): Promise<void> => {
      for (let i = next++; i < accepted.length; i = next++) {
        const { peer, update, weight } = accepted[i]!
        const sources = this.known.canReach(peer) ? [peer, host.host] : [host.host]
        const bytes = await this.obtain(update, sources, maxBytes, signal)
        contributions[i] = { peer, update: method.decodeUpdate(bytes, layout), weight }
      }
    }
    // All of them are waited for, so that nothing is under way when the caller hears of the first failure.
    const atATime = Math.min(replicaLimits.fetchesAtATime, accepted.length)
    const results = await Promise.allSettled(Array.from({ length: atATime }, obtainInTurn))
    for (const result of results) if (result.status === 'rejected') throw result.reason
    return contributions
  }

  /** Takes the host's checkpoint for one's own, from everybody who has it. */
  private async fetchCheckpoint(view: RunView, signal: AbortSignal): Promise<void> {
    const { method, layout, host, kept, onEvent } = this.init
    const { round, checkpoint } = view.checkpoint
    await kept.add([checkpoint])
    // Asked again and again while it lasts: whoever answers only now, or has the checkpoint only now, joins in.
    const sources = (): PeerId[] => {
      const newest = host.view
      this.known.introduce(newest, signal)
      const holding = (newest.checkpoint.checkpoint === checkpoint ? newest : view).peers
      const reachable = holding.filter((each) => each.holdsCheckpoint && this.known.canReach(each.peer))
      return [...reachable.map(({ peer }) => peer), host.host]
    }
    await this.known.settled() // a checkpoint is large: worth a moment to begin with more sources
    const bytes = await this.obtain(checkpoint, sources, method.stateBytes(layout), signal)
    await this.keep(round, method.parseState(bytes, layout), checkpoint)
    onEvent({ type: 'fetched', round, checkpoint })
  }

  private obtain(
    root: Cid,
    sources: PeerId[] | (() => PeerId[]),
    maxBytes: number,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const { transport, blobs, clock } = this.init
    return obtainArtifact({ transport, blobs, clock, root, sources, maxBytes, signal })
  }

  private async keep(round: number, state: unknown, fetched?: Cid): Promise<Cid> {
    const { blobs, method, kept } = this.init
    const checkpoint = fetched ?? (await putArtifact(blobs, method.serialiseState(state)))
    await kept.add([checkpoint])
    this.merged = state
    this.newest = { round, checkpoint }
    const others = this.keptCheckpoints.filter((each) => each !== checkpoint)
    const excess = Math.max(0, others.length + 1 - replicaLimits.keptCheckpoints)
    this.keptCheckpoints = [...others.slice(excess), checkpoint]
    await kept.drop(others.slice(0, excess))
    return checkpoint
  }
}
