/**
 * A whole run on a virtual clock: the real reducer, a host that does what the reducer says, and up to ten thousand
 * peers that come and go. Everything follows from the seed, so a run can be repeated to the bit, and looked at again.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { base16 } from 'multiformats/bases/base16'
import { type Cid, cidOfDigest, GroundswellError, throwIfAborted } from '../../core/index.ts'
import { isLeaseOf } from '../contributions.ts'
import type { RunEvent } from '../events.ts'
import type { RoundPolicy } from '../policy.ts'
import type { Effect } from '../reducer.ts'
import { closesAtMs } from '../rounds.ts'
import { saidBefore } from '../said-before.ts'
import { isPresent, type RunState } from '../state.ts'
import type { CostModel } from './costs.ts'
import { EventQueue } from './event-queue.ts'
import type { Action } from './occupation.ts'
import { type RoundRow, SimulationBook, type SimulationReport } from './report.ts'
import { SharedLink } from './shared-link.ts'
import type { SwarmTraining, TrainedUpdate } from './swarm-training.ts'
import { VirtualHost } from './virtual-host.ts'
import { type PeerMessage, type RunNews, type Surroundings, type View, VirtualPeer } from './virtual-peer.ts'
import { createPeers, drawAbsenceMs, outages, type WorldSettings } from './world.ts'

export interface SimulationOptions {
  readonly seed: number
  readonly policy: RoundPolicy
  /** H. */
  readonly innerSteps: number
  /** τ of the method; 0 where peers wait for the merge. */
  readonly overlapSteps: number
  /** Peers take these steps before the merge even where it is there in time: what a method costs at worst. */
  readonly alwaysOverlaps?: boolean
  readonly batchTokens: number
  readonly world: WorldSettings
  readonly costs: CostModel
  /** Real parameters, merged for real; without it only time and bytes are simulated. */
  readonly training?: SwarmTraining | undefined
  /** Rounds between two measurements of the validation loss; 0: only at the end. */
  readonly evaluateEveryRounds?: number
  readonly onEvent?: (event: RunEvent) => void
  readonly onRound?: (row: RoundRow) => void
  /** Check every member after every event: for small runs, where a fault should be found where it happens. */
  readonly checkAlways?: boolean
  readonly signal?: AbortSignal | undefined
}

export const simulationLimits = {
  peers: 10_000,
  rounds: 100_000,
  /** Peers × rounds. */
  work: 2_000_000,
  /** Virtual time in which no round closes, in multiples of the longest round. */
  idleRounds: 100,
} as const

/**
 * Runs to the end of the run.
 * @throws GroundswellError `simulate/too-large` above the limits, `simulate/stalled` when the run cannot go on
 */
export async function simulate(options: SimulationOptions): Promise<SimulationReport> {
  const { peers } = options.world
  const { rounds } = options.policy
  const limits = simulationLimits
  if (peers > limits.peers || rounds > limits.rounds || peers * rounds > limits.work) {
    throw new GroundswellError(`A simulation of ${peers} peers over ${rounds} rounds is too large.`, {
      code: 'simulate/too-large',
      remedy: `Stay below ${limits.peers} peers, ${limits.rounds} rounds and ${limits.work} peer rounds.`,
    })
  }
  return new Simulation(options).run()
}

class Simulation implements Surroundings {
  readonly world: WorldSettings
  readonly costs: CostModel
  readonly overlapSteps: number
  readonly alwaysOverlaps: boolean
  readonly training: SwarmTraining | undefined
  nowMs = 0
  private readonly options: SimulationOptions
  private readonly queue = new EventQueue<Action>()
  private readonly host: VirtualHost
  private readonly peers: readonly VirtualPeer[]
  private readonly book: SimulationBook
  /** Into the host: reports. */
  private readonly hostLink: SharedLink
  /** Out of everybody: updates and checkpoints that peers fetch, from the host and from each other. */
  private readonly swarmLink: SharedLink
  private swarmUpBytesPerSecond: number
  /** When the host is done with what it has been given to check and to merge. */
  private hostBusyUntilMs = 0
  private updates = 0
  private finished = false
  private lastCloseMs = 0

  constructor(options: SimulationOptions) {
    this.options = options
    this.world = options.world
    this.costs = options.costs
    this.overlapSteps = options.overlapSteps
    this.alwaysOverlaps = options.alwaysOverlaps ?? false
    this.training = options.training
    const seed = String(options.seed)
    this.peers = createPeers(options.world, seed).map((traits, i) => new VirtualPeer(i, traits, this))
    this.training?.introduce(this.peers.map(({ traits }) => traits.id))
    this.hostLink = new SharedLink(options.world.hostDownBytesPerSecond)
    this.swarmUpBytesPerSecond = options.world.hostUpBytesPerSecond
    this.swarmLink = new SharedLink(this.swarmUpBytesPerSecond)
    this.book = new SimulationBook(this.peers, options)
    this.host = new VirtualHost({
      created: {
        type: 'created',
        atMs: 0,
        runId: madeUpCid('run', options.seed),
        policy: options.policy,
        innerSteps: options.innerSteps,
        batchTokens: options.batchTokens,
        checkpoint: madeUpCid('checkpoint', 0),
        seed: base16.baseEncode(sha256(new TextEncoder().encode(`simulate ${seed}`))),
      },
      onEvent: options.onEvent,
      checkAlways: options.checkAlways ?? false,
    })
  }

  async run(): Promise<SimulationReport> {
    const { signal, policy, seed } = this.options
    this.apply({ type: 'hosted', atMs: 0, session: 'simulation', wallMs: 0 })
    for (const peer of this.peers) this.after(peer.traits.arrivesMs, () => peer.start())
    this.scheduleOutages(String(seed))
    for (let count = 0; !this.finished; count++) {
      const entry = this.queue.pop()
      if (entry === undefined) throw this.stalled()
      if (count % 4096 === 0) throwIfAborted(signal)
      this.nowMs = entry.atMs
      if (this.nowMs - this.lastCloseMs > simulationLimits.idleRounds * policy.maxRoundMs)
        throw this.stalled()
      const pending = entry.value()
      if (pending !== undefined) {
        await pending
        throwIfAborted(signal)
      }
    }
    for (const peer of this.peers) peer.settle(this.nowMs)
    const hashes = this.host.finish()
    return this.book.report({
      state: this.host.state,
      acceptedSteps: this.host.work.acceptedSteps,
      ...hashes,
    })
  }

  after(delayMs: number, action: Action): void {
    this.queue.push(this.nowMs + delayMs, action)
  }

  tellHost(peer: VirtualPeer, message: PeerMessage): void {
    const { latencyMs } = peer.traits
    const { epoch } = peer
    this.after(latencyMs, () => this.receive(peer, message, epoch))
  }

  upload(peer: VirtualPeer, bytes: number, done: Action): () => void {
    const { upBytesPerSecond, latencyMs } = peer.traits
    return this.transfer(this.hostLink, bytes, upBytesPerSecond, latencyMs, done, (moved) => {
      this.book.uploaded(peer, moved)
    })
  }

  download(peer: VirtualPeer, bytes: number, done: Action): () => void {
    const { downBytesPerSecond, latencyMs } = peer.traits
    return this.transfer(this.swarmLink, bytes, downBytesPerSecond, latencyMs, done, (moved) => {
      const hostShare = this.world.hostUpBytesPerSecond / this.swarmUpBytesPerSecond
      this.book.downloaded(peer, moved, hostShare)
    })
  }

  moved(peer: VirtualPeer, how: 'came' | 'left' | 'silently'): void {
    const { upBytesPerSecond } = peer.traits
    this.swarmUpBytesPerSecond += (how === 'came' ? 1 : -1) * this.world.reachableShare * upBytesPerSecond
    this.swarmLink.setCapacity(this.nowMs, this.swarmUpBytesPerSecond)
    this.watch(this.swarmLink)
    if (how !== 'silently') return
    const { epoch } = peer
    this.after(this.host.state.policy.vanishAfterMs, () => {
      if (peer.epoch === epoch && isIn(this.host.state, peer)) {
        this.apply({ type: 'vanished', atMs: this.nowMs, peer: peer.traits.id })
      }
    })
  }

  modelledUpdate(steps: number): TrainedUpdate {
    const update = madeUpCid('update', ++this.updates)
    return { update, steps, bytes: this.costs.updateBytes, loss: 0, norm: 1 }
  }

  private receive(peer: VirtualPeer, message: PeerMessage, epoch: number): void {
    const { id: by, name } = peer.traits
    const at = { atMs: this.nowMs, peer: by }
    const answer = (refusal?: RefusalOf): void => {
      const view = viewOf(this.host.state, peer)
      this.after(peer.traits.latencyMs, () => {
        if (!peer.isOnline || peer.epoch !== epoch) return
        if (refusal === undefined) peer.onView(view, message.type)
        else peer.onRefused(refusal, view, message)
      })
    }
    switch (message.type) {
      case 'hello':
        answer()
        break
      case 'join':
        // The host does not mind whoever is in already, as after a restart that nobody noticed.
        if (isIn(this.host.state, peer)) answer()
        else answer(this.apply({ ...at, type: 'joined', name, addresses: [] }))
        break
      case 'ready':
        answer(this.apply({ ...at, type: 'ready', stepsPerSecond: message.stepsPerSecond }))
        break
      case 'leave':
        this.apply({ ...at, type: 'left' })
        break
      case 'report':
        this.check(message, peer, answer)
        break
      default:
        throw new TypeError(`no message ${String(message satisfies never)}`)
    }
  }

  /** The host checks one update after the other, and then counts it. */
  private check(
    { lease, update }: Extract<PeerMessage, { type: 'report' }>,
    peer: VirtualPeer,
    answer: (refusal: RefusalOf) => void,
  ): void {
    this.hostBusyUntilMs = Math.max(this.nowMs, this.hostBusyUntilMs) + this.costs.checkMs
    this.after(this.hostBusyUntilMs - this.nowMs, () => {
      const { round, grantedAtMs } = lease
      const { id } = peer.traits
      const { state } = this.host
      const said = saidBefore(state, id, { round, grantedAtMs, update: update.update })
      if (said !== undefined) return answer(undefined)
      const by = { atMs: this.nowMs, peer: id }
      const report = new Uint8Array(0)
      // Which lease it is needs saying only where the peer has another one of that round.
      const member = state.members.get(id)
      const another = member !== undefined && !isLeaseOf(member, { round, grantedAtMs })
      const named = { round, ...(another && { grantedAtMs }) }
      const refusal = this.apply({ type: 'contributed', ...by, ...update, ...named, report })
      if (refusal === undefined) this.book.accepted(peer, update.steps, this.nowMs)
      answer(refusal)
    })
  }

  /** Gives the event to the reducer, does what follows from it, and tells the peers what they wait for. */
  private apply(event: RunEvent): RefusalOf {
    const { before, effects, refusal } = this.host.apply(event)
    if (refusal !== undefined) return refusal
    const { state } = this.host
    this.book.saw(event, before, state)
    const closed = state.closed.at(-1)
    const closes = closed !== undefined && closed.round !== before.closed.at(-1)?.round
    if (closes) {
      this.lastCloseMs = this.nowMs
      this.training?.close(closed)
    }
    for (const effect of effects) this.perform(effect)
    // A round that nobody finished opens anew under its number.
    const opens = state.open !== null && state.open.openedAtMs !== before.open?.openedAtMs
    const quorum = state.phase === 'closing' && before.phase !== 'closing'
    if (opens) this.broadcast(state, () => true)
    // Who is at its inner steps learns nothing from the end of a round; from its nearing, how long there is.
    else if (quorum) this.broadcast(state, (peer) => peer.isTraining)
    else if (closes || state.checkpoint.round !== before.checkpoint.round) {
      this.broadcast(state, (peer) => !peer.isTraining)
    }
    return undefined
  }

  private perform(effect: Effect): void {
    switch (effect.type) {
      case 'wake':
        this.after(Math.max(0, effect.atMs - this.nowMs), () => {
          this.apply({ type: 'ticked', atMs: this.nowMs }) // refused when something else came first
        })
        return
      case 'merge': {
        const { round, accepted } = effect
        const startMs = Math.max(this.nowMs, this.hostBusyUntilMs)
        // Updates were decoded when they were checked, and are decoded again while they are added up.
        const { checkMs, addMs, outerStepMs } = this.costs
        this.hostBusyUntilMs = startMs + accepted.length * (checkMs + addMs) + outerStepMs
        this.after(this.hostBusyUntilMs - this.nowMs, () => this.merged(round))
        return
      }
      case 'finish':
        this.finished = true
        return
      case 'drop':
        return
      default:
        throw new TypeError(`no effect ${String(effect satisfies never)}`)
    }
  }

  private merged(round: number): void | Promise<void> {
    const adopt = (checkpoint: Cid): void => {
      this.apply({ type: 'checkpointed', atMs: this.nowMs, round, checkpoint })
    }
    const { training } = this
    const { evaluateEveryRounds = 0, policy, onRound } = this.options
    if (training === undefined) {
      adopt(madeUpCid('checkpoint', round))
      onRound?.(this.book.rowOf(round))
      return
    }
    return training.merged(round).then(async (checkpoint) => {
      adopt(checkpoint)
      const due = evaluateEveryRounds > 0 && round % evaluateEveryRounds === 0
      if (due || round >= policy.rounds || this.finished) this.book.measured(round, await training.evaluate())
      onRound?.(this.book.rowOf(round))
    })
  }

  private broadcast(state: RunState, concerns: (peer: VirtualPeer) => boolean): void {
    const run = newsOf(state)
    for (const peer of this.peers) {
      if (!peer.isOnline || !concerns(peer)) continue
      const { epoch } = peer
      const view = { run, you: state.members.get(peer.traits.id) }
      this.after(peer.traits.latencyMs, () => {
        if (peer.isOnline && peer.epoch === epoch) peer.onView(view)
      })
    }
  }

  private transfer(
    link: SharedLink,
    bytes: number,
    bytesPerSecond: number,
    latencyMs: number,
    done: Action,
    account: (bytes: number) => void,
  ): () => void {
    const transfer = link.start(this.nowMs, bytes, bytesPerSecond, () => {
      account(bytes)
      this.after(latencyMs, done)
    })
    this.watch(link)
    return () => {
      if (transfer.version < 0) return
      account(link.cancel(this.nowMs, transfer))
      this.watch(link)
    }
  }

  /** Looks at a link again when its next transfer is to end, as things stand. */
  private watch(link: SharedLink): void {
    const dueMs = link.nextEndMs
    if (!Number.isFinite(dueMs)) return
    this.queue.push(Math.max(dueMs, this.nowMs), () => {
      if (link.nextEndMs > this.nowMs) return
      for (const { done } of link.takeEnded(this.nowMs)) done()
      this.watch(link)
    })
  }

  private scheduleOutages(seed: string): void {
    const { churn } = this.world
    const upcoming = outages(this.world, seed)
    const next = (): void => {
      const outage = upcoming.next()
      if (outage.done === true) return
      this.after(outage.value.atMs - this.nowMs, () => {
        for (const index of outage.value.peers) {
          const peer = this.peers[index]!
          const extraMs = 0.2 * drawAbsenceMs(churn, peer.traits.random)
          peer.depart('crash', churn.outageMs + extraMs)
        }
        next()
      })
    }
    next()
  }

  private stalled(): GroundswellError {
    const { phase, round, counts, policy } = this.host.state
    return new GroundswellError(
      `The simulated run cannot go on: round ${round} is ${phase}, with ${counts.present} peers present where ${policy.minimumPeers} are needed to begin.`,
      { code: 'simulate/stalled', remedy: 'Simulate more peers, less churn or a smaller minimum.' },
    )
  }
}

type RefusalOf = { readonly code: string; readonly message: string } | undefined

function viewOf(state: RunState, peer: VirtualPeer): View {
  return { run: newsOf(state), you: state.members.get(peer.traits.id) }
}

function newsOf(state: RunState): RunNews {
  const { version, phase, closed, checkpoint, rewarmRound, open } = state
  const news = { version, phase, closed, checkpoint, rewarmRound }
  return { ...news, open: open === null ? null : { round: open.round, deadlineMs: closesAtMs(state) } }
}

function isIn(state: RunState, peer: VirtualPeer): boolean {
  const member = state.members.get(peer.traits.id)
  return member !== undefined && isPresent(member)
}

/** A name for content that only has a size. */
function madeUpCid(kind: string, number: number): Cid {
  const digest = new Uint8Array(32)
  digest.set(new TextEncoder().encode(kind))
  new DataView(digest.buffer).setFloat64(24, number)
  return cidOfDigest(digest)
}
