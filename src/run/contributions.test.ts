import { describe, expect, test } from 'vitest'
import { leaseOf, shareOf } from './queries.ts'
import { ada, ben, cid, cleo, Story } from './story.ts'

describe('an update', () => {
  test('counts with the tokens of the batches behind it', () => {
    const story = new Story().join(ada, ben)
    const { ranges } = story.lease(ada)
    story.contribute(ada)
    expect(story.state.open).toMatchObject({ outstanding: 1, inTime: 1 })
    expect(story.state.open!.contributions.get(ada)).toMatchObject({
      leaseRound: 1,
      ranges,
      steps: 10,
      tokens: 640,
      weight: 640,
    })
    expect(story.member(ada)).toMatchObject({
      status: 'ready',
      lease: null,
      lastVerdict: { outcome: 'accepted' },
    })
    expect([shareOf(story.state, ada), shareOf(story.state, ben)]).toEqual([1, 0])
  })

  test('of fewer steps than were leased counts those; the other batches return', () => {
    const story = new Story().join(ada, ben)
    story
      .next(story.contributed(ada, { steps: 4 }))
      .contribute(ben)
      .merge()
    expect(story.state.closed[0]!.accepted.find(({ peer }) => peer === ada)).toMatchObject({
      steps: 4,
      tokens: 4 * 64,
      ranges: [{ start: 0, end: 4 }],
    })
    // Ada was slower by what she did: her next lease is smaller, and begins with what she left.
    expect(story.lease(ada).ranges[0]).toEqual({ start: 4, end: 10 })
  })
})

describe('a lease of a round that began anew', () => {
  /** Ada gave up her first lease of round 1 and has another one of it. */
  const anew = (): Story => new Story({ minimumPeers: 1 }).join(ada).at(500).leave(ada).join(ada)

  test('is not the one before: what was done for that counts no more, and costs nothing', () => {
    const story = anew()
    expect(story.lease(ada)).toMatchObject({ round: 1, grantedAtMs: 500 })
    const { state } = story
    const refusal = {
      code: 'round/no-lease',
      message: 'The peer has no lease of round 1, but another one of that round.',
    }
    expect(story.try(story.contributed(ada, { grantedAtMs: 1 })).refusal).toMatchObject(refusal)
    const { atMs, peer, round, update, report } = story.contributed(ada)
    const rejected = { type: 'rejected', atMs, peer, round, update, code: 'c', reason: '', report } as const
    expect(story.try({ ...rejected, grantedAtMs: 1 }).refusal).toMatchObject(refusal)
    expect(story.state).toBe(state)
    expect(story.next({ ...rejected, grantedAtMs: 500 }).member(ada).strikes).toBe(1)
  })

  test('is told by its time, or is whichever there is, as in older logs', () => {
    for (const name of [{ grantedAtMs: 500 }, {}]) {
      const story = anew()
      expect(story.next(story.contributed(ada, name)).state.phase).toBe('coolingDown')
    }
  })
})

describe('a late update', () => {
  /** Round 1 closed without Ben, who still has its lease. */
  const late = (policy = {}): Story =>
    new Story({ rounds: 9, ...policy }).join(ada, ben).contribute(ada).at(2000).tick()

  test('counts in the round that is open when it comes, with half its weight', () => {
    const story = late().merge()
    expect(story.lease(ben).round).toBe(1)
    expect(story.state.open).toMatchObject({ round: 2, assigned: 1, outstanding: 1 })
    story.contribute(ben)
    expect(story.state.open).toMatchObject({ outstanding: 1, inTime: 0, quorumReached: false })
    expect(story.state.open!.contributions.get(ben)).toMatchObject({
      leaseRound: 1,
      tokens: 640,
      weight: 320,
    })
    expect(story.member(ben)).toMatchObject({
      status: 'ready',
      lastRound: 2,
      late: 1,
      lastVerdict: { round: 1, outcome: 'late' },
    })
    story.contribute(ada).merge()
    expect(story.lease(ben).round).toBe(3)
  })

  test('that is too late has no lease any more: the batches went back, and its peer gets a new one', () => {
    const story = late({ maximumStaleness: 0 }).merge()
    expect(story.member(ben)).toMatchObject({ expired: 1, lastVerdict: { round: 1, outcome: 'expired' } })
    expect(story.lease(ben).round).toBe(2)
    // They go to whoever has been there longest.
    expect(story.lease(ada).ranges[0]!.start).toBe(10)
    expect(story.try(story.contributed(ben, { round: 1 })).refusal).toMatchObject({
      code: 'lease/expired',
      remedy: 'Train the next lease.',
    })
  })

  test('may be as late as the policy says, and weighs less each round', () => {
    const story = late({ maximumStaleness: 3 }).merge()
    for (let round = 2; round <= 3; round++) story.contribute(ada).merge()
    expect(story.state.open!.round).toBe(4)
    story.contribute(ben)
    expect(story.state.open!.contributions.get(ben)!.weight).toBe(640 / 4)
    const later = late({ maximumStaleness: 3 }).merge()
    for (let round = 2; round <= 4; round++) later.contribute(ada).merge()
    expect(later.lease(ben).round).toBe(5)
    expect(later.member(ben).expired).toBe(1)
  })

  test('is waited for when nobody else is there', () => {
    const story = late().leave(ada).merge()
    expect(story.state).toMatchObject({ phase: 'training', round: 2, open: { assigned: 0, outstanding: 0 } })
    expect(story.contribute(ben).state).toMatchObject({ phase: 'coolingDown', closed: [{}, { round: 2 }] })
  })

  test('does not keep those who come meanwhile from training', () => {
    const story = late().leave(ada).merge().join(cleo)
    expect(story.state).toMatchObject({ phase: 'training', round: 2, open: { assigned: 1, outstanding: 1 } })
    expect(story.contribute(ben, cleo).state.closed.at(-1)!.accepted).toHaveLength(2)
  })

  test('teaches how slow its peer is; so does a lease that ran out', () => {
    const story = late().merge().at(10_001).contribute(ben)
    expect(story.member(ben).stepsPerSecond).toBe(1)
    const expired = new Story({ maximumStaleness: 0 }).come(ada).ready(ada, 10).come(ben).ready(ben, 10)
    expired.at(101).contribute(ada).at(2000).tick().merge()
    // It had 10 steps in 2 s, which says 5 a second.
    expect(expired.member(ben).stepsPerSecond).toBeCloseTo(5, 2)
    expect(expired.lease(ben).steps).toBeLessThan(expired.lease(ada).steps)
  })
})

describe('a peer that vanishes', () => {
  test('and returns within the round has its lease still, and the round waits again', () => {
    const story = new Story({ quorum: 1 }).join(ada, ben)
    const lease = story.lease(ada)
    story.vanish(ada)
    expect(story.state.open!.outstanding).toBe(1)
    expect(leaseOf(story.state, ada)).toBeNull()
    story.come(ada)
    expect(story.state.open!.outstanding).toBe(2)
    expect(leaseOf(story.state, ada)).toBe(lease)
    expect(story.member(ada).status).toBe('active')
    expect(story.contribute(ada).state.open!.inTime).toBe(1)
  })

  test('and returns between the rounds may be late', () => {
    const story = new Story({ quorum: 1 }).join(ada, ben).vanish(ada).contribute(ben).come(ada)
    expect(story.state.phase).toBe('coolingDown')
    story.merge().contribute(ada)
    expect(story.member(ada)).toMatchObject({ late: 1, lastRound: 2 })
  })

  test('and is not back when the next round opens loses it', () => {
    const story = new Story({ quorum: 1 }).join(ada, ben, cleo).vanish(ada).contribute(ben).merge()
    expect(story.state.members.has(ada)).toBe(false)
    expect(story.lease(ben).ranges).toEqual([{ start: 0, end: 10 }])
    expect(story.come(ada).member(ada)).toMatchObject({ status: 'joining', lease: null })
  })

  test('may still say good-bye, which frees its batches', () => {
    const story = new Story({ quorum: 1 }).join(ada, ben).vanish(ada).leave(ada)
    expect(story.state.batches.returned.toArray()).toEqual([{ start: 0, end: 10 }])
    expect(story.state.members.has(ada)).toBe(false)
  })
})

test('a peer that leaves gives its batches back at once', () => {
  const story = new Story({ quorum: 1 }).join(ada, ben).contribute(ada, ben).merge().leave(ada)
  expect(story.member(ada)).toMatchObject({ status: 'left', lease: null, expired: 1 })
  expect(story.state.batches.returned.toArray()).toEqual([{ start: 20, end: 30 }])
})

test('when all leases of a round came back it begins anew with those who are ready', () => {
  const story = new Story({ quorum: 1 }).join(ada, ben, cleo).at(500).leave(ada).reject(ben)
  expect(story.state).toMatchObject({ phase: 'training', round: 1, open: { assigned: 2, openedAtMs: 500 } })
  // Whoever came first gets the lowest numbers.
  expect(story.lease(ben).ranges).toEqual([{ start: 0, end: 10 }])
  expect(story.lease(cleo).ranges).toEqual([{ start: 10, end: 20 }])
})

test('a round that only newcomers are left of waits for them, and takes back who had vanished from it', () => {
  const story = new Story({ quorum: 1 }).join(ada, ben).come(cleo).vanish(ada).leave(ben)
  expect(story.state).toMatchObject({ phase: 'waiting', round: 1, cold: false })
  story.come(ada)
  expect(story.state).toMatchObject({ phase: 'training', round: 1, open: { assigned: 1, outstanding: 1 } })
  expect(story.contribute(ada).state).toMatchObject({
    phase: 'coolingDown',
    closed: [{ accepted: [{ leaseRound: 1 }] }],
  })
})

describe('refused updates', () => {
  const story = (): Story => new Story({ rounds: 9, quorum: 1 }).join(ada, ben, cleo)

  test('cost the lease, and say why', () => {
    const told = story().reject(ada)
    expect(told.member(ada)).toMatchObject({
      status: 'ready',
      lease: null,
      rejected: 1,
      strikes: 1,
      lastVerdict: { round: 1, outcome: 'rejected', code: 'sync/invalid', reason: 'It is not finite.' },
    })
    expect(told.state.open!.outstanding).toBe(1)
    expect(told.state.batches.returned.toArray()).toEqual([{ start: 0, end: 10 }])
    expect(told.try(told.contributed(ada)).refusal?.code).toBe('round/no-lease')
  })

  test('as many in a row as the policy says cost the place, for some rounds', () => {
    const told = story()
    for (let round = 1; round <= 3; round++) {
      told.reject(ada)
      told.contribute(ben)
      if (round > 1) told.contribute(cleo)
      told.merge()
    }
    expect(told.member(ada)).toMatchObject({ status: 'expelled', strikes: 3, expelledUntil: 5 })
    const join = { type: 'joined', atMs: 9, peer: ada, name: '', addresses: [] } as const
    expect(told.try(join).refusal).toEqual({
      code: 'member/expelled',
      message:
        'The peer is expelled until round 5 for 3 refused updates in a row; of the last: It is not finite.',
      remedy: 'Find out what is wrong with its updates, and join again in round 5.',
    })
    expect(told.try({ type: 'ready', atMs: 9, peer: ada, stepsPerSecond: 1 }).refusal?.code).toBe(
      'member/unknown',
    )
    told.contribute(ben, cleo).merge().next(join).ready(ada)
    expect(told.member(ada).status).toBe('ready')
    // It has still to prove itself.
    told.contribute(ben, cleo).merge().reject(ada)
    expect(told.member(ada)).toMatchObject({ status: 'expelled', strikes: 4 })
  })

  test('with an accepted one between them are forgiven', () => {
    const told = story().reject(ada).contribute(ben).merge()
    told.reject(ada).contribute(ben, cleo).merge()
    told.contribute(ada)
    expect(told.member(ada)).toMatchObject({ rejected: 2, strikes: 0 })
  })

  test('are not forgotten by leaving', () => {
    const told = story().reject(ada).leave(ada).come(ada)
    expect(told.member(ada)).toMatchObject({ status: 'joining', strikes: 1, rejected: 1 })
  })
})

describe('checkpoints', () => {
  const merged = (): Story => new Story().join(ada, ben).contribute(ada, ben).merge(cid(8))
  const disagree = (story: Story, round: number, checkpoint: number) =>
    story.try({ type: 'disagreed', atMs: 3, peer: ada, round, checkpoint: cid(checkpoint) }).refusal?.code

  test('of the host elect; a peer that has another one is counted, once per round', () => {
    const story = merged()
    expect(disagree(story, 1, 7)).toBeUndefined()
    expect(story.member(ada)).toMatchObject({ disagreements: 1, disagreedRound: 1 })
    expect(disagree(story, 1, 9)).toBe('round/reported')
  })

  test('that agree, are not there yet or are too old are no news', () => {
    const story = merged()
    expect(disagree(story, 1, 8)).toBe('round/agreed')
    expect(disagree(story, 2, 8)).toBe('round/not-closed')
    const merging = new Story().join(ada, ben).contribute(ada, ben)
    expect(disagree(merging, 1, 8)).toBe('round/not-closed')
    const old = new Story({ rounds: 9 }).join(ada, ben)
    for (let round = 1; round <= 4; round++) old.contribute(ada, ben).merge()
    expect(disagree(old, 1, 7)).toBe('round/past')
  })
})

test('the median norm of the kept rounds is known', () => {
  const story = new Story({ rounds: 9, quorum: 1 }).join(ada, ben)
  expect(story.state.medianNorm).toBeNull()
  const round = (...norms: [number, number]): number | null => {
    for (const [i, peer] of [ada, ben].entries()) story.next(story.contributed(peer, { norm: norms[i]! }))
    return story.merge().state.medianNorm
  }
  expect(round(1, 3)).toBe(2)
  expect(round(5, 7)).toBe(4)
  expect(round(9, 9)).toBe(6)
  expect(round(9, 9)).toBe(9)
})
