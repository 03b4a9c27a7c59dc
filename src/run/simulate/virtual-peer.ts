/**
 * One simulated peer: what a trainer does, with time instead of work. It joins, fetches, trains its lease, sends what it
 * learnt and merges; it is switched off, falls asleep, comes back and goes on, and learns of the run only by messages
 * that take their time. It decides as run/trainer-peer.ts and run/replica.ts do.
 */
import { notNow, type Refusal } from '../refusals.ts'
import { isPresent, type Lease, type Member, type RunState } from '../state.ts'
import { type Missing, whatIsMissing } from './catch-up.ts'
import type { CostModel } from './costs.ts'
import { type Action, Occupation, type VirtualTime } from './occupation.ts'
import { type PeerAccount, PeerClock } from './peer-account.ts'
import type { SwarmTraining, TrainedUpdate } from './swarm-training.ts'
import {
  type Departure,
  drawAbsenceMs,
  drawSession,
  drawSlowness,
  type PeerTraits,
  type WorldSettings,
} from './world.ts'

/** What a peer tells the host. Each is answered with the host's state, or with a refusal. */
export type PeerMessage =
  | { readonly type: 'hello' }
  | { readonly type: 'join' }
  | { readonly type: 'ready'; readonly stepsPerSecond: number }
  | { readonly type: 'leave' }
  | { readonly type: 'report'; readonly lease: Lease; readonly update: TrainedUpdate }

/** What the host tells a peer: how the run stands, and what it has of the peer itself. */
export interface View {
  readonly run: RunNews
  /** Undefined when it is not in the run. */
  readonly you: Member | undefined
}

/** What is the same for all peers. Small: many a peer holds an old one. */
export interface RunNews
  extends Pick<RunState, 'version' | 'phase' | 'closed' | 'checkpoint' | 'rewarmRound'> {
  /** The open round, and when it closes if that is known. */
  readonly open: { readonly round: number; readonly deadlineMs: number | null } | null
}

/** What lies around a peer. */
export interface Surroundings extends VirtualTime {
  readonly world: WorldSettings
  readonly costs: CostModel
  /** τ of the method. */
  readonly overlapSteps: number
  /** Peers take these steps before the merge even where it is there in time. */
  readonly alwaysOverlaps: boolean
  readonly training: SwarmTraining | undefined
  /** An update of which only the size matters. */
  modelledUpdate(steps: number): TrainedUpdate
  tellHost(peer: VirtualPeer, message: PeerMessage): void
  /** To the host. Gives what breaks it off. */
  upload(peer: VirtualPeer, bytes: number, done: Action): () => void
  /** From whoever has it. Gives what breaks it off. */
  download(peer: VirtualPeer, bytes: number, done: Action): () => void
  /** It has come, or gone: `silently` when the host has to find out. */
  moved(peer: VirtualPeer, how: 'came' | 'left' | 'silently'): void
}

/** Refused to come in: tries again after this. */
const retryJoinMs = 20_000

export class VirtualPeer {
  readonly index: number
  readonly traits: PeerTraits
  readonly account: PeerAccount
  /** Counts its sessions and naps: what was meant for an earlier one does not arrive. */
  epoch = 0
  readonly around: Surroundings
  private readonly clock = new PeerClock()
  private readonly doing: Occupation
  private online = false
  private view: View | undefined
  /** What to go on with after sleep. */
  private resume: (() => void) | undefined
  private joining = false
  private saidReady = false
  private hasSetUp = false
  /** It has fetched once what a newcomer fetches. */
  private hasFetchedSetup = false
  /** The round whose merged state it has; -1: none. After a restart it has it on disk alone. */
  held = -1
  inMemory = false
  private working: Working | undefined
  /** Trained and reported, but the host could not take it yet, or thought this peer gone. */
  private unreported: { readonly lease: Lease; readonly update: TrainedUpdate } | undefined
  /** Whose update is reported, and not yet heard of. */
  private reported: Lease | undefined
  /** The same of a process that ended before it heard: the state says it when there is another lease. */
  private unheard: Lease | undefined
  /** When it learnt of its lease while it was still fetching what to merge. */
  private overlapsFromMs: number | undefined
  private catchingUp = false

  constructor(index: number, traits: PeerTraits, around: Surroundings) {
    this.index = index
    this.traits = traits
    this.around = around
    this.doing = new Occupation(around, this.clock)
    this.account = this.clock.account
  }

  get isOnline(): boolean {
    return this.online
  }

  get isTraining(): boolean {
    return this.working !== undefined
  }

  /** The process begins. */
  start(): void {
    if (this.online) return
    this.come()
    this.join()
  }

  /** How things stood when the host sent it. */
  onView(view: View, answers?: PeerMessage['type']): void {
    this.see(view)
    if (answers === 'join') {
      this.joining = false
      this.saidReady = false
    }
    if (answers === 'report') this.onVerdict(true)
    else {
      if (this.working !== undefined) this.lookUp(this.working)
      this.decide()
    }
  }

  onRefused(refusal: Refusal, view: View, message: PeerMessage): void {
    this.see(view)
    switch (message.type) {
      case 'join':
        this.account.refusedJoins++
        this.around.after(
          retryJoinMs * (0.5 + this.traits.random.nextFloat()),
          this.sameSession(() => {
            this.joining = false
            this.join()
          }),
        )
        break
      case 'report':
        if (refusal.code === 'member/unknown' || notNow.has(refusal.code)) {
          this.unreported = message
          this.doing.nothing()
          if (refusal.code === 'member/unknown') this.decide()
        } else {
          this.account.refusedReports++
          this.onVerdict(this.isCounted(message.lease))
        }
        break
      default:
        this.decide()
    }
  }

  /** Adds up what is still under way. */
  settle(nowMs: number): void {
    this.clock.pass(nowMs)
  }

  /** Ends the session in one of the ways that sessions end; it is back after `absenceMs`. */
  depart(how: Departure, absenceMs: number): void {
    if (!this.online) return
    this.account.departures++
    const resume = this.doing.suspend()
    if (how === 'leave') this.around.tellHost(this, { type: 'leave' })
    this.epoch++
    this.online = false
    this.clock.switchTo('away', this.around.nowMs)
    this.view = undefined
    this.joining = false
    this.around.moved(this, how === 'leave' ? 'left' : 'silently')
    if (how === 'sleep') {
      this.resume = resume
      this.around.after(absenceMs, () => this.wake())
      return
    }
    this.resume = undefined
    this.catchingUp = false
    this.working = undefined
    this.unreported = undefined
    this.unheard ??= this.reported
    this.reported = undefined
    this.inMemory = false
    this.hasSetUp = false
    this.around.training?.forget(this.index)
    this.around.after(absenceMs, () => this.start())
  }

  private wake(): void {
    if (this.online) return
    this.come()
    this.around.tellHost(this, { type: 'hello' })
    const { resume } = this
    this.resume = undefined
    resume?.()
  }

  private come(): void {
    const { nowMs, world } = this.around
    this.online = true
    this.epoch++
    this.account.sessions++
    if (this.account.sessions > 1) this.account.returnedAtMs = nowMs
    this.clock.switchTo('waiting', nowMs)
    this.around.moved(this, 'came')
    const { afterMs, how } = drawSession(world.churn, this.traits.random)
    if (!Number.isFinite(afterMs)) return
    this.around.after(
      afterMs,
      this.sameSession(() => this.depart(how, drawAbsenceMs(world.churn, this.traits.random))),
    )
  }

  private join(): void {
    if (this.joining) return
    this.joining = true
    this.around.tellHost(this, { type: 'join' })
  }

  private see(view: View): void {
    if (this.view === undefined || view.run.version >= this.view.run.version) this.view = view
    // Whoever still fetches what to merge may train meanwhile, as far as the method lets it.
    if (this.catchingUp && this.me?.lease != null) this.overlapsFromMs ??= this.around.nowMs
  }

  /** As the newest view has it, while it is in the run. */
  private get me(): Member | undefined {
    const you = this.view?.you
    return you !== undefined && isPresent(you) ? you : undefined
  }

  /** Whether the update of its newest lease counts, as the newest view has it: nothing else counts from that round on. */
  private isCounted({ round }: Lease): boolean {
    return (this.view?.you?.lastRound ?? 0) >= round
  }

  /** What comes next, when nothing is under way. */
  private decide(): void {
    const { view, me } = this
    if (!this.online || view === undefined || view.run.phase === 'finished') return
    if (me === undefined) this.join()
    else if (!this.doing.something) this.decideAs(me, view.run)
  }

  private decideAs(me: Member, run: RunNews): void {
    const { lease } = me
    const missing = this.hasSetUp ? whatIsMissing(run, this) : undefined
    if (!this.hasSetUp) this.setUp()
    else if (this.reportAgain()) return
    else if (lease !== null && this.inMemory && this.held === lease.round - 1)
      this.train(lease, run.rewarmRound)
    // The checkpoint that it starts from is history: this process was not there when it was given.
    else if (lease !== null && lease.round <= this.held) this.startOver()
    else if (missing === 'wait') return
    else if (missing !== undefined) this.catchUp(missing)
    else if (me.status === 'joining') this.sayReady()
  }

  /** Gives up its lease and comes back without one. */
  private startOver(): void {
    this.around.tellHost(this, { type: 'leave' })
    this.view = undefined
    this.join()
  }

  private sayReady(): void {
    if (this.saidReady) return
    this.saidReady = true
    const { world } = this.around
    const stepsPerSecond = this.traits.stepsPerSecond / drawSlowness(world, this.traits.random)
    this.around.tellHost(this, { type: 'ready', stepsPerSecond })
  }

  /** What the host did not take: it says what becomes of it now. */
  private reportAgain(): boolean {
    const { unreported } = this
    if (unreported === undefined) return false
    this.unreported = undefined
    this.report(unreported.lease, unreported.update)
    return true
  }

  private setUp(): void {
    const { costs } = this.around
    this.download(this.hasFetchedSetup ? 0 : costs.setupBytes, () => {
      this.hasFetchedSetup = true
      this.doing.spend(costs.setupMs, 'preparing', () => {
        this.hasSetUp = true
        this.goOn()
      })
    })
  }

  private catchUp({ bytes, round, merges, workMs }: Missing): void {
    const { training } = this.around
    this.overlapsFromMs = this.me?.lease == null ? undefined : this.around.nowMs
    this.catchingUp = true
    const apply =
      merges === undefined ? training?.fetch(this.index, round) : training?.collect(this.index, merges)
    const holds = (): void => {
      this.catchingUp = false
      this.held = round
      this.inMemory = true
      this.goOn()
    }
    this.download(bytes, () =>
      this.doing.spend(workMs, 'preparing', () =>
        apply === undefined ? holds() : (apply()?.then(holds) ?? holds()),
      ),
    )
  }

  private train(lease: Lease, rewarmRound: number | null): void {
    const { world, training, nowMs, overlapSteps, alwaysOverlaps } = this.around
    const { random, stepsPerSecond } = this.traits
    if (this.unheard !== undefined) training?.settle(this.index, this.isCounted(this.unheard))
    this.unheard = undefined
    const waitedMs = nowMs - (this.overlapsFromMs ?? nowMs)
    this.overlapsFromMs = undefined
    training?.begin(this.index, { lease, rewarmRound, overlaps: alwaysOverlaps || waitedMs > 0 })
    const stepMs = (1000 / stepsPerSecond) * drawSlowness(world, random)
    const ahead = Math.min(overlapSteps, lease.steps, Math.floor(waitedMs / stepMs))
    this.clock.wasComputing(ahead * stepMs)
    const drops = random.nextFloat() < world.churn.dropShare
    this.working = { lease, stepMs, drops, steps: lease.steps }
    this.doing.spend((lease.steps - ahead) * stepMs, 'computing', () => this.finishLease())
  }

  /** What the news mean for the lease that is being worked on. */
  private lookUp(working: Working): void {
    const { lease } = working
    if (this.me === undefined) return
    if (isSameLease(this.me.lease, lease)) this.endInTime(working)
    else {
      // The run has taken it back, and no update of it would count.
      this.account.abandoned++
      this.working = undefined
      this.around.training?.settle(this.index, false)
      this.doing.suspend()
    }
  }

  /** Where the round closes before all steps can be done and reported, those that can are worth reporting. */
  private endInTime(working: Working): void {
    const { nowMs, costs } = this.around
    const { lease, stepMs, steps } = working
    const { open } = this.view!.run
    const endMs = this.doing.endMs
    if (open?.round !== lease.round || open.deadlineMs === null || endMs === undefined) return
    const { upBytesPerSecond, latencyMs } = this.traits
    const reportMs = costs.encodeMs + (1000 * costs.updateBytes) / upBytesPerSecond + 3 * latencyMs
    const leftMs = open.deadlineMs - reportMs - nowMs
    if (leftMs < 0 || endMs <= nowMs + leftMs) return
    const done = steps - (endMs - nowMs) / stepMs
    const possible = Math.floor(done + leftMs / stepMs)
    if (possible < Math.max(1, done)) return
    this.working = { ...working, steps: possible }
    this.doing.spend((possible - done) * stepMs, 'computing', () => this.finishLease())
  }

  private finishLease(): void | Promise<void> {
    const { training } = this.around
    const { lease, drops, steps } = this.working!
    if (training === undefined) return this.publish(lease, drops, this.around.modelledUpdate(steps))
    return training.train(this.index, steps).then((update) => this.publish(lease, drops, update))
  }

  private publish(lease: Lease, drops: boolean, update: TrainedUpdate): void {
    this.working = undefined
    if (drops) {
      this.account.dropped++
      this.around.training?.discard(this.index)
      this.startOver()
      return
    }
    this.doing.spend(this.around.costs.encodeMs, 'preparing', () =>
      this.doing.transfer(
        (done) => this.around.upload(this, update.bytes, done),
        () => this.report(lease, update),
      ),
    )
  }

  private report(lease: Lease, update: TrainedUpdate): void {
    this.reported = lease
    const send = (): void => {
      this.doing.expect(send)
      this.around.tellHost(this, { type: 'report', lease, update })
    }
    send()
  }

  private onVerdict(accepted: boolean): void {
    this.reported = undefined
    this.around.training?.settle(this.index, accepted)
    this.doing.nothing()
    this.decide()
  }

  private download(bytes: number, done: Action): void {
    if (bytes === 0) this.doing.spend(0, 'preparing', done)
    else this.doing.transfer((then) => this.around.download(this, bytes, then), done)
  }

  private goOn(): void {
    this.doing.nothing()
    this.decide()
  }

  private sameSession(action: () => void): () => void {
    const { epoch } = this
    return () => {
      if (this.epoch === epoch && this.online) action()
    }
  }
}

interface Working {
  readonly lease: Lease
  readonly stepMs: number
  /** Its update is not going to arrive. */
  readonly drops: boolean
  /** How many of the lease's steps are going to be done. */
  readonly steps: number
}

function isSameLease(one: Lease | null, other: Lease): boolean {
  return one !== null && one.round === other.round && one.grantedAtMs === other.grantedAtMs
}
