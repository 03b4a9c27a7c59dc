/**
 * One simulated peer: what a trainer does, with time instead of work. It joins, fetches, trains its lease, sends what it
 * learnt and merges; it is switched off, falls asleep, comes back and goes on, and learns of the run only by messages
 * that take their time. It decides as run/trainer-peer.ts and run/replica.ts do.
 */
import type { Refusal } from '../reducer.ts'
import { type ClosedRound, isPresent, type Lease, type Member, type RunState } from '../state.ts'
import type { CostModel } from './costs.ts'
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

export type Action = () => void | Promise<void>

/** What lies around a peer. */
export interface Surroundings {
  readonly nowMs: number
  readonly world: WorldSettings
  readonly costs: CostModel
  /** τ of the method. */
  readonly overlapSteps: number
  /** Peers take these steps before the merge even where it is there in time. */
  readonly alwaysOverlaps: boolean
  readonly training: SwarmTraining | undefined
  /** An update of which only the size matters. */
  modelledUpdate(steps: number): TrainedUpdate
  after(delayMs: number, action: Action): void
  tellHost(peer: VirtualPeer, message: PeerMessage): void
  /** To the host. Gives what breaks it off. */
  upload(peer: VirtualPeer, bytes: number, done: Action): () => void
  /** From whoever has it. Gives what breaks it off. */
  download(peer: VirtualPeer, bytes: number, done: Action): () => void
  /** It has come, or gone: `silently` when the host has to find out. */
  moved(peer: VirtualPeer, how: 'came' | 'left' | 'silently'): void
}

/** What a peer is busy with. */
interface Activity {
  /** When it is done, where nothing but time is needed. */
  readonly endMs?: number
  /** Stops it, and gives what takes it up again. */
  readonly suspend: () => () => void
}

/** Refused to come in: tries again after this. */
const retryJoinMs = 20_000
/** With more updates in a round than this, peers fetch the merged state instead. */
const maximumListed = 256

export class VirtualPeer {
  readonly index: number
  readonly traits: PeerTraits
  readonly account: PeerAccount
  /** Counts its sessions and naps: what was meant for an earlier one does not arrive. */
  epoch = 0
  private readonly around: Surroundings
  private readonly clock = new PeerClock()
  private online = false
  private view: View | undefined
  private activity: Activity | undefined
  /** What to go on with after sleep. */
  private resume: (() => void) | undefined
  private joining = false
  private saidReady = false
  private hasSetUp = false
  /** It has fetched once what a newcomer fetches. */
  private hasFetchedSetup = false
  /** The round whose merged state it has; -1: none. After a restart it has it on disk alone. */
  private held = -1
  private inMemory = false
  private working: Working | undefined
  /** Trained, and not yet heard of. */
  private unreported: { readonly lease: Lease; readonly update: TrainedUpdate } | undefined
  /** When it learnt of its lease while it was still fetching what to merge. */
  private overlapsFromMs: number | undefined
  private catchingUp = false

  constructor(index: number, traits: PeerTraits, around: Surroundings) {
    this.index = index
    this.traits = traits
    this.around = around
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
        if (refusal.code === 'member/unknown') {
          this.unreported = message
          this.setActivity(undefined, 'waiting')
          this.join()
        } else {
          this.account.refusedReports++
          this.onVerdict(false)
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
    const resume = this.suspend()
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

  /** What comes next, when nothing is under way. */
  private decide(): void {
    const { view, me } = this
    if (!this.online || view === undefined || view.run.phase === 'finished') return
    if (me === undefined) this.join()
    else if (this.activity === undefined) this.decideAs(me, view.run)
  }

  private decideAs(me: Member, run: RunNews): void {
    const { lease } = me
    const missing = this.hasSetUp ? this.missing(run) : undefined
    if (!this.hasSetUp) this.setUp()
    else if (this.reportAgain(lease)) return
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

  /** What the host did not take because it thought this peer gone; whether it can still count. */
  private reportAgain(lease: Lease | null): boolean {
    const { unreported } = this
    if (unreported === undefined) return false
    this.unreported = undefined
    const counts = isSameLease(lease, unreported.lease)
    if (counts) this.report(unreported.lease, unreported.update)
    else this.around.training?.settle(this.index, false)
    return counts
  }

  private setUp(): void {
    const { costs } = this.around
    this.download(this.hasFetchedSetup ? 0 : costs.setupBytes, () => {
      this.hasFetchedSetup = true
      this.spend(costs.setupMs, 'preparing', () => {
        this.hasSetUp = true
        this.goOn()
      })
    })
  }

  /** What lies between its copy and the run's newest round. */
  private missing(run: RunNews): Missing | 'wait' | undefined {
    const { checkpoint } = run
    const closed = run.closed.filter(({ round }) => round > this.held)
    if (!this.inMemory) {
      const onDisk = this.held === checkpoint.round
      const bytes = onDisk ? 0 : this.around.costs.stateBytes
      return { bytes, round: checkpoint.round, merges: undefined }
    }
    const newest = closed.at(-1)
    if (newest === undefined) return undefined
    const { costs } = this.around
    const updates = closed.reduce((sum, { accepted }) => sum + accepted.length, 0)
    if (costs.pairwise && closed[0]!.round === this.held + 1) {
      return { ...pairsOf(closed), workMs: closed.length * (costs.checkMs + costs.addMs + costs.outerStepMs) }
    }
    const listed = closed.every(({ accepted }) => accepted.length <= maximumListed)
    const cheaper = closed.length === 1 || updates * costs.updateBytes <= costs.stateBytes
    if (closed[0]!.round === this.held + 1 && listed && (cheaper || checkpoint.round <= this.held)) {
      const foreign = closed.flatMap(({ accepted }) => accepted.filter(({ peer }) => peer !== this.traits.id))
      return {
        bytes: foreign.reduce((sum, { bytes }) => sum + bytes, 0),
        round: newest.round,
        merges: closed.map(({ round }) => round),
        workMs: updates * (costs.checkMs + costs.addMs) + closed.length * costs.outerStepMs,
      }
    }
    if (checkpoint.round <= this.held) return 'wait' // until the host has merged
    return { bytes: costs.stateBytes, round: checkpoint.round, merges: undefined }
  }

  private catchUp({ bytes, round, merges, workMs = 0 }: Missing): void {
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
      this.spend(workMs, 'preparing', () =>
        apply === undefined ? holds() : (apply()?.then(holds) ?? holds()),
      ),
    )
  }

  private train(lease: Lease, rewarmRound: number | null): void {
    const { world, training, nowMs, overlapSteps, alwaysOverlaps } = this.around
    const { random, stepsPerSecond } = this.traits
    const waitedMs = nowMs - (this.overlapsFromMs ?? nowMs)
    this.overlapsFromMs = undefined
    training?.begin(this.index, { lease, rewarmRound, overlaps: alwaysOverlaps || waitedMs > 0 })
    const stepMs = (1000 / stepsPerSecond) * drawSlowness(world, random)
    const ahead = Math.min(overlapSteps, lease.steps, Math.floor(waitedMs / stepMs))
    this.clock.wasComputing(ahead * stepMs)
    const drops = random.nextFloat() < world.churn.dropShare
    this.working = { lease, stepMs, drops, steps: lease.steps }
    this.spend((lease.steps - ahead) * stepMs, 'computing', () => this.finishLease())
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
      this.suspend()
    }
  }

  /** Where the round closes before all steps can be done and reported, those that can are worth reporting. */
  private endInTime(working: Working): void {
    const { nowMs, costs } = this.around
    const { lease, stepMs, steps } = working
    const { open } = this.view!.run
    const endMs = this.activity?.endMs
    if (open?.round !== lease.round || open.deadlineMs === null || endMs === undefined) return
    const { upBytesPerSecond, latencyMs } = this.traits
    const reportMs = costs.encodeMs + (1000 * costs.updateBytes) / upBytesPerSecond + 3 * latencyMs
    const leftMs = open.deadlineMs - reportMs - nowMs
    if (leftMs < 0 || endMs <= nowMs + leftMs) return
    const done = steps - (endMs - nowMs) / stepMs
    const possible = Math.floor(done + leftMs / stepMs)
    if (possible < Math.max(1, done)) return
    this.working = { ...working, steps: possible }
    this.spend((possible - done) * stepMs, 'computing', () => this.finishLease())
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
      this.around.training?.settle(this.index, false)
      this.startOver()
      return
    }
    this.spend(this.around.costs.encodeMs, 'preparing', () =>
      this.transfer(
        (done) => this.around.upload(this, update.bytes, done),
        () => this.report(lease, update),
      ),
    )
  }

  private report(lease: Lease, update: TrainedUpdate): void {
    const send = (): void => {
      this.setActivity({ suspend: () => send }, 'communicating')
      this.around.tellHost(this, { type: 'report', lease, update })
    }
    send()
  }

  private onVerdict(accepted: boolean): void {
    this.around.training?.settle(this.index, accepted)
    this.setActivity(undefined, 'waiting')
    this.decide()
  }

  private goOn(): void {
    this.setActivity(undefined, 'waiting')
    this.decide()
  }

  /** Time that passes here, unless the machine is switched off. */
  private spend(ms: number, as: 'computing' | 'preparing', done: Action): void {
    const endMs = this.around.nowMs + ms
    const activity: Activity = {
      endMs,
      suspend: () => {
        const leftMs = Math.max(0, endMs - this.around.nowMs)
        return () => this.spend(leftMs, as, done)
      },
    }
    this.setActivity(activity, as)
    this.around.after(ms, () => {
      if (this.activity !== activity) return
      this.setActivity(undefined, 'waiting')
      return done()
    })
  }

  private download(bytes: number, done: Action): void {
    if (bytes === 0) this.spend(0, 'preparing', done)
    else this.transfer((then) => this.around.download(this, bytes, then), done)
  }

  /** A transfer that begins anew when it was broken off. */
  private transfer(begin: (done: Action) => () => void, done: Action): void {
    let stop: () => void = () => {}
    const activity: Activity = {
      suspend: () => {
        stop()
        return () => this.transfer(begin, done)
      },
    }
    this.setActivity(activity, 'communicating')
    stop = begin(() => {
      if (this.activity !== activity) return
      this.setActivity(undefined, 'waiting')
      return done()
    })
  }

  private setActivity(
    activity: Activity | undefined,
    as: 'computing' | 'communicating' | 'preparing' | 'waiting',
  ): void {
    this.activity = activity
    this.clock.switchTo(as, this.around.nowMs)
  }

  private suspend(): (() => void) | undefined {
    const resume = this.activity?.suspend()
    this.setActivity(undefined, 'waiting')
    return resume
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

interface Missing {
  readonly bytes: number
  /** The round it then holds. */
  readonly round: number
  /** Rounds to merge; undefined where the merged state is fetched. */
  readonly merges: readonly number[] | undefined
  readonly workMs?: number
}

/** One update of each round, about as large as any. */
function pairsOf(closed: readonly ClosedRound[]): Missing {
  return {
    bytes: closed.reduce((sum, { accepted }) => sum + (accepted[0]?.bytes ?? 0), 0),
    round: closed.at(-1)!.round,
    merges: closed.map(({ round }) => round),
  }
}

function isSameLease(one: Lease | null, other: Lease): boolean {
  return one !== null && one.round === other.round && one.grantedAtMs === other.grantedAtMs
}
