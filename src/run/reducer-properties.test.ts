import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeEvent, encodeEvent, type RunEvent } from './events.ts'
import { countBatches } from './leases.ts'
import { memoryLog } from './log.ts'
import { isOutstanding } from './membership.ts'
import { stateHash } from './queries.ts'
import { eventfulPolicy, eventOf, type Move, moverPeers, moves } from './random-histories.ts'
import { createRun, pendingEffects, step } from './reducer.ts'
import { replay } from './replay.ts'
import {
  type Accepted,
  type BatchRange,
  isPresent,
  type Phase,
  type RunState,
  reducerLimits,
} from './state.ts'
import { ada, ben, cid, cleo, created, Story, storyPolicy } from './story.ts'

/** Every move that can happen, with the states around it and all that was accepted so far. */
interface Happened {
  readonly event: RunEvent
  readonly before: RunState
  readonly after: RunState
  readonly accepted: readonly Accepted[]
}

/** Plays the moves and looks at each that happens; those refused must change nothing. */
function play(story: Story, played: readonly Move[], look: (happened: Happened) => void = () => {}): Story {
  const accepted: Accepted[] = []
  for (const move of played) {
    const before = story.state
    const event = eventOf(before, move)
    const { refusal, state, effects } = story.try(event)
    if (refusal !== undefined) {
      expect(state).toBe(before)
      expect(effects).toEqual([])
      expect(refusal.code).toMatch(/^[a-z]+\/[a-z-]+$/)
      expect(refusal.message).toMatch(/\.$/)
      continue
    }
    if (event.type === 'contributed') accepted.push(acceptedIn(state, event.update)[0]!)
    look({ event, before, after: state, accepted })
  }
  return story
}

function acceptedIn({ open, closed }: RunState, update: string): Accepted[] {
  const all = [...closed.flatMap((each) => each.accepted), ...(open?.contributions.values() ?? [])]
  return all.filter((each) => each.update === update)
}

const eventful = (): Story => new Story(eventfulPolicy)

/** What one event may make of a phase, with all that follows from it at once. */
const edges: Record<Phase, readonly Phase[]> = {
  waiting: ['waiting', 'warmingUp', 'training', 'paused', 'finished'],
  warmingUp: ['warmingUp', 'waiting', 'training', 'paused', 'finished'],
  training: ['training', 'closing', 'coolingDown', 'waiting', 'paused', 'finished'],
  closing: ['closing', 'coolingDown'],
  coolingDown: ['coolingDown', 'waiting', 'warmingUp', 'training', 'paused', 'finished'],
  paused: ['paused', 'waiting', 'warmingUp', 'training', 'finished'],
  finished: ['finished'],
}

describe('whatever happens in whatever order', () => {
  test('each batch number is leased, accepted or free, and never two of them', () => {
    let contributions = 0
    fc.assert(
      fc.property(moves(50, 250), (played) => {
        play(eventful(), played, ({ after, accepted }) => {
          const { next, pool, returned, skipped } = after.batches
          const leases = [...after.members.values()].flatMap(({ lease }) => lease ?? [])
          for (const { steps, ranges } of leases) {
            expect(countBatches(ranges)).toBe(steps)
            expect(ranges.length).toBeLessThanOrEqual(reducerLimits.maxLeaseRanges)
          }
          const ranges: BatchRange[] = [
            ...[...leases, ...accepted].flatMap((each) => each.ranges),
            ...pool,
            ...returned,
          ]
          let end = 0
          for (const range of ranges.sort((a, b) => a.start - b.start)) {
            expect(range.start).toBe(end)
            expect(range.end).toBeGreaterThan(range.start)
            end = range.end
          }
          expect(end).toBe(next)
          expect(skipped).toBe(0)
          contributions = Math.max(contributions, accepted.length)
        })
      }),
      { numRuns: 100 },
    )
    expect(contributions).toBeGreaterThan(20)
  })

  test('what was accepted counts in exactly one round, with the weight that it was accepted with', () => {
    fc.assert(
      fc.property(moves(50, 250), (played) => {
        const merged: Accepted[] = []
        const { state } = play(eventful(), played, ({ before, after, accepted }) => {
          if (after.phase === 'coolingDown' && before.phase !== 'coolingDown') {
            merged.push(...after.closed.at(-1)!.accepted)
            expect(after.closed.at(-1)!.accepted.length).toBeGreaterThan(0)
          }
          const open = [...(after.open?.contributions.values() ?? [])]
          const byUpdate = (a: Accepted, b: Accepted): number => (a.update < b.update ? -1 : 1)
          // An update that left the kept rounds may come again: then it counts again, for other batches.
          expect([...merged, ...open].sort(byUpdate)).toEqual(accepted.toSorted(byUpdate))
          for (const { steps, tokens, weight } of open) {
            expect(tokens).toBe(steps * after.batchTokens)
            expect(weight).toBeGreaterThan(0)
          }
        })
        expect(state.totals.contributions).toBe(merged.length + (state.open?.contributions.size ?? 0))
      }),
      { numRuns: 60 },
    )
  })

  test('what is counted along is what counting afresh gives', () => {
    fc.assert(
      fc.property(moves(50, 250), (played) => {
        play(eventful(), played, ({ before, after, accepted }) => {
          expect(after.version).toBe(before.version + 1)
          expect(after.nowMs).toBeGreaterThanOrEqual(before.nowMs)
          const { members, open, counts, closed, totals } = after
          const all = [...members.values()]
          const of = (status: string): number => all.filter((member) => member.status === status).length
          const present = all.filter(isPresent).length
          expect(counts).toEqual({ present, ready: of('ready'), joining: of('joining') })
          for (const member of all) {
            if (member.status === 'active') expect(member.lease).not.toBeNull()
            else if (member.status !== 'vanished') expect(member.lease).toBeNull()
          }
          if (open !== null) {
            expect(open.outstanding).toBe(all.filter((member) => isOutstanding(member, open)).length)
            const inTime = [...open.contributions.values()].filter(
              ({ leaseRound }) => leaseRound === open.round,
            )
            expect(open.inTime).toBe(inTime.length)
          }
          expect(totals).toEqual({
            contributions: accepted.length,
            tokens: accepted.reduce((sum, { tokens }) => sum + tokens, 0),
            bytes: accepted.reduce((sum, { bytes }) => sum + bytes, 0),
          })
          const updatesOf = (counted: Iterable<Accepted>) => [...counted].map(({ update }) => update).sort()
          expect([...after.updates.open].sort()).toEqual(updatesOf(open?.contributions.values() ?? []))
          expect(after.updates.closed.map((each) => [...each].sort())).toEqual(
            closed.map((each) => updatesOf(each.accepted)),
          )
        })
      }),
      { numRuns: 60 },
    )
  })

  test('phases only move along their edges, and nothing is left to do in a state', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(moves(50, 250), (played) => {
        play(eventful(), played, ({ before, after }) => {
          const { phase, open, closed } = after
          seen.add(`${before.phase} → ${phase}`)
          expect(edges[before.phase]).toContain(phase)
          expect(open !== null).toBe(phase === 'training' || phase === 'closing')
          expect(after.warmupDeadlineMs !== null).toBe(phase === 'warmingUp')
          expect(pendingEffects(after).some(({ type }) => type === 'merge')).toBe(phase === 'coolingDown')
          expect(after.checkpoint.round).toBeGreaterThanOrEqual(before.checkpoint.round)
          expect(closed.map(({ round }) => round)).toEqual(closed.map((_, i) => closed[0]!.round + i))
          expect(closed.length).toBeLessThanOrEqual(reducerLimits.keptRounds)
          if (after.counts.present === 0) expect(after.cold).toBe(true)
          // Nobody who could train waits for others without end.
          if (after.counts.ready > 0 && open !== null) {
            expect(pendingEffects(after).some(({ type }) => type === 'wake')).toBe(true)
          }
          const nothing = step(after, { type: 'hosted', atMs: 0, session: '', wallMs: 0 })
          expect(nothing.state).toEqual({ ...after, version: after.version + 1 })
        })
      }),
      { numRuns: 100 },
    )
    expect(seen.size).toBeGreaterThan(15)
  })

  test('a replay of the log gives the same state', async () => {
    await fc.assert(
      fc.asyncProperty(moves(50, 200), async (played) => {
        const story = play(eventful(), played)
        const log = memoryLog()
        for (const [i, event] of story.events.entries()) await log.append(encodeEvent(event), { expect: i })
        const visited: RunEvent[] = []
        let last: RunState | null = null
        const state = await replay(log, ({ event, before, after }) => {
          expect(before).toBe(last)
          last = after
          visited.push(event)
        })
        expect(stateHash(state)).toBe(stateHash(story.state))
        expect(last).toBe(state)
        expect(visited).toHaveLength(story.events.length)
      }),
      { numRuns: 30 },
    )
  })

  test('a state that somebody holds never changes', () => {
    fc.assert(
      fc.property(moves(50, 120), (played) => {
        const story = eventful()
        freezeDeep(story.state)
        play(story, played, ({ after }) => freezeDeep(after))
      }),
      { numRuns: 30 },
    )
  })

  test('the run goes on to its end as soon as peers work on it again', () => {
    fc.assert(
      fc.property(moves(0, 150), (played) => {
        const story = play(eventful(), played)
        const { pauseRequested, phase } = story.state
        if (pauseRequested && phase !== 'finished') story.next({ type: 'resumed', atMs: 0 })
        let update = 70_000
        for (let turns = 0; story.state.phase !== 'finished'; turns++) {
          expect(turns).toBeLessThan(12 * (1 + story.state.lastRound))
          const { state } = story
          const working = moverPeers.find((peer) => state.members.get(peer)?.status === 'active')
          const joining = moverPeers.find((peer) => state.members.get(peer)?.status === 'joining')
          const gone = moverPeers.find((peer) => canJoin(state, peer))
          if (state.phase === 'coolingDown') story.merge()
          else if (working !== undefined && state.open !== null) {
            story.next(story.contributed(working, { update: cid(update++) }))
          } else if (joining !== undefined) story.ready(joining)
          else story.come(gone!)
        }
      }),
      { numRuns: 100 },
    )
  })
})

function canJoin(state: RunState, peer: (typeof moverPeers)[number]): boolean {
  const member = state.members.get(peer)
  return member === undefined || !(isPresent(member) || state.round < member.expelledUntil)
}

/** Everything that can be reached, the insides of persistent maps included. */
function freezeDeep(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value) || ArrayBuffer.isView(value))
    return
  Object.freeze(value)
  for (const each of Object.values(value)) freezeDeep(each)
}

describe('the seed of a round', () => {
  interface Work {
    readonly update: number
    readonly steps: number
    readonly loss: number
    readonly norm: number
    readonly atMs: number
  }
  const work: fc.Arbitrary<Work> = fc.record({
    update: fc.integer({ min: 0, max: 3 }),
    steps: fc.integer({ min: 1, max: 3 }),
    loss: fc.double({ noNaN: true, noDefaultInfinity: true }),
    norm: fc.nat(),
    atMs: fc.nat(500),
  })
  /** What three peers commit, null for nothing, and in which order. */
  const commitment = fc.record({
    works: fc.tuple(work, fc.option(work), fc.option(work)),
    order: fc.shuffledSubarray([0, 1, 2], { minLength: 3 }),
  })
  type Commitment = typeof commitment extends fc.Arbitrary<infer Value> ? Value : never

  const close = ({ works, order }: Commitment): RunState => {
    const story = new Story({ minimumPeers: 3, quorum: 1 }).join(ada, ben, cleo)
    for (const i of order) {
      const each = works[i]
      const peer = [ada, ben, cleo][i]!
      if (!each) story.vanish(peer)
      else story.next(story.contributed(peer, { ...each, update: cid(1000 + 10 * i + each.update) }))
    }
    return story.state
  }
  const committed = ({ works }: Commitment): string =>
    JSON.stringify(works.map((each) => (each ? [each.update, each.steps] : null)))

  test('is settled by who contributed which update with which weight, and by nothing else', () => {
    fc.assert(
      fc.property(commitment, commitment, (a, b) => {
        const [one, other] = [close(a), close(b)]
        expect(one.seed === other.seed).toBe(committed(a) === committed(b))
        expect(one.closed[0]!.seed).toBe(one.seed)
      }),
      { numRuns: 100 },
    )
    // The same work, told in another order and with other words.
    fc.assert(
      fc.property(commitment, commitment, ({ works, order }, other) => {
        const words = works.map((each, i) => {
          const said = other.works[i] ?? other.works[0]
          return each && { ...said, update: each.update, steps: each.steps }
        }) as Commitment['works']
        expect(close({ works: words, order: other.order }).seed).toBe(close({ works, order }).seed)
      }),
      { numRuns: 50 },
    )
  })

  test('the last peer can only choose between sending its update, none, or another one', () => {
    const before = new Story({ quorum: 1 }).join(ada, ben).contribute(ada)
    const seeds = new Set<string>()
    for (const change of [
      {},
      { loss: 9 },
      { norm: 5 },
      { bytes: 7 },
      { atMs: 777 },
      { report: new Uint8Array(9) },
    ]) {
      seeds.add(step(before.state, before.contributed(ben, { update: cid(77), ...change })).state.seed)
    }
    expect(seeds.size).toBe(1)
    seeds.add(step(before.state, { type: 'vanished', atMs: 1, peer: ben }).state.seed)
    seeds.add(step(before.state, before.contributed(ben, { update: cid(78) })).state.seed)
    expect(seeds.size).toBe(3)
  })

  test('hangs on all rounds before it', () => {
    const runs = [77, 78].map((update) => {
      const story = new Story({ quorum: 1 }).join(ada, ben)
      const first = story.contributed(ada, { update: cid(update) })
      const [second, third, fourth] = [90, 91, 92].map(cid)
      story
        .next(first)
        .next(story.contributed(ben, { update: second! }))
        .merge(cid(3))
      story.next(story.contributed(ada, { update: third!, steps: 1 }))
      return story.next(story.contributed(ben, { update: fourth!, steps: 1 })).state
    })
    expect(runs[0]!.seed).not.toBe(runs[1]!.seed)
  })
})

/** One of each event, and of most rules. */
function everything(): Story {
  const story = new Story({ rounds: 9, minimumPeers: 3, maximumPeers: 9 })
  story.next({ type: 'hosted', atMs: 1, session: 'first', wallMs: 1_700_000_000_000 })
  story.come(ada).ready(ada, 1.5).come(ben).ready(ben, 0.1).join(cleo)
  story.at(2001).contribute(ada).at(5000).contribute(cleo).at(7000).tick().merge()
  story.next({ type: 'disagreed', atMs: 7001, peer: ada, round: 1, checkpoint: cid(5) })
  story
    .at(8000)
    .reject(ada)
    .contribute(ben)
    .next(story.contributed(cleo, { steps: 3 }))
  story.next({ type: 'paused', atMs: 9001 }).merge().vanish(cleo)
  story.next({ type: 'policyChanged', atMs: 9100, policy: { ...storyPolicy, rounds: 7 } })
  story.next({ type: 'resumed', atMs: 9200 }).leave(ben).at(9300).contribute(ada)
  return story.next({ type: 'ending', atMs: 9301 })
}

describe('the format', () => {
  test('of the state is this one: its hash after a known history', () => {
    expect(stateHash(everything().state)).toMatchInlineSnapshot(
      `"9750911aa07209740d27dbaa6b1553312c9277ae84640422731d6014fabac583"`,
    )
  })

  test('of the events is this one: the hash of a known history', () => {
    const { events } = everything()
    expect(new Set(events.map(({ type }) => type)).size).toBe(15)
    const hash = createHash('sha256')
    for (const event of events) hash.update(encodeEvent(event))
    expect(hash.digest('hex')).toMatchInlineSnapshot(
      `"1e9bb066af2653d57f76e2747266985af6785a0da9d900e815b08fdab75fa354"`,
    )
  })

  test('survives encoding: every event comes back as it was', () => {
    for (const [i, event] of everything().events.entries())
      expect(decodeEvent(encodeEvent(event), i)).toEqual(event)
  })

  test('events that are damaged are refused with their position', () => {
    const bytes = encodeEvent(created)
    for (const wrong of [
      bytes.subarray(1),
      encodeEvent({ ...created, type: 'ready' } as never),
      encodeEvent({ ...created, policy: { ...storyPolicy, minimumPeers: 6 } }),
      new Uint8Array(0),
    ]) {
      expect(() => decodeEvent(wrong, 41)).toThrow(/Entry 41/)
    }
  })

  test('a log that begins with something else, or goes on with what cannot be, is damaged', async () => {
    const join = { type: 'joined', atMs: 1, peer: ada, name: '', addresses: [] } as const
    for (const [events, message] of [
      [[], /is empty/],
      [[join], /Entry 0/],
      [[created, join, join], /Entry 2/],
    ] as const) {
      const log = memoryLog()
      for (const [i, event] of events.entries()) await log.append(encodeEvent(event), { expect: i })
      await expect(replay(log)).rejects.toThrow(message)
    }
    expect(createRun(created).version).toBe(1)
  })
})
