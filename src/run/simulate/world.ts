/**
 * The machines of a simulation and what befalls them: how fast each computes, what its line carries, when its owner
 * switches it off. Everything is drawn from the seed, each peer from a stream of its own, so that one peer more changes
 * nothing about the others.
 */
import { type Random, seededRandom } from '../../core/index.ts'
import { type PeerId, peerIdOf } from '../../swarm/index.ts'

export interface WorldSettings {
  readonly peers: number
  /** The fastest machine computes this many times as fast as the slowest; the logarithms lie evenly between. */
  readonly speedSpread: number
  /** The same of the lines' rates. */
  readonly linkSpread: number
  /** One inner step of the middle machine. */
  readonly stepMs: number
  /** Standard deviation of a lease's time per step, as a share of it. */
  readonly jitter: number
  /** Of the middle machine's line. */
  readonly upBytesPerSecond: number
  readonly downBytesPerSecond: number
  readonly hostUpBytesPerSecond: number
  readonly hostDownBytesPerSecond: number
  /** Of what the lines could send, the share that others can fetch from: whoever sits behind a router gives nothing. */
  readonly reachableShare: number
  /** From a peer to the host, one way; each peer has its own, from half to twice this. */
  readonly latencyMs: number
  /** Peers come one after another over this time. */
  readonly arrivalMs: number
  readonly churn: ChurnSettings
}

export interface ChurnSettings {
  /** Mean time that a peer stays (exponential); infinity: until the run is finished. */
  readonly sessionMs: number
  /** Mean time until it is back (exponential), with the same identity. */
  readonly absenceMs: number
  /** Of the sessions that end, the share that ends without a word… */
  readonly crashShare: number
  /** …and the share in which the machine only sleeps, and wakes with all that it had in memory. */
  readonly sleepShare: number
  /** Mean time between outages in which neighbouring peers go at once without a word; infinity: none. */
  readonly outageEveryMs: number
  /** Share of the peers that an outage takes, and how long it lasts. */
  readonly outageShare: number
  readonly outageMs: number
  /** Share of the leases whose work is done and never arrives: the peer leaves, and is back for the next round. */
  readonly dropShare: number
}

export const noChurn: ChurnSettings = {
  sessionMs: Number.POSITIVE_INFINITY,
  absenceMs: 60_000,
  crashShare: 0.4,
  sleepShare: 0.2,
  outageEveryMs: Number.POSITIVE_INFINITY,
  outageShare: 0.25,
  outageMs: 30_000,
  dropShare: 0,
}

/** What one machine is like. */
export interface PeerTraits {
  readonly id: PeerId
  readonly name: string
  readonly stepsPerSecond: number
  readonly upBytesPerSecond: number
  readonly downBytesPerSecond: number
  readonly latencyMs: number
  readonly arrivesMs: number
  /** For whatever befalls it later. */
  readonly random: Random
}

/** How a session ends. */
export type Departure = 'leave' | 'crash' | 'sleep'

export function createPeers(settings: WorldSettings, seed: string): PeerTraits[] {
  return Array.from({ length: settings.peers }, (_, index) => {
    const random = seededRandom('simulate/peer', seed, index)
    const spread = (ratio: number): number => ratio ** (random.nextFloat() - 0.5)
    const key = new Uint8Array(32)
    const keyView = new DataView(key.buffer)
    for (let at = 0; at < 32; at += 4) keyView.setUint32(at, random.nextUint32())
    const link = spread(settings.linkSpread)
    return {
      id: peerIdOf(key),
      name: `peer ${index + 1}`,
      stepsPerSecond: (1000 / settings.stepMs) * spread(settings.speedSpread),
      upBytesPerSecond: settings.upBytesPerSecond * link,
      downBytesPerSecond: settings.downBytesPerSecond * link,
      latencyMs: settings.latencyMs * spread(4),
      arrivesMs: settings.arrivalMs * random.nextFloat(),
      random,
    }
  })
}

/** How long this session lasts and how it ends. */
export function drawSession(churn: ChurnSettings, random: Random): { afterMs: number; how: Departure } {
  const afterMs = exponential(churn.sessionMs, random)
  const kind = random.nextFloat()
  const how =
    kind < churn.crashShare ? 'crash' : kind < churn.crashShare + churn.sleepShare ? 'sleep' : 'leave'
  return { afterMs, how }
}

export function drawAbsenceMs(churn: ChurnSettings, random: Random): number {
  return exponential(churn.absenceMs, random)
}

/** A lease's time per step as a multiple of the machine's usual one, never below half of it. */
export function drawSlowness({ jitter }: WorldSettings, random: Random): number {
  return jitter === 0 ? 1 : Math.max(0.5, 1 + jitter * random.nextNormal())
}

/** Outages of the whole run, one after the other. */
export function* outages(
  { churn, peers }: WorldSettings,
  seed: string,
): Generator<{ readonly atMs: number; readonly peers: readonly number[] }> {
  const random = seededRandom('simulate/outages', seed)
  let atMs = 0
  const count = Math.max(1, Math.round(churn.outageShare * peers))
  while (Number.isFinite(churn.outageEveryMs)) {
    atMs += exponential(churn.outageEveryMs, random)
    const first = random.nextInt(peers)
    yield { atMs, peers: Array.from({ length: count }, (_, i) => (first + i) % peers) }
  }
}

function exponential(mean: number, random: Random): number {
  return Number.isFinite(mean) ? -mean * Math.log(1 - random.nextFloat()) : Number.POSITIVE_INFINITY
}
