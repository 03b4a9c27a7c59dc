/**
 * Real learning inside a simulation: the run's method merges real parameters, and every virtual peer has a copy, a
 * memory and an optimiser of its own. One learner does all the inner steps, one peer after the other, so that many
 * peers fit on a small machine; what it remembers of a peer is put away and taken out again.
 */
import { type Cid, type Clock, cidOf, joinPieces } from '../../core/index.ts'
import type { PeerId } from '../../swarm/index.ts'
import type { Contribution, MergeContext, SyncMethod, TensorLayout } from '../../sync/index.ts'
import type { InnerTrainer } from '../inner-trainer.ts'
import { workOnLease } from '../lease-work.ts'
import type { ClosedRound, Lease } from '../state.ts'
import { firstBatches } from './invariants.ts'

/** One model with its optimiser, lent to one peer at a time. */
export interface Learner extends InnerTrainer {
  /** What one peer's next step depends on besides parameters and tokens. */
  memory(): Promise<unknown>
  /** Undefined: as if nothing had been learnt yet. */
  recall(memory: unknown): Promise<void>
  /** Validation loss of parameters. */
  evaluate(parameters: Float32Array): Promise<number>
}

export interface SwarmTrainingOptions {
  readonly method: SyncMethod
  readonly layout: TensorLayout
  readonly parameters: Float32Array
  readonly learner: Learner
  /** The tokens of one inner step. */
  readonly batch: (number: number) => Int32Array
  /** Inner learning rate by position in the schedule. */
  readonly learningRateAt: (scheduleStep: number) => number
  /** Inner steps over which the rate rises again after everybody had gone. */
  readonly rewarmSteps: number
  /** What the update of a model stands for in bytes, as a multiple of its own: a toy may travel like something large. */
  readonly bytesScale?: number | undefined
  /** As real runs do, unless told otherwise. */
  readonly clipToMedianNorm?: boolean | undefined
}

/** What a peer has made of a lease. */
export interface TrainedUpdate {
  readonly update: Cid
  readonly steps: number
  readonly bytes: number
  readonly loss: number
  readonly norm: number
}

interface PeerMemory {
  state: unknown
  local: unknown
  /** `local` in case the update that is under way is accepted. */
  nextLocal: unknown
  /** The update that is under way. */
  made: Cid | undefined
  /** Its parameters after a lease that was accepted: what some methods go on from in the next round. */
  own: { readonly round: number; readonly parameters: Float32Array } | undefined
  /** The same of the lease that is under way. */
  nextOwn: { readonly round: number; readonly parameters: Float32Array } | undefined
  /** Of the learner, while another peer has it. */
  memory: unknown
  work: LeaseWork | undefined
}

/** What a peer is to train. */
export interface LeaseWork {
  readonly lease: Lease
  /** The round from which the learning rate rises again. */
  readonly rewarmRound: number | null
  /** It begins before it has merged the round before, as far as the method lets it. */
  readonly overlaps: boolean
}

const frozenClock: Clock = { now: () => 0, steady: () => 0, sleep: async () => undefined }
const neverLeaving = new AbortController().signal

/** Merged states that are kept, the newest; whoever needs an older one has its own hold of it. */
const keptStates = 4
/** Updates that do not count are forgotten after so many rounds; none can count any more. */
const keptUpdates = 12

export class SwarmTraining {
  private readonly options: SwarmTrainingOptions
  private readonly peers: PeerMemory[] = []
  /** Merged states by round: one for all, or the host's where peers differ. */
  private readonly states = new Map<number, Promise<unknown>>()
  private readonly closed = new Map<number, ClosedRound>()
  private readonly updates = new Map<Cid, { readonly leaseRound: number; readonly update: unknown }>()
  private names: readonly PeerId[] = []
  /** Whose memory the learner has. */
  private resident: PeerMemory | undefined
  private newest: { round: number; state: unknown }

  constructor(options: SwarmTrainingOptions) {
    this.options = options
    const state = options.method.createState(options.layout, options.parameters)
    this.newest = { round: 0, state }
    this.states.set(0, Promise.resolve(state))
  }

  /** Who takes part, by number. */
  introduce(names: readonly PeerId[]): void {
    this.names = names
  }

  /** The merged parameters of the newest round. Not to be written to. */
  get parameters(): Float32Array {
    return this.options.method.parameters(this.newest.state)
  }

  /** What the host's state comes to in bytes. */
  checkpoint(): Promise<Cid> {
    return cidOf(joinPieces(this.options.method.serialiseState(this.newest.state)))
  }

  evaluate(): Promise<number> {
    return this.options.learner.evaluate(this.parameters)
  }

  begin(peer: number, work: LeaseWork): void {
    this.peer(peer).work = work
  }

  /** Does the first `steps` inner steps of the lease that was begun. */
  async train(peer: number, steps: number): Promise<TrainedUpdate> {
    const { method, layout } = this.options
    const memory = this.peer(peer)
    const { lease } = memory.work!
    await this.lend(memory)
    const { values, loss } = await this.work(memory, steps)
    const { state, local } = memory
    const learningRate = this.rateOfRound(lease.round)
    const encoded = method.encodeUpdate({ state, local, round: lease.round, values, learningRate }, layout)
    memory.nextLocal = encoded.local
    const update = method.decodeUpdate(encoded.bytes, layout)
    const cid = await cidOf(encoded.bytes)
    memory.made = cid
    this.updates.set(cid, { leaseRound: lease.round, update })
    const bytes = Math.ceil(encoded.bytes.byteLength * (this.options.bytesScale ?? 1))
    return { update: cid, steps, bytes, loss, norm: method.updateNorm(update) }
  }

  /** Whether what the peer last made counts, as far as the peer knows: only the host's state says what is merged. */
  settle(peer: number, accepted: boolean): void {
    const memory = this.peer(peer)
    memory.own = accepted ? memory.nextOwn : undefined
    memory.nextOwn = undefined
    if (accepted) memory.local = memory.nextLocal
    memory.made = undefined
    memory.nextLocal = memory.local
    memory.work = undefined
  }

  /** What the peer last made is never going to be reported. */
  discard(peer: number): void {
    const { made } = this.peer(peer)
    if (made !== undefined) this.updates.delete(made)
    this.settle(peer, false)
  }

  /** Its process is gone, and with it whatever was not on disk: all but what the method keeps. */
  forget(peer: number): void {
    const memory = this.peer(peer)
    memory.own = undefined
    memory.nextOwn = undefined
    memory.memory = undefined
    memory.work = undefined
    if (this.resident === memory) this.resident = undefined
  }

  /** The host's state of a round as it is now; the peer has it when the function is called. */
  fetch(peer: number, round: number): () => Promise<void> {
    const state = this.stateOf(round)
    return async () => {
      this.peer(peer).state = await state
    }
  }

  /** What was accepted in these rounds, as it is now; the peer has merged it when the function is called. */
  collect(peer: number, rounds: readonly number[]): () => Promise<void> {
    const { method } = this.options
    const memory = this.peer(peer)
    if (method.replicated) return this.fetch(peer, rounds.at(-1)!)
    const merges = rounds.map((round) => {
      const closed = this.closed.get(round)!
      return { closed, contributions: this.contributionsOf(closed) }
    })
    return async () => {
      for (const { closed, contributions } of merges) {
        memory.state = method.merge(memory.state, contributions, this.contextOf(closed, peer))
      }
    }
  }

  /** A round has closed: from now on it can be merged. */
  close(round: ClosedRound): void {
    this.closed.set(round.round, round)
    const merge = this.merge(round)
    merge.catch(() => undefined) // met where it is waited for
    this.states.set(round.round, merge)
  }

  /** The host has merged the round: its checkpoint. */
  async merged(round: number): Promise<Cid> {
    const state = await this.stateOf(round)
    this.newest = { round, state }
    for (const old of this.states.keys()) if (old <= round - keptStates) this.states.delete(old)
    const merged = this.options.method.replicated ? round : round - keptStates
    for (const [old, { accepted }] of this.closed) {
      if (old > merged) continue
      for (const { update } of accepted) this.updates.delete(update)
      this.closed.delete(old)
    }
    for (const [cid, { leaseRound }] of this.updates) {
      if (leaseRound <= round - keptUpdates) this.updates.delete(cid)
    }
    return this.checkpoint()
  }

  /** By the code of a real peer, on a clock that stands still. */
  private async work(memory: PeerMemory, steps: number): Promise<{ values: Float32Array; loss: number }> {
    const { method, learner, batch, rewarmSteps } = this.options
    const { lease, rewarmRound, overlaps } = memory.work!
    const own = memory.own?.round === lease.round - 1 ? memory.own.parameters : undefined
    const ahead = overlaps && own !== undefined && method.overlapSteps > 0
    // The steps for which the merge is not waited for begin where the peer's own ended.
    if (ahead) await learner.setParameters(own)
    const view = {
      you: { lease },
      open: null,
      rewarm: rewarmRound === null ? null : { round: rewarmRound, steps: rewarmSteps },
    }
    const result = await workOnLease({
      method,
      workload: { trainer: learner, batch },
      clock: frozenClock,
      lease: { ...lease, ranges: firstBatches(lease.ranges, steps) },
      start: async () => {
        if (own === undefined) return method.startRound(memory.state, memory.local, undefined)
        const now = ahead ? await learner.parameters() : own
        return method.startRound(memory.state, memory.local, { handedIn: own, now })
      },
      overlapSteps: ahead ? method.overlapSteps : 0,
      look: () => ({ view, ageMs: 0 }),
      reportMs: 0,
      leaving: neverLeaving,
      onStep: () => undefined,
    })
    if (method.quantity === 'parameters') {
      memory.nextOwn = { round: lease.round, parameters: result!.values }
    }
    return result!
  }

  private rateOfRound(round: number): number {
    return this.options.learningRateAt((round - 1) * this.options.method.innerSteps)
  }

  private async merge(closed: ClosedRound): Promise<unknown> {
    const before = await this.stateOf(closed.round - 1)
    return this.options.method.merge(before, this.contributionsOf(closed), this.contextOf(closed, undefined))
  }

  private contributionsOf({ accepted }: ClosedRound): Contribution<unknown>[] {
    return accepted.map(({ peer, update, weight }) => ({
      peer,
      update: this.updates.get(update)!.update,
      weight,
    }))
  }

  private contextOf({ round, seed }: ClosedRound, peer: number | undefined): MergeContext {
    return {
      round,
      seed,
      learningRate: this.rateOfRound(round),
      clipToMedianNorm: this.options.clipToMedianNorm ?? true,
      self: peer === undefined ? null : this.names[peer]!,
    }
  }

  private stateOf(round: number): Promise<unknown> {
    const state = this.states.get(round)
    if (state === undefined) throw new Error(`The merged state of round ${round} is not kept any more.`)
    return state
  }

  private peer(index: number): PeerMemory {
    const known = this.peers[index]
    if (known !== undefined) return known
    const local = this.options.method.createLocal(this.options.layout)
    const memory: PeerMemory = {
      state: undefined,
      local,
      nextLocal: local,
      made: undefined,
      own: undefined,
      nextOwn: undefined,
      memory: undefined,
      work: undefined,
    }
    this.peers[index] = memory
    return memory
  }

  private async lend(memory: PeerMemory): Promise<void> {
    if (this.resident === memory) return
    const { learner } = this.options
    if (this.resident !== undefined) this.resident.memory = await learner.memory()
    await learner.recall(memory.memory)
    memory.memory = undefined
    this.resident = memory
  }
}
