import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Cid, cidOfDigest } from '../core/index.ts'
import { type PeerId, peerIdOf } from '../swarm/index.ts'
import { decodeEvent, encodeEvent, type RoundPolicy, type RunEvent } from './events.ts'
import {
  createRun,
  type Effect,
  isPresent,
  outstandingPeers,
  peersOf,
  pendingEffects,
  type RunState,
  type Step,
  stateHash,
  step,
} from './reducer.ts'

const cid = (n: number): Cid => cidOfDigest(new Uint8Array(32).fill(n & 0xff).with(0, n >> 8), 'dag-cbor')
const peers = Array.from({ length: 6 }, (_, i) => peerIdOf(new Uint8Array(32).fill(i + 1)))
const [ada, ben, cleo] = peers as [PeerId, PeerId, PeerId]

const policy: RoundPolicy = {
  rounds: 3,
  minimumPeers: 2,
  maximumPeers: 5,
  quorum: 0.5,
  graceMs: 1000,
  maxRoundMs: 60_000,
  vanishAfterMs: 5000,
}

const created = { type: 'created', atMs: 0, runId: cid(1), policy, checkpoint: cid(2), seed: 'dice' } as const

/** What one thing after another makes of a run; every step must be legal. */
class Story {
  state: RunState
  events: RunEvent[] = [created]
  effects: Effect[] = []
  private updates = 100

  constructor(changes: Partial<RoundPolicy> = {}) {
    this.events = [{ ...created, policy: { ...policy, ...changes } }]
    this.state = createRun(this.events[0] as typeof created)
  }

  try(event: RunEvent): Step {
    const result = step(this.state, event)
    if (result.refusal === undefined) {
      this.state = result.state
      this.events.push(event)
      this.effects = [...result.effects]
    }
    return result
  }

  next(event: RunEvent): this {
    expect(this.try(event).refusal).toBeUndefined()
    return this
  }

  join(...who: PeerId[]): this {
    for (const peer of who) {
      this.next({ type: 'joined', atMs: 1, peer, name: '', addresses: [] }).next({
        type: 'ready',
        atMs: 1,
        peer,
      })
    }
    return this
  }

  contributed(peer: PeerId, at: { atMs?: number; round?: number; update?: Cid } = {}): RunEvent {
    const { atMs = 2, round = this.state.round, update = cid(this.updates++) } = at
    return { type: 'contributed', atMs, peer, round, update, tokens: 10, loss: 2, report: new Uint8Array(1) }
  }

  contribute(peer: PeerId, atMs = 2): this {
    return this.next(this.contributed(peer, { atMs }))
  }

  merge(checkpoint = cid(1000 + this.state.round)): this {
    return this.next({ type: 'checkpointed', atMs: 3, round: this.state.round, checkpoint })
  }
}

describe('a run', () => {
  test('waits for its peers, trains its rounds, and finishes', () => {
    const story = new Story()
    expect(story.state.phase).toBe('waiting')
    story.join(ada)
    expect(story.state.phase).toBe('waiting')
    story.join(ben)
    expect(story.state).toMatchObject({ phase: 'training', round: 1, open: { replicas: 2 } })
    for (const round of [1, 2, 3]) {
      expect(story.state).toMatchObject({ phase: 'training', round })
      story.contribute(ben)
      expect(story.state.phase).toBe('grace')
      story.contribute(ada)
      expect(story.state.phase).toBe('merging')
      expect(story.effects).toContainEqual(expect.objectContaining({ type: 'merge', round }))
      story.merge()
      expect(story.state.checkpoint).toEqual({ round, checkpoint: cid(1000 + round) })
    }
    expect(story.state.phase).toBe('finished')
    expect(story.effects).toContainEqual({ type: 'finish' })
    expect(story.state.members[ada]).toMatchObject({ contributions: 3, tokens: 30, lastRound: 3 })
  })

  test('merges what was accepted in the order of peer ids, not of arrival', () => {
    const story = new Story({ quorum: 1 }).join(ada, ben, cleo)
    // The third joined after the first round opened.
    story.contribute(ben).contribute(ada).merge().contribute(cleo).contribute(ada).contribute(ben)
    const accepted = story.state.closed.at(-1)!.accepted.map(({ peer }) => peer)
    expect(accepted).toEqual([ada, ben, cleo].sort())
  })

  test('takes in newcomers at the next round, each with a share of its own', () => {
    const story = new Story().join(ada, ben)
    const before = story.state.open!.assignments
    story.join(cleo)
    expect(story.state.open!.assignments).toEqual(before)
    story.contribute(ada).contribute(ben).merge()
    expect(story.state.open).toMatchObject({ replicas: 3, assignments: { ...before, [cleo]: 2 } })
  })

  test('gives whoever stays the same share again', () => {
    const story = new Story().join(ada, ben).join(cleo)
    story.contribute(ada).contribute(ben).merge()
    story.next({ type: 'vanished', atMs: 5, peer: ada })
    story.contribute(ben).contribute(cleo).merge()
    expect(story.state.open!.assignments).toEqual({ [ben]: 1, [cleo]: 0 })
  })

  test('closes a round after the grace when the quorum is in and somebody is slow', () => {
    const story = new Story().join(ada, ben).contribute(ada, 100)
    expect(story.effects).toEqual([{ type: 'wake', atMs: 1100 }])
    expect(story.try({ type: 'ticked', atMs: 1099 }).refusal?.code).toBe('round/not-due')
    story.next({ type: 'ticked', atMs: 1100 })
    expect(story.state).toMatchObject({ phase: 'merging', closed: [{ accepted: [{ peer: ada }] }] })
    expect(story.try(story.contributed(ben, { round: 1 })).refusal?.code).toBe('round/closed')
  })

  test('does not wait for peers that went away, and keeps what they had contributed', () => {
    const story = new Story({ quorum: 1 }).join(ada, ben).contribute(ada)
    story.next({ type: 'vanished', atMs: 4, peer: ada }).next({ type: 'left', atMs: 5, peer: ben })
    expect(story.state).toMatchObject({ phase: 'merging', closed: [{ accepted: [{ peer: ada }] }] })
    expect(story.state.members[ada]).toMatchObject({ status: 'vanished', contributions: 1 })
  })

  test('closes with what it has when a round takes longer than the policy allows', () => {
    const story = new Story({ quorum: 1, maxRoundMs: 5000 }).join(ada, ben).contribute(ada, 100)
    expect(story.effects).toEqual([{ type: 'wake', atMs: 5001 }])
    story.next({ type: 'ticked', atMs: 5001 })
    expect(story.state.phase).toBe('merging')
  })

  test('waits when all have gone, and goes on with the same round when one comes', () => {
    const story = new Story().join(ada, ben).contribute(ada).contribute(ben).merge()
    story.next({ type: 'vanished', atMs: 4, peer: ada }).next({ type: 'vanished', atMs: 4, peer: ben })
    expect(story.state).toMatchObject({ phase: 'waiting', round: 2, open: null })
    story.join(cleo)
    expect(story.state).toMatchObject({ phase: 'training', round: 2, open: { assignments: { [cleo]: 0 } } })
  })

  test('lets a peer that comes back while its round is open keep its share', () => {
    const story = new Story().join(ada, ben).next({ type: 'vanished', atMs: 4, peer: ada })
    story.next({ type: 'joined', atMs: 5, peer: ada, name: '', addresses: [] })
    expect(story.state.members[ada]!.status).toBe('active')
    story.contribute(ada)
  })

  test('ends with the round that is open when its owner says so', () => {
    const story = new Story().join(ada, ben).next({ type: 'ending', atMs: 4 })
    expect(story.state.phase).toBe('training')
    story.contribute(ada).contribute(ben).merge()
    expect(story.state).toMatchObject({ phase: 'finished', checkpoint: { round: 1 } })
    expect(new Story().next({ type: 'ending', atMs: 4 }).state.phase).toBe('finished')
  })

  test('a clock that is set back delays nothing; one that is set forward only shortens the grace', () => {
    const back = new Story({ maxRoundMs: 600_000_000 }).join(ada, ben).contribute(ada, 10_000_000)
    back.next({ type: 'joined', atMs: 6_400_000, peer: cleo, name: '', addresses: [] })
    expect(back.effects).toEqual([{ type: 'wake', atMs: 6_401_000 }])
    back.next({ type: 'ticked', atMs: 6_401_000 })
    const forward = new Story().join(ada, ben).contribute(ada, 100).next({ type: 'ticked', atMs: 3_600_000 })
    expect(forward.state.phase).toBe('merging')
  })

  test('names the artifacts that nobody can ask for any more', () => {
    const story = new Story({ rounds: 6 }).join(ada, ben)
    const dropped: Cid[] = []
    const all: Cid[] = []
    for (let round = 1; round <= 6; round++) {
      for (const peer of [ada, ben]) {
        story.contribute(peer)
        dropped.push(...story.effects.flatMap((effect) => (effect.type === 'drop' ? effect.artifacts : [])))
      }
      all.push(...story.state.closed.at(-1)!.accepted.map(({ update }) => update), cid(1000 + round))
      story.merge()
      dropped.push(...story.effects.flatMap((effect) => (effect.type === 'drop' ? effect.artifacts : [])))
    }
    const kept = [cid(1005), cid(1006), ...story.state.closed.flatMap((c) => c.accepted.map((a) => a.update))]
    expect(kept).toHaveLength(2 + 3 * 2)
    expect(dropped.sort()).toEqual([cid(2), ...all].filter((each) => !kept.includes(each)).sort())
  })
})

describe('checkpoints', () => {
  const afterRound = (): Story => new Story().join(ada, ben).contribute(ada).contribute(ben)

  test('of the host elect; who has another one is known, whether it said so before or after', () => {
    const story = afterRound().next({ type: 'applied', atMs: 3, peer: ada, round: 1, checkpoint: cid(7) })
    expect(story.state.members[ada]!.disagreements).toBe(0)
    story.merge(cid(8))
    expect(story.state.members[ada]!.disagreements).toBe(1)
    story.next({ type: 'applied', atMs: 3, peer: ben, round: 1, checkpoint: cid(9) })
    expect(story.state.members[ben]!.disagreements).toBe(1)
    story.next({ type: 'applied', atMs: 3, peer: ben, round: 1, checkpoint: cid(8) })
    expect(story.state.members[ben]).toMatchObject({
      disagreements: 1,
      applied: { round: 1, checkpoint: cid(8) },
    })
  })

  test('of rounds that are open or past cannot be reported', () => {
    const story = afterRound().merge()
    const report = (round: number, checkpoint: Cid) =>
      story.try({ type: 'applied', atMs: 3, peer: ada, round, checkpoint }).refusal?.code
    expect(report(2, cid(7))).toBe('round/not-closed')
    story.next({ type: 'applied', atMs: 3, peer: ada, round: 1, checkpoint: cid(1001) })
    expect(report(1, cid(1001))).toBe('round/reported')
    story.contribute(ada).contribute(ben).merge()
    story.next({ type: 'applied', atMs: 3, peer: ada, round: 2, checkpoint: cid(1002) })
    expect(report(1, cid(1001))).toBe('round/past')
  })
})

describe('what cannot happen is refused with a reason', () => {
  const refusal = (story: Story, event: RunEvent): string | undefined => {
    const before = story.state
    const { state, effects, refusal: refused } = story.try(event)
    expect(state).toBe(before)
    expect(effects).toEqual([])
    expect(refused!.message).toMatch(/\.$/)
    return refused!.code
  }

  test.each<[string, (story: Story) => RunEvent]>([
    ['run/created', () => created],
    ['member/present', () => ({ type: 'joined', atMs: 9, peer: ada, name: '', addresses: [] })],
    ['member/ready', () => ({ type: 'ready', atMs: 9, peer: ada })],
    ['member/unknown', () => ({ type: 'ready', atMs: 9, peer: cleo })],
    ['member/unknown', () => ({ type: 'left', atMs: 9, peer: cleo })],
    ['member/unknown', (story) => story.contributed(cleo)],
    ['round/closed', (story) => story.contributed(ada, { round: 2 })],
    ['round/contributed', (story) => story.contribute(ada).contributed(ada)],
    [
      'round/copy',
      (story) => story.next(story.contributed(ada, { update: cid(7) })).contributed(ben, { update: cid(7) }),
    ],
    ['round/no-share', (story) => story.join(cleo).contributed(cleo)],
    ['round/not-due', () => ({ type: 'ticked', atMs: 1e12 })],
    ['round/not-merging', () => ({ type: 'checkpointed', atMs: 9, round: 1, checkpoint: cid(7) })],
  ])('%s', (code, make) => {
    const story = new Story().join(ada, ben)
    expect(refusal(story, make(story))).toBe(code)
  })

  test('an update of an earlier round', () => {
    const story = new Story().join(ada, ben)
    story
      .next(story.contributed(ada, { update: cid(7) }))
      .contribute(ben)
      .merge()
    expect(refusal(story, story.contributed(ben, { update: cid(7) }))).toBe('round/copy')
  })

  test('more peers than the policy allows, until one leaves', () => {
    const story = new Story({ maximumPeers: 2 }).join(ada, ben)
    const third: RunEvent = { type: 'joined', atMs: 9, peer: cleo, name: '', addresses: [] }
    expect(refusal(story, third)).toBe('run/full')
    story.next({ type: 'left', atMs: 9, peer: ben }).next(third)
  })

  test('anything but good-byes after the end', () => {
    const story = new Story({ rounds: 1 }).join(ada, ben).contribute(ada).contribute(ben).merge()
    expect(refusal(story, { type: 'joined', atMs: 9, peer: cleo, name: '', addresses: [] })).toBe(
      'run/finished',
    )
    story.next({ type: 'left', atMs: 9, peer: ada })
  })
})

test('of members that have gone only so many are remembered, the longest gone are not', () => {
  const story = new Story().join(ada, ben)
  const gone = { ...story.state.members[ada]!, status: 'left', contributions: 1, replica: null } as const
  const others = Array.from({ length: 4096 - 2 }, (_, i) => [`peer${i}`, { ...gone, lastRound: i }])
  story.state = { ...story.state, members: { ...Object.fromEntries(others), ...story.state.members } }
  story.contribute(ada).next({ type: 'left', atMs: 5, peer: ada })
  expect(Object.keys(story.state.members)).toHaveLength(4096)
  story.join(cleo).contribute(ben).merge().contribute(cleo).next({ type: 'left', atMs: 5, peer: cleo })
  expect(Object.keys(story.state.members)).toHaveLength(4096)
  expect(story.state.members).not.toHaveProperty('peer0')
  expect(story.state.members).toHaveProperty('peer4093')
})

describe('whatever happens in whatever order', () => {
  const weighted = <Kind extends string>([kind, weight]: readonly [Kind, number]) => ({
    arbitrary: fc.constant(kind),
    weight,
  })
  // Numbers become events in view of the state, so that long legal histories are common and illegal ones included.
  const move = fc.record({
    kind: fc.oneof(
      ...(
        [
          ['joined', 6],
          ['ready', 6],
          ['contributed', 20],
          ['checkpointed', 12],
          ['applied', 2],
        ] as const
      ).map(weighted),
      ...(
        [
          ['ticked', 2],
          ['left', 1],
          ['vanished', 1],
          ['ending', 1],
        ] as const
      ).map(weighted),
    ),
    who: fc.nat(peers.length - 1),
    offset: fc.constantFrom(0, 0, 0, 0, -1, 1),
    wait: fc.constantFrom(0, 1, 600, 5000, -3_600_000, 3_600_000),
    value: fc.nat(60_000),
  })
  type Move = typeof move extends fc.Arbitrary<infer Value> ? Value : never

  const eventOf = (state: RunState, { kind, who, offset, wait, value }: Move): RunEvent => {
    const atMs = state.nowMs + wait
    const peer = peers[who]!
    const round = Math.max(1, state.round + offset)
    switch (kind) {
      case 'joined':
        return { type: kind, atMs, peer, name: 'peer', addresses: ['/memory/1'] }
      case 'contributed':
        return {
          type: kind,
          atMs,
          peer,
          round,
          update: cid(value),
          tokens: 1 + value,
          loss: 1.5,
          report: Uint8Array.of(1),
        }
      case 'checkpointed':
        return { type: kind, atMs, round, checkpoint: cid(value) }
      case 'applied':
        return { type: kind, atMs, peer, round: Math.max(1, round - 1), checkpoint: cid(value) }
      case 'ending': // rarely, or no run gets far
        return { type: value < 3000 ? kind : 'ticked', atMs }
      case 'ticked':
        return { type: kind, atMs }
      default:
        return { type: kind, atMs, peer }
    }
  }

  const checkInvariants = (state: RunState): void => {
    const { open, phase } = state
    expect(open !== null).toBe(phase === 'training' || phase === 'grace')
    if (open !== null) {
      const shares = peersOf(open.assignments).map((peer) => open.assignments[peer]!)
      expect(shares.sort((a, b) => a - b)).toEqual(Array.from({ length: open.replicas }, (_, i) => i))
      // It waits for somebody: a round in which nothing is outstanding is not left open.
      expect(outstandingPeers(state).length).toBeGreaterThan(0)
      for (const peer of peersOf(open.contributions)) expect(open.assignments).toHaveProperty(peer)
    }
    const present = Object.values(state.members).filter(isPresent).length
    expect(present).toBeLessThanOrEqual(state.policy.maximumPeers)
    const rounds = state.closed.map(({ round }) => round)
    expect(rounds).toEqual(rounds.map((_, i) => rounds[0]! + i))
    expect(state.closed.length).toBeLessThanOrEqual(3)
    expect(pendingEffects(state).some(({ type }) => type === 'merge')).toBe(phase === 'merging')
  }

  test('nothing accepted is lost, no share is given twice, and a replay gives the same state', () => {
    let contributionsSeen = 0
    fc.assert(
      fc.property(fc.array(move, { minLength: 50, maxLength: 250, size: 'max' }), (moves) => {
        const story = new Story({ rounds: 20 })
        const accepted = new Map<number, string[]>()
        for (const each of moves) {
          const before = story.state
          const event = eventOf(before, each)
          const { refusal, state } = story.try(event)
          if (refusal !== undefined) {
            expect(state).toBe(before)
            expect(refusal).toMatchObject({ code: expect.stringMatching(/^[a-z]+\/[a-z-]+$/) })
            continue
          }
          checkInvariants(state)
          expect(state.version).toBe(before.version + 1)
          expect(state.checkpoint.round).toBeGreaterThanOrEqual(before.checkpoint.round)
          if (event.type === 'contributed') {
            contributionsSeen += 1
            accepted.set(event.round, [...(accepted.get(event.round) ?? []), event.peer])
          }
          const closed = state.closed.at(-1)
          if (state.phase === 'merging' && before.phase !== 'merging') {
            expect(closed!.accepted.map(({ peer }) => peer)).toEqual(accepted.get(closed!.round)!.sort())
          }
        }
        // What was accepted and is not merged yet is still there.
        const { open } = story.state
        if (open !== null)
          expect(peersOf(open.contributions)).toEqual((accepted.get(open.round) ?? []).sort())

        const [first, ...rest] = story.events.map((event, i) => decodeEvent(encodeEvent(event), i))
        let replayed = createRun(first as typeof created)
        for (const event of rest) replayed = step(replayed, event).state
        expect(stateHash(replayed)).toBe(stateHash(story.state))
      }),
      { numRuns: 150 },
    )
    expect(contributionsSeen).toBeGreaterThan(300)
  })

  test('a run with peers advances to its end as long as they contribute', () => {
    fc.assert(
      fc.property(fc.array(move, { maxLength: 60 }), (moves) => {
        const story = new Story({ rounds: 4, minimumPeers: 1, maximumPeers: 6 })
        for (const each of moves) if (each.kind !== 'ending') story.try(eventOf(story.state, each))
        let update = 61_000
        for (let turns = 0; story.state.phase !== 'finished'; turns++) {
          expect(turns).toBeLessThan(40)
          const { state } = story
          if (state.phase === 'merging') story.merge()
          else if (state.phase === 'waiting') {
            const peer = peers.find((each) => state.members[each]?.status === 'joining') ?? ada
            if (state.members[peer]?.status !== 'joining') {
              story.next({ type: 'joined', atMs: state.nowMs, peer, name: '', addresses: [] })
            }
            story.next({ type: 'ready', atMs: state.nowMs, peer })
          } else {
            const peer = outstandingPeers(state)[0]!
            story.next(story.contributed(peer, { atMs: state.nowMs, update: cid(update++) }))
          }
        }
      }),
      { numRuns: 60 },
    )
  })

  test('the hash of a known history is this one', () => {
    const story = new Story().join(ada, ben).contribute(ada).contribute(ben).merge().join(cleo)
    expect(stateHash(story.state)).toMatchInlineSnapshot(
      `"24e7a204bbf6d5d83c98af968ccb44af8e197a4236026f05c9579a969b67b5c2"`,
    )
  })
})

describe('events', () => {
  test('that are damaged are refused with their position', () => {
    const bytes = encodeEvent(created)
    expect(decodeEvent(bytes, 0)).toEqual(created)
    for (const wrong of [
      bytes.subarray(1),
      encodeEvent({ ...created, type: 'ready' } as never),
      new Uint8Array(0),
    ]) {
      expect(() => decodeEvent(wrong, 41)).toThrow(/Entry 41/)
    }
  })
})
