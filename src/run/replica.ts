/**
 * A peer's copy of the merged model: the synchronisation method's state after some round, kept in step with the run by
 * merging the same updates as everybody else, or, when too much was missed, by fetching the host's checkpoint. After
 * each merge its CID is compared with the host's; who differs takes the host's.
 */
import type { Cid, Clock } from '../core/index.ts'
import { type Blobs, type PeerId, putArtifact, type Transport } from '../swarm/index.ts'
import type { MergeContext, SyncMethod, TensorLayout } from '../sync/index.ts'
import { dropArtifacts, obtainArtifact } from './artifacts.ts'
import type { HostLink } from './host-link.ts'
import type { RunView } from './protocol.ts'
import type { ClosedRound } from './reducer.ts'

export interface ReplicaInit {
  readonly method: SyncMethod
  readonly layout: TensorLayout
  readonly transport: Transport
  readonly blobs: Blobs
  readonly clock: Clock
  readonly host: HostLink
  readonly onEvent: (event: ReplicaEvent) => void
}

export type ReplicaEvent =
  | { readonly type: 'merged'; readonly round: number; readonly checkpoint: Cid }
  | { readonly type: 'fetched'; readonly round: number; readonly checkpoint: Cid }
  /** Its own result differed from the host's. */
  | { readonly type: 'disagreed'; readonly round: number; readonly checkpoint: Cid; readonly elected: Cid }

/** What the merge of a round depends on beside what was accepted. */
export function mergeContextOf(round: number): MergeContext {
  return { round, seed: `${round}`, learningRate: 0, clipToMedianNorm: false, self: null }
}

const replicaLimits = {
  /** Newest checkpoints that a peer keeps for others to fetch. */
  keptCheckpoints: 2,
  /** Addresses of one peer that are tried, and for how long each. */
  dialledAddresses: 3,
  dialTimeoutMs: 1500,
} as const

export class Replica {
  private readonly init: ReplicaInit
  /** Peers that were dialled, and those of them that answered. */
  private readonly dialled = new Map<PeerId, Promise<void>>()
  private readonly reachable = new Set<PeerId>()
  private readonly keptCheckpoints: Cid[] = []
  /** The method's state after the newest merged round. Not to be changed from outside. */
  state: unknown
  private held: { round: number; checkpoint: Cid } | undefined

  constructor(init: ReplicaInit) {
    this.init = init
  }

  /** The newest round that is merged here; -1 before the first checkpoint has come. */
  get round(): number {
    return this.held?.round ?? -1
  }

  get checkpoint(): Cid | undefined {
    return this.held?.checkpoint
  }

  /** The merged parameters. Not to be written to. */
  get parameters(): Float32Array {
    return this.init.method.parameters(this.state)
  }

  /** Brings this copy to the newest closed round of a view. */
  async follow(view: RunView, signal: AbortSignal): Promise<void> {
    this.introduce(view, signal)
    const closed = view.closed.filter(({ round }) => round > this.round)
    if (this.held === undefined || !this.canMerge(closed, view)) {
      if (view.checkpoint.round > this.round) await this.fetchCheckpoint(view, signal)
    } else {
      for (const each of closed) await this.mergeRound(each, signal)
    }
    const { held } = this
    const elected = this.electedFor(view)
    if (held !== undefined && elected !== undefined && elected !== held.checkpoint) {
      this.init.onEvent({ type: 'disagreed', ...held, elected })
      await this.fetchCheckpoint(view, signal)
    }
  }

  /** Forgets an update that this peer made, once nobody can ask for it. */
  async forget(update: Cid): Promise<void> {
    await this.drop([update])
  }

  /** Whether nothing lies between this copy and those rounds, and fetching them costs less than a checkpoint. */
  private canMerge(closed: readonly ClosedRound[], view: RunView): boolean {
    const { method, layout } = this.init
    if (closed[0] === undefined) return view.checkpoint.round <= this.round
    if (closed[0].round !== this.round + 1) return false
    if (closed.length === 1) return true
    const updates = closed.reduce((total, { accepted }) => total + accepted.length, 0)
    return (
      updates * method.maximumUpdateBytes(layout) <= method.stateBytes(layout) ||
      view.checkpoint.round <= this.round
    )
  }

  /** The checkpoint that the host has for the round held here, if the view tells. */
  private electedFor(view: RunView): Cid | undefined {
    if (view.checkpoint.round === this.round) return view.checkpoint.checkpoint
    return view.closed.find(({ round }) => round === this.round)?.checkpoint ?? undefined
  }

  private async mergeRound(closed: ClosedRound, signal: AbortSignal): Promise<void> {
    const { method, layout, host, onEvent } = this.init
    const maxBytes = method.maximumUpdateBytes(layout)
    const contributions = []
    for (const { peer, update, tokens } of closed.accepted) {
      const sources = this.reachable.has(peer) ? [peer, host.host] : [host.host]
      const bytes = await this.obtain(update, sources, maxBytes, signal)
      contributions.push({ peer, update: method.decodeUpdate(bytes, layout), weight: tokens })
    }
    const state = method.merge(this.state, contributions, mergeContextOf(closed.round))
    const checkpoint = await this.keep(closed.round, state)
    const foreign = closed.accepted.filter(({ peer }) => peer !== this.init.transport.self)
    await this.drop(foreign.map(({ update }) => update))
    onEvent({ type: 'merged', round: closed.round, checkpoint })
    const { checkpoint: elected } = await host.request(
      'applied',
      { round: closed.round, checkpoint },
      { signal },
    )
    if (elected !== null && elected !== checkpoint) {
      onEvent({ type: 'disagreed', round: closed.round, checkpoint, elected })
      await this.adopt(closed.round, elected, [], signal)
    }
  }

  private async fetchCheckpoint(view: RunView, signal: AbortSignal): Promise<void> {
    const { round, checkpoint } = view.checkpoint
    await Promise.all(this.dialled.values()) // a checkpoint is large: worth a moment to have more sources
    const holders = view.peers.filter(
      ({ peer, holdsCheckpoint }) => holdsCheckpoint && this.reachable.has(peer),
    )
    await this.adopt(
      round,
      checkpoint,
      holders.map(({ peer }) => peer),
      signal,
    )
  }

  /** Takes the host's checkpoint for one's own, from everybody who has it. */
  private async adopt(
    round: number,
    checkpoint: Cid,
    holders: readonly PeerId[],
    signal: AbortSignal,
  ): Promise<void> {
    const { method, layout, host, onEvent } = this.init
    const bytes = await this.obtain(checkpoint, [...holders, host.host], method.stateBytes(layout), signal)
    await this.keep(round, method.parseState(bytes, layout), checkpoint)
    onEvent({ type: 'fetched', round, checkpoint })
    if (round > 0) await host.request('applied', { round, checkpoint }, { signal })
  }

  private async obtain(
    root: Cid,
    sources: PeerId[],
    maxBytes: number,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const { transport, blobs, clock } = this.init
    return obtainArtifact({ transport, blobs, clock, root, sources, maxBytes, signal })
  }

  private async keep(round: number, state: unknown, fetched?: Cid): Promise<Cid> {
    const { blobs, method } = this.init
    const checkpoint = fetched ?? (await putArtifact(blobs, method.serialiseState(state)))
    this.state = state
    this.held = { round, checkpoint }
    this.keptCheckpoints.push(checkpoint)
    const dropped = this.keptCheckpoints.splice(
      0,
      this.keptCheckpoints.length - replicaLimits.keptCheckpoints,
    )
    await this.drop(dropped)
    return checkpoint
  }

  private async drop(artifacts: readonly Cid[]): Promise<void> {
    const { blobs, method, layout } = this.init
    const maxBytes = Math.max(method.stateBytes(layout), method.maximumUpdateBytes(layout))
    await dropArtifacts(blobs, artifacts, { artifacts: this.keptCheckpoints }, { maxBytes })
  }

  /** Dials peers that a view names, each once and in the background: the host has everything, too. */
  private introduce(view: RunView, signal: AbortSignal): void {
    for (const { peer, addresses } of view.peers) {
      if (!this.dialled.has(peer)) this.dialled.set(peer, this.dial(peer, addresses, signal))
    }
  }

  private async dial(peer: PeerId, addresses: readonly string[], signal: AbortSignal): Promise<void> {
    for (const address of addresses.slice(0, replicaLimits.dialledAddresses)) {
      try {
        const options = { timeoutMs: replicaLimits.dialTimeoutMs, signal }
        // The address is the peer's own word: whoever answers there must be that peer.
        if ((await this.init.transport.dial(address, options)) === peer) this.reachable.add(peer)
        return
      } catch {
        // An address behind a router or of another network; the next one may do, and the host always does.
      }
    }
  }
}
