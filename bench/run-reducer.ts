/**
 * What a run's state machine costs per member and round, for small and for large runs: the processor time of its events,
 * garbage collection included as far as it stops them, and the memory that its state holds. The sizes take turns, so
 * that a noisy moment falls on all of them, and each does the same number of member-rounds. The host's work around it (signatures, log, views) is not in the figures.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { cidOfDigest } from '../src/core/index.ts'
import { encodeEvent, type RunEvent } from '../src/run/events.ts'
import { createRun, step } from '../src/run/reducer.ts'
import type { RunState } from '../src/run/state.ts'
import { type PeerId, peerIdOf } from '../src/swarm/index.ts'
import { heldBytes } from '../test/held-bytes.ts'

const kinds = ['join', 'ready', 'open', 'contribute', 'close'] as const
type Kind = (typeof kinds)[number]

const pieceLength = 50
/** About as long as a signed one. */
const report = new Uint8Array(400)

interface Figures {
  readonly members: number
  /** Microseconds per member; joining and getting ready happen once, the others in each round. */
  readonly microseconds: Readonly<Record<Kind, number>>
  /** Of open, contribute and close together. */
  readonly roundMicroseconds: number
  /** Of the state after several rounds: three closed and one open. */
  readonly stateBytes: number
  /** That one contribution adds to the log. */
  readonly logBytes: number
}

export async function runReducerBench(args: readonly string[]): Promise<readonly Figures[]> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      members: { type: 'string', multiple: true, default: ['100', '1000', '10000'] },
      /** Member-rounds of each size and turn. */
      work: { type: 'string', default: '60000' },
      turns: { type: 'string', default: '3' },
      out: { type: 'string', default: 'bench-run-reducer.json' },
    },
  })
  const sizes = values.members.map(Number)
  const work = Number(values.work)
  const turns = new Map(sizes.map((size) => [size, [] as Figures[]]))
  for (let turn = -1; turn < Number(values.turns); turn++) {
    for (const size of turn % 2 === 0 ? sizes : sizes.toReversed()) {
      const figures = await measure(size, work)
      // the first turn is for the compiler
      if (turn >= 0) turns.get(size)!.push(figures)
    }
  }
  const results = sizes.map((size) => median(turns.get(size)!))
  print(results)
  writeFileSync(values.out, `${JSON.stringify({ work, turns: Number(values.turns), results }, null, 2)}\n`)
  process.stdout.write(`Written to ${values.out}.\n`)
  return results
}

/** Rounds of runs one after the other, until the work is done; each run begins with everybody joining. */
async function measure(members: number, work: number): Promise<Figures> {
  const rounds = 6
  const peers = Array.from({ length: members }, (_, i) => peerIdOf(digest(i)))
  const total: Record<Kind, number> = { join: 0, ready: 0, open: 0, contribute: 0, close: 0 }
  const timed = (kind: Kind, events: readonly RunEvent[]): void => {
    const start = process.threadCpuUsage()
    for (const event of events) {
      const next = step(state, event)
      if (next.refusal !== undefined) throw new Error(next.refusal.message)
      state = next.state
    }
    const { user, system } = process.threadCpuUsage(start)
    total[kind] += user + system
  }
  // as they come: no more events exist at a time than a host would have
  const inPieces = (kind: Kind, count: number, event: (i: number) => RunEvent): void => {
    for (let start = 0; start < count; start += pieceLength) {
      timed(
        kind,
        Array.from({ length: Math.min(pieceLength, count - start) }, (_, i) => event(start + i)),
      )
    }
  }
  const repeats = Math.max(1, Math.round(work / members / rounds))
  let state = begin(members)
  for (let repeat = 0; repeat < repeats; repeat++) {
    state = begin(members)
    inPieces('join', members, (i) => joined(peers[i]!))
    const ready = (i: number): RunEvent => ({ type: 'ready', atMs: 2, peer: peers[i]!, stepsPerSecond: 5 })
    inPieces('ready', members - 1, ready)
    // with the last who gets ready the first round opens
    timed('open', [ready(members - 1)])
    for (let round = 1; round <= rounds; round++) {
      const next = (i: number): RunEvent =>
        contribution(state, peers[i]!, (repeat * rounds + round) * members + i)
      inPieces('contribute', members - 1, next)
      timed('close', [next(members - 1)])
      timed('open', [checkpointed(state)])
    }
  }
  const logBytes = encodeEvent(contribution(begunWith(peers), peers[0]!, 0)).byteLength
  // as many states as hold 10,000 members, so that a small one does not drown in what else the heap does
  const states = Math.max(1, Math.round(10_000 / members))
  const stateBytes =
    (await retainedBytes(() => Array.from({ length: states }, () => rebuilt(peers, rounds)))) / states
  const per = (kind: Kind, times: number): number => total[kind] / (members * repeats * times)
  const microseconds = {
    join: per('join', 1),
    ready: per('ready', 1),
    open: per('open', rounds + 1),
    contribute: per('contribute', rounds),
    close: per('close', rounds),
  }
  return {
    members,
    microseconds,
    roundMicroseconds: microseconds.open + microseconds.contribute + microseconds.close,
    stateBytes: stateBytes / members,
    logBytes,
  }
}

function begin(members: number): RunState {
  return createRun({
    type: 'created',
    atMs: 0,
    runId: cidOfDigest(digest(0)),
    policy: {
      rounds: 1000,
      minimumPeers: members,
      maximumPeers: 10_000,
      warmupMs: 0,
      quorum: 0.67,
      graceMs: 86_400_000,
      maxRoundMs: 86_400_000,
      vanishAfterMs: 15_000,
      maximumStaleness: 1,
      maximumSpeedup: 4,
      rewarmSteps: 20,
      maximumStrikes: 3,
      expulsionRounds: 20,
      maximumNormFactor: 10,
    },
    innerSteps: 50,
    batchTokens: 8192,
    checkpoint: cidOfDigest(digest(1)),
    seed: 'bench',
  })
}

/** Every tenth peer stops half-way, so that batches come back. */
function contribution(state: RunState, peer: PeerId, n: number): RunEvent {
  const { round, steps } = state.members.get(peer)!.lease!
  return {
    type: 'contributed',
    atMs: state.nowMs + (n % 10),
    peer,
    round,
    update: cidOfDigest(digest(n), 'dag-cbor'),
    steps: n % 10 === 0 ? Math.ceil(steps / 2) : steps,
    loss: 2.5,
    bytes: 1_000_000,
    norm: 1 + (n % 7),
    report,
  }
}

function joined(peer: PeerId): RunEvent {
  return { type: 'joined', atMs: 1, peer, name: 'a peer', addresses: ['/ip4/10.1.2.3/tcp/4001'] }
}

function checkpointed({ nowMs, round }: RunState): RunEvent {
  return { type: 'checkpointed', atMs: nowMs, round, checkpoint: cidOfDigest(digest(round)) }
}

/** With the first round open. */
function begunWith(peers: readonly PeerId[]): RunState {
  let state = begin(peers.length)
  for (const peer of peers) state = step(state, joined(peer)).state
  for (const peer of peers) state = step(state, { type: 'ready', atMs: 2, peer, stepsPerSecond: 5 }).state
  return state
}

/** A state that shares nothing but the names of its peers with what is there already. */
function rebuilt(peers: readonly PeerId[], rounds: number): RunState {
  let state = begunWith(peers)
  for (let round = 1; round <= rounds; round++) {
    for (const [i, peer] of peers.entries()) {
      state = step(state, contribution(state, peer, round * peers.length + i)).state
    }
    state = step(state, checkpointed(state)).state
  }
  return state
}

function digest(n: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(32).fill(7)
  new DataView(bytes.buffer).setUint32(0, n)
  return bytes
}

async function retainedBytes(make: () => unknown): Promise<number> {
  const before = await heldBytes()
  const made = make()
  const after = await heldBytes()
  return made === undefined ? 0 : after - before
}

function median(turns: readonly Figures[]): Figures {
  const of = (value: (figures: Figures) => number): number => {
    const sorted = turns.map(value).sort((a, b) => a - b)
    return sorted[sorted.length >> 1]!
  }
  return {
    members: turns[0]!.members,
    microseconds: Object.fromEntries(
      kinds.map((kind) => [kind, of(({ microseconds }) => microseconds[kind])]),
    ) as Record<Kind, number>,
    roundMicroseconds: of(({ roundMicroseconds }) => roundMicroseconds),
    stateBytes: of(({ stateBytes }) => stateBytes),
    logBytes: of(({ logBytes }) => logBytes),
  }
}

function print(results: readonly Figures[]): void {
  const columns = ['members', ...kinds.map((kind) => `${kind} µs`), 'round µs', 'state bytes', 'log bytes']
  const rows = [
    columns,
    columns.map(() => '---:'),
    ...results.map((each) => [
      `${each.members}`,
      ...kinds.map((kind) => each.microseconds[kind].toFixed(2)),
      each.roundMicroseconds.toFixed(2),
      each.stateBytes.toFixed(0),
      each.logBytes.toFixed(0),
    ]),
  ]
  process.stdout.write(
    `Per member; open, contribute, close and log bytes: per member and round\n${rows
      .map((row) => `| ${row.join(' | ')} |`)
      .join('\n')}\n` +
      `Largest against smallest: time of a round ${flatness(results, (each) => each.roundMicroseconds)}, state ${flatness(results, (each) => each.stateBytes)} (target 1.5 each).\n`,
  )
}

/** The largest of the values against the smallest. */
export function flatness<Result>(results: readonly Result[], of: (result: Result) => number): string {
  const values = results.map(of)
  return (Math.max(...values) / Math.min(...values)).toFixed(2)
}
