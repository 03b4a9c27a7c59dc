/**
 * How much of its time a peer computes when it and its fellows take turns: H inner steps, then encoding, sending,
 * fetching the others' updates, merging. Updates are decoded as they come, while others are on the line (run/replica.ts).
 * Where a method lets inner steps overlap, they run on the card while the peer fetches, decodes and merges; they begin
 * when the host has the peer's update (run/trainer-peer.ts), so that encoding and sending never overlap with anything. A peer
 * that joins first fetches the state, which costs it a part of its session.
 */

/** One core's seconds per parameter, as measured. */
export interface ExchangeCost {
  readonly bitsPerParameter: number
  readonly encode: number
  /** Checking and decoding one update. */
  readonly decode: number
  /** Adding one up. */
  readonly add: number
  /** The outer step, whatever the number of updates. */
  readonly outerStep: number
  /** Of the state that a joiner fetches. */
  readonly stateBytesPerParameter: number
}

export interface PeerSettings {
  readonly parameters: number
  readonly stepSeconds: number
  /** Steps between two exchanges; 1 for methods that exchange at each. */
  readonly innerSteps: number
  /** Steps that are computed while the others' updates are fetched and merged (τ). */
  readonly overlapSteps: number
  /** All of them, this one included. */
  readonly peers: number
  readonly upBitsPerSecond: number
  readonly downBitsPerSecond: number
  /** How long a peer stays, on average. */
  readonly sessionSeconds: number
}

export interface Utilisation {
  readonly computeSeconds: number
  readonly upSeconds: number
  readonly downSeconds: number
  /** Encoding, decoding and merging. */
  readonly codecSeconds: number
  /** computing / (computing + everything else), without joining. */
  readonly steady: number
  /** The same as if codecs took no time: what the lines alone cost. */
  readonly linesAlone: number
  /** What a joiner needs before its first step: the state, and the merges that it missed meanwhile. */
  readonly catchUpSeconds: number
  /** The same over a whole session, joining included. */
  readonly overall: number
}

export function utilisationOf(cost: ExchangeCost, peer: PeerSettings): Utilisation {
  const { parameters, innerSteps, peers, overlapSteps, stepSeconds } = peer
  const updateBits = cost.bitsPerParameter * parameters
  const others = peers - 1
  const computeSeconds = innerSteps * stepSeconds
  const upSeconds = updateBits / peer.upBitsPerSecond
  const downSeconds = (others * updateBits) / peer.downBitsPerSecond
  const decodeSeconds = others * parameters * cost.decode
  const mergeSeconds = parameters * (peers * cost.add + cost.outerStep) + decodeSeconds
  const codecSeconds = parameters * cost.encode + mergeSeconds
  // All but the last one, as far as the lines take as long.
  const decodedMeanwhile = Math.min(downSeconds, (decodeSeconds * (others - 1)) / Math.max(1, others))
  const followSeconds = downSeconds + mergeSeconds - decodedMeanwhile
  const overlapSeconds = overlapSteps * stepSeconds
  const lost = upSeconds + parameters * cost.encode + Math.max(0, followSeconds - overlapSeconds)
  const lostOnLines = upSeconds + Math.max(0, downSeconds - overlapSeconds)
  const steady = computeSeconds / (computeSeconds + lost)
  const linesAlone = computeSeconds / (computeSeconds + lostOnLines)
  const roundSeconds = computeSeconds + lost
  const stateSeconds = (8 * cost.stateBytesPerParameter * parameters) / peer.downBitsPerSecond
  const catchUpSeconds = catchUp(stateSeconds, roundSeconds, followSeconds)
  const overall = steady * Math.max(0, 1 - catchUpSeconds / peer.sessionSeconds)
  return { computeSeconds, upSeconds, downSeconds, codecSeconds, steady, linesAlone, catchUpSeconds, overall }
}

/**
 * While the joiner fetches the state of one round, others close; it fetches and merges those, while others close…:
 * a geometric series. Infinite where a merge takes as long as a round.
 */
export function catchUp(stateSeconds: number, roundSeconds: number, mergeSeconds: number): number {
  const ratio = mergeSeconds / roundSeconds
  return ratio >= 1 ? Number.POSITIVE_INFINITY : stateSeconds / (1 - ratio)
}

/** The fewest inner steps with which `overall` reaches a target; undefined where none does. */
export function innerStepsFor(target: number, cost: ExchangeCost, peer: PeerSettings): number | undefined {
  const reaches = (innerSteps: number): boolean =>
    utilisationOf(cost, { ...peer, innerSteps }).overall >= target
  let most = 1
  while (!reaches(most)) {
    most *= 2
    if (most > 1_000_000) return undefined
  }
  let least = most / 2
  while (most - least > 1) {
    const middle = Math.floor((least + most) / 2)
    if (reaches(middle)) most = middle
    else least = middle
  }
  return most
}

/** Seconds of one inner step: 6 operations per parameter and token. */
export function stepSeconds(parameters: number, tokens: number, flopsPerSecond: number): number {
  return (6 * parameters * tokens) / flopsPerSecond
}

/** Published: computing and communicating of one round, in seconds, and the share of computing as it was stated. */
export interface PublishedRow {
  readonly run: string
  readonly computeSeconds: number
  readonly communicateSeconds: number
  readonly stated: number
}

/** https://arxiv.org/abs/2412.01152 (table 2) and https://arxiv.org/abs/2603.08163. */
export const published: readonly PublishedRow[] = [
  { run: 'INTELLECT-1, 10B, USA', computeSeconds: 2280, communicateSeconds: 103, stated: 0.957 },
  { run: 'INTELLECT-1, 10B, USA and Europe', computeSeconds: 2280, communicateSeconds: 382, stated: 0.856 },
  { run: 'INTELLECT-1, 10B, global', computeSeconds: 2280, communicateSeconds: 469, stated: 0.83 },
  { run: 'Covenant-72B', computeSeconds: 1200, communicateSeconds: 70, stated: 0.945 },
]

export function recomputed({ computeSeconds, communicateSeconds }: PublishedRow): number {
  return computeSeconds / (computeSeconds + communicateSeconds)
}

/** Whether Covenant's 70 s are possible at the caps that it states, were they each peer's. */
export function covenantAtItsCaps(): {
  readonly updateBytes: number
  readonly upSeconds: number
  readonly downSeconds: number
  readonly share: number
} {
  // 64 of 4096 values, with 12 bits for the place and 2 for the value; 72.7e9 parameters; 20 peers; 110 and 500 Mb/s.
  const updateBytes = (72.7e9 * 64 * (12 + 2)) / 4096 / 8
  const upSeconds = (8 * updateBytes) / 110e6
  const downSeconds = (20 * 8 * updateBytes) / 500e6
  return { updateBytes, upSeconds, downSeconds, share: 1200 / (1200 + upSeconds + downSeconds) }
}
