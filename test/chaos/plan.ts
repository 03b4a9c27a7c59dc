/**
 * What goes wrong, when, and to whom: a pure function of a seed, so that a run that failed can be repeated with the
 * same faults at the same times. (What the processes do in between depends on the machine's scheduling, so a repeat
 * meets the same faults, not the same instants of the program.) Learnt from Jepsen's nemesis schedules and
 * FoundationDB's simulation (https://github.com/jepsen-io/jepsen, https://apple.github.io/foundationdb/testing.html).
 */
import { permutation, type Random, seededRandom } from '../../src/core/index.ts'

export type FaultKind =
  /** SIGKILL; started again with the same home afterwards. */
  | 'kill'
  /** SIGSTOP, then SIGCONT. */
  | 'freeze'
  /** SIGTERM, and started again at once. */
  | 'restart'
  /** The wall clock of the process jumps by `amount` milliseconds. */
  | 'clock'
  /** The disk that holds the home is full for a while. */
  | 'disk'
  /** Every packet takes `amount` milliseconds longer, give or take a half. */
  | 'delay'
  /** A chunk is lost with probability `amount` and comes a retransmission later. */
  | 'loss'
  /** The line carries `amount` bytes a second. */
  | 'narrow'
  /** Nothing passes for a while; then what was under way comes after all. */
  | 'stall'
  /** Nothing passes, new connections neither; at the end all connections are broken. */
  | 'partition'
  /** All connections are broken at once; new ones may be made. */
  | 'cut'

/** The host, or a peer by number from 0. A fault of the line at the host concerns the lines of all peers. */
export type Target = 'host' | number

export interface Fault {
  /** From 1. */
  readonly number: number
  /** Milliseconds since the swarm was up. */
  readonly atMs: number
  readonly kind: FaultKind
  readonly target: Target
  /** 0 for what is over in an instant. */
  readonly durationMs: number
  /** What the kind says; 0 where it says nothing. */
  readonly amount: number
}

export interface PlanOptions {
  readonly seed: number
  readonly faults: number
  readonly peers: number
  /** Mean time between two faults. */
  readonly meanGapMs: number
  /** Kinds that this machine cannot bring about. */
  readonly without?: readonly FaultKind[]
}

interface KindRule {
  /** What of the target it concerns: one fault at a time of the process, and one of the line. */
  readonly of: 'process' | 'line'
  /** Whether the target is out of the run meanwhile. */
  readonly away: boolean
  readonly weight: { readonly peer: number; readonly host: number }
  readonly durationMs: readonly [number, number]
  readonly amount: (random: Random) => number
}

const nothing = (): number => 0
const between = (least: number, most: number) => (random: Random) =>
  least + (most - least) * random.nextFloat()

const hourMs = 3_600_000

export const faultKinds: Readonly<Record<FaultKind, KindRule>> = {
  kill: {
    ...{ of: 'process', away: true, weight: { peer: 12, host: 4 } },
    ...{ durationMs: [100, 5000], amount: nothing },
  },
  freeze: {
    ...{ of: 'process', away: true, weight: { peer: 8, host: 3 } },
    ...{ durationMs: [500, 6000], amount: nothing },
  },
  restart: {
    ...{ of: 'process', away: true, weight: { peer: 4, host: 2 } },
    ...{ durationMs: [0, 0], amount: nothing },
  },
  clock: {
    ...{ of: 'process', away: false, weight: { peer: 4, host: 3 } },
    ...{ durationMs: [0, 0], amount: (random) => (random.nextInt(2) === 0 ? hourMs : -hourMs) },
  },
  disk: {
    ...{ of: 'process', away: true, weight: { peer: 3, host: 2 } },
    ...{ durationMs: [1000, 4000], amount: nothing },
  },
  delay: {
    ...{ of: 'line', away: false, weight: { peer: 5, host: 1 } },
    ...{ durationMs: [2000, 8000], amount: between(20, 300) },
  },
  loss: {
    ...{ of: 'line', away: false, weight: { peer: 5, host: 1 } },
    ...{ durationMs: [2000, 8000], amount: between(0.02, 0.3) },
  },
  narrow: {
    ...{ of: 'line', away: false, weight: { peer: 4, host: 1 } },
    ...{ durationMs: [2000, 8000], amount: between(20_000, 200_000) },
  },
  stall: {
    ...{ of: 'line', away: true, weight: { peer: 5, host: 1 } },
    ...{ durationMs: [500, 6000], amount: nothing },
  },
  partition: {
    ...{ of: 'line', away: true, weight: { peer: 6, host: 2 } },
    ...{ durationMs: [500, 8000], amount: nothing },
  },
  cut: {
    ...{ of: 'line', away: false, weight: { peer: 6, host: 2 } },
    ...{ durationMs: [0, 0], amount: nothing },
  },
}

/** How long a target is left in peace after a fault of it, so that it can come back. */
function recoveryMs({ kind, target }: Pick<Fault, 'kind' | 'target'>): number {
  if (!faultKinds[kind].away) return 200
  if (faultKinds[kind].of === 'line') return 1000
  return target === 'host' ? 4000 : 1500
}

/** Of a plan in which faults come as densely as this or less, durations are as stated; else down to half of it. */
const fullDurationsFromGapMs = 3000

/** Of the peers, at most so many are away at the same time: one always remains. */
export function mostPeersAway(peers: number): number {
  return Math.max(1, peers - 1)
}

interface Candidate {
  readonly kind: FaultKind
  readonly on: 'peer' | 'host'
}

/** First every kind once on a peer and once on the host, as far as the number reaches; then by weight. */
export function planFaults(options: PlanOptions): Fault[] {
  const { seed, faults, peers, meanGapMs, without = [] } = options
  const random = seededRandom('chaos', seed)
  const candidates = (Object.keys(faultKinds) as FaultKind[])
    .filter((kind) => !without.includes(kind))
    .flatMap((kind): Candidate[] => [
      { kind, on: 'peer' },
      { kind, on: 'host' },
    ])
  const once = [...permutation(candidates.length, random)].map((index) => candidates[index]!)
  const scale = Math.min(1, Math.max(0.5, meanGapMs / fullDurationsFromGapMs))
  const planned: Fault[] = []
  let nowMs = 0
  while (planned.length < faults) {
    nowMs += meanGapMs * Math.min(3, Math.max(0.1, -Math.log(1 - random.nextFloat())))
    const number = planned.length + 1
    const { kind, on } = once[number - 1] ?? drawByWeight(candidates, random)
    const rule = faultKinds[kind]
    const durationMs = Math.round(scale * between(...rule.durationMs)(random))
    const amount = rule.amount(random)
    const wanted = on === 'host' ? ('host' as const) : random.nextInt(peers)
    // A target that is busy with another fault is waited for.
    const atMs = Math.ceil(earliest(planned, { kind, target: wanted, durationMs, peers, fromMs: nowMs }))
    nowMs = atMs
    planned.push({ number, atMs, kind, target: wanted, durationMs, amount })
  }
  return planned
}

/** When the last fault of a plan is over. */
export function endOfPlan(plan: readonly Fault[]): number {
  return plan.reduce((latest, fault) => Math.max(latest, fault.atMs + fault.durationMs), 0)
}

function drawByWeight(candidates: readonly Candidate[], random: Random): Candidate {
  const weights = candidates.map(({ kind, on }) => faultKinds[kind].weight[on])
  let left = random.nextFloat() * weights.reduce((total, weight) => total + weight, 0)
  const drawn = weights.findIndex((weight) => {
    left -= weight
    return left < 0
  })
  return candidates[Math.max(0, drawn)]!
}

/** The first instant from `fromMs` on at which this fault may begin. */
function earliest(
  planned: readonly Fault[],
  next: { kind: FaultKind; target: Target; durationMs: number; peers: number; fromMs: number },
): number {
  const { of: part, away } = faultKinds[next.kind]
  let atMs = next.fromMs
  for (;;) {
    const endMs = atMs + next.durationMs + recoveryMs(next)
    const overlapping = planned.filter((fault) => fault.atMs < endMs && recovered(fault) > atMs)
    const clashing = overlapping.filter(
      (fault) => faultKinds[fault.kind].of === part && concerns(fault, next, part),
    )
    const peersAway = overlapping.filter(
      (fault) => faultKinds[fault.kind].away && fault.target !== 'host' && fault.target !== next.target,
    )
    const tooMany = away && next.target !== 'host' && peersAway.length >= mostPeersAway(next.peers)
    const blocking = tooMany ? [...clashing, ...peersAway] : clashing
    if (blocking.length === 0) return atMs
    atMs = Math.min(...blocking.map(recovered))
  }
}

function recovered(fault: Fault): number {
  return fault.atMs + fault.durationMs + recoveryMs(fault)
}

/** Whether both touch the same process, or a common line. */
function concerns(one: { target: Target }, other: { target: Target }, part: KindRule['of']): boolean {
  if (one.target === other.target) return true
  return part === 'line' && (one.target === 'host' || other.target === 'host')
}
