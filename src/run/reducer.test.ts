import { describe, expect, test } from 'vitest'
import type { Cid } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'
import { roundPolicySchema } from './policy.ts'
import { missingPeers } from './queries.ts'
import { artifactsOf, type Effect, pendingEffects } from './reducer.ts'
import { type Member, reducerLimits } from './state.ts'
import { ada, ben, cid, cleo, dora, emil, peerNumber, Story, storyPolicy } from './story.ts'

describe('a run', () => {
  test('waits for its peers, trains its rounds, and finishes', () => {
    const story = new Story()
    expect(story.state.phase).toBe('waiting')
    expect(missingPeers(story.state)).toBe(2)
    story.join(ada)
    expect(story.state.phase).toBe('waiting')
    expect(missingPeers(story.state)).toBe(1)
    story.join(ben)
    expect(missingPeers(story.state)).toBe(0)
    for (const round of [1, 2, 3]) {
      expect(story.state).toMatchObject({ phase: 'training', round, open: { assigned: 2, outstanding: 2 } })
      story.contribute(ben)
      expect(story.state.phase).toBe('closing')
      story.contribute(ada)
      expect(story.state.phase).toBe('coolingDown')
      expect(story.effects).toContainEqual(expect.objectContaining({ type: 'merge', round }))
      expect(pendingEffects(story.state)).toEqual([story.effects[0]])
      story.merge()
      expect(story.state.checkpoint).toEqual({ round, checkpoint: cid(1_000_000 + round) })
    }
    expect(story.state).toMatchObject({ phase: 'finished', round: 3 })
    expect(story.effects).toContainEqual({ type: 'finish' })
    expect(pendingEffects(story.state)).toEqual([{ type: 'finish' }])
    expect(story.member(ada)).toMatchObject({ contributions: 3, tokens: 3 * 10 * 64, lastRound: 3 })
    expect(story.state.totals).toEqual({ contributions: 6, tokens: 2 * 3 * 10 * 64, bytes: 600 })
  })

  test('merges what was accepted in the order of peer ids, not of arrival', () => {
    const story = new Story({ minimumPeers: 3, quorum: 1 }).join(ada, ben, cleo)
    story.contribute(cleo, ada, ben)
    expect(story.state.closed.at(-1)!.accepted.map(({ peer }) => peer)).toEqual([ada, ben, cleo].sort())
  })

  test('takes in newcomers at the next round', () => {
    const story = new Story().join(ada, ben).join(cleo)
    expect(story.state.open).toMatchObject({ round: 1, assigned: 2 })
    expect(story.member(cleo)).toMatchObject({ status: 'ready', lease: null })
    story.contribute(ada, ben).merge()
    expect(story.state.open).toMatchObject({ round: 2, assigned: 3 })
    expect(story.lease(cleo)).toMatchObject({ round: 2, steps: 10 })
  })

  test('names the artifacts that nobody can ask for any more', () => {
    const story = new Story({ rounds: 6 }).join(ada, ben)
    const dropped: Cid[] = []
    const made: Cid[] = [cid(2)]
    const collect = (effects: readonly Effect[]): void => {
      for (const effect of effects) if (effect.type === 'drop') dropped.push(...effect.artifacts)
    }
    for (let round = 1; round <= 6; round++) {
      for (const peer of [ada, ben]) {
        story.contribute(peer)
        collect(story.effects)
      }
      made.push(...story.state.closed.at(-1)!.accepted.map(({ update }) => update), cid(1_000_000 + round))
      story.merge()
      collect(story.effects)
    }
    const kept = [...artifactsOf(story.state)]
    expect(kept).toHaveLength(2 + 3 * 2)
    expect(kept).toEqual(expect.arrayContaining([cid(1_000_005), cid(1_000_006)]))
    expect(dropped.toSorted()).toEqual(made.filter((each) => !kept.includes(each)).sort())
  })
})

test('a peer that was started again before it was missed is known by its new name and addresses, and else as it was', () => {
  const story = new Story().join(ada, ben)
  const before = story.member(ada)
  const { counts, open } = story.state
  story.next({ type: 'joined', atMs: story.state.nowMs, peer: ada, name: 'again', addresses: ['/memory/2'] })
  expect(story.member(ada)).toEqual({ ...before, name: 'again', addresses: ['/memory/2'] })
  expect(story.state.counts).toEqual(counts)
  expect(story.state.open).toEqual(open)
})

describe('warming up', () => {
  const early = (): Story => new Story().come(cleo).join(ada, ben)

  test('waits for those who still fetch, until the last is ready', () => {
    const story = early()
    expect(story.state).toMatchObject({ phase: 'warmingUp', warmupDeadlineMs: 10_001 })
    expect(story.effects).toEqual([{ type: 'wake', atMs: 10_001 }])
    expect(pendingEffects(story.state)).toEqual(story.effects)
    story.ready(cleo)
    expect(story.state).toMatchObject({ phase: 'training', warmupDeadlineMs: null, open: { assigned: 3 } })
  })

  test('or has gone', () => {
    expect(early().leave(cleo).state).toMatchObject({ phase: 'training', open: { assigned: 2 } })
  })

  test('or its time is over', () => {
    const story = early()
    expect(story.try({ type: 'ticked', atMs: 10_000 }).refusal?.code).toBe('round/not-due')
    expect(story.at(10_001).tick().state).toMatchObject({ phase: 'training', open: { assigned: 2 } })
  })

  test('or ends without a round when too few are left', () => {
    const story = early().leave(ada)
    expect(story.state).toMatchObject({ phase: 'waiting', warmupDeadlineMs: null })
    expect(story.at(20_000).ready(cleo).state.phase).toBe('training')
  })

  test('is left out when nobody fetches, or when the policy gives it no time', () => {
    expect(new Story().join(ada, ben).state.phase).toBe('training')
    expect(new Story({ warmupMs: 0 }).come(cleo).join(ada, ben).state.phase).toBe('training')
  })

  test('is for cold runs: a warm one opens its next round at once, with whoever is ready', () => {
    const story = new Story().join(ada, ben).come(cleo).leave(ben).contribute(ada).merge()
    expect(story.state).toMatchObject({ phase: 'training', round: 2, open: { assigned: 1 } })
  })
})

describe('a round closes', () => {
  test('after the grace when the quorum is in and somebody is slow', () => {
    const story = new Story().join(ada, ben).at(100).contribute(ada)
    expect(story.state).toMatchObject({ phase: 'closing', open: { quorumReached: true, deadlineMs: 1100 } })
    expect(story.effects).toEqual([{ type: 'wake', atMs: 1100 }])
    expect(story.try({ type: 'ticked', atMs: 1099 }).refusal?.code).toBe('round/not-due')
    story.at(1100).tick()
    expect(story.state).toMatchObject({ phase: 'coolingDown', closed: [{ accepted: [{ peer: ada }] }] })
  })

  test.each([
    [{ graceMs: 1000, graceShare: 0.1 }, 5000, 1000],
    [{ graceMs: 1000, graceShare: 0.1 }, 60_000, 6000],
    [{ graceMs: 0, graceShare: 0.25 }, 60_000, 15_000],
    [{ graceMs: 0, graceShare: 0 }, 60_000, 0],
  ])('after a grace that grows with the round: %j after %d ms', (policy, afterMs, graceMs) => {
    const story = new Story({ ...policy, maxRoundMs: 600_000 }).join(ada, ben)
    const { openedAtMs } = story.state.open!
    story.at(openedAtMs + afterMs).contribute(ada)
    const closesAtMs = story.state.open?.deadlineMs ?? openedAtMs + afterMs
    expect(closesAtMs - openedAtMs - afterMs).toBe(graceMs)
  })

  test('with what it has when it takes longer than the policy allows', () => {
    const story = new Story({ quorum: 1, maxRoundMs: 5000 }).join(ada, ben).at(100).contribute(ada)
    expect(story.state.phase).toBe('training')
    expect(story.effects).toEqual([{ type: 'wake', atMs: 5001 }])
    expect(story.at(5001).tick().state.phase).toBe('coolingDown')
  })

  test('not later than that because of the grace', () => {
    const story = new Story({ maxRoundMs: 5000, graceMs: 60_000 }).join(ada, ben).at(100).contribute(ada)
    expect(story.state.open!.deadlineMs).toBe(5001)
  })

  test('with the first contribution when that comes later still, not without one', () => {
    const story = new Story({ quorum: 1, maxRoundMs: 5000 }).join(ada, ben)
    expect(story.at(9000).try({ type: 'ticked', atMs: 9000 }).refusal?.code).toBe('round/not-due')
    expect(story.contribute(ben).state.phase).toBe('coolingDown')
  })

  test('and begins anew when nothing came in that time and others are ready: the leases of before ran out', () => {
    const story = new Story({ quorum: 1, maxRoundMs: 5000 }).join(ada, ben).come(cleo)
    const before = story.lease(ada)
    expect(story.at(2000).ready(cleo).effects).toEqual([{ type: 'wake', atMs: 5001 }])
    expect(story.try({ type: 'ticked', atMs: 5000 }).refusal?.code).toBe('round/not-due')
    story.at(5001).tick()
    expect(story.state).toMatchObject({
      phase: 'training',
      round: 1,
      open: { openedAtMs: 5001, assigned: 3, outstanding: 3, deadlineMs: null },
      counts: { present: 3, ready: 0 },
    })
    expect(story.member(ada)).toMatchObject({ expired: 1, lastVerdict: { round: 1, outcome: 'expired' } })
    const { grantedAtMs } = before
    expect(story.try(story.contributed(ada, { grantedAtMs })).refusal?.code).toBe('lease/expired')
    story.contribute(cleo)
    expect(story.at(10_001).tick().state).toMatchObject({ phase: 'coolingDown', closed: [{ round: 1 }] })
  })

  test('and begins anew as soon as somebody is ready when that time is over already', () => {
    const story = new Story({ minimumPeers: 1, maxRoundMs: 5000 }).join(ada).at(7000).join(ben)
    expect(story.effects).toEqual([{ type: 'wake', atMs: 5001 }])
    expect(pendingEffects(story.state)).toEqual(story.effects)
    expect(story.tick().state.open).toMatchObject({ openedAtMs: 7000, assigned: 2 })
  })

  test('and does not begin anew before a pause', () => {
    const pausing = new Story({ minimumPeers: 1, maxRoundMs: 5000 }).join(ada, ben)
    pausing.next({ type: 'paused', atMs: 2 }).at(5001).tick()
    expect(pausing.state).toMatchObject({ phase: 'paused', open: null, counts: { ready: 2 } })
  })

  test('without waiting for those who went, and with what they had contributed', () => {
    const story = new Story({ quorum: 1 }).join(ada, ben).contribute(ada).vanish(ada).leave(ben)
    expect(story.state).toMatchObject({ phase: 'coolingDown', closed: [{ accepted: [{ peer: ada }] }] })
    expect(story.member(ada)).toMatchObject({ status: 'vanished', contributions: 1 })
  })

  test.each([
    [0.5, 2],
    [0.67, 2],
    [0.68, 2],
    [0.9, 3],
    [0.01, 1],
  ])('of three at a quorum of %d begins its grace with %d', (quorum, needed) => {
    const story = new Story({ minimumPeers: 3, quorum }).join(ada, ben, cleo)
    const reached = [ada, ben, cleo].findIndex((peer) => story.contribute(peer).state.phase !== 'training')
    expect(reached + 1).toBe(needed)
  })
})

describe('when everybody has gone', () => {
  const alone = (): Story => new Story().join(ada, ben).contribute(ada, ben).merge()

  test('the same round begins anew with others, once enough have come; what was leased returns after it', () => {
    const story = alone()
    expect([story.lease(ada).ranges, story.lease(ben).ranges]).toEqual([
      [{ start: 20, end: 30 }],
      [{ start: 30, end: 40 }],
    ])
    story.vanish(ada).vanish(ben)
    expect(story.state).toMatchObject({ phase: 'waiting', round: 2, open: null, cold: true })
    story.join(cleo)
    expect(story.state.phase).toBe('waiting')
    expect(missingPeers(story.state)).toBe(1)
    story.join(dora)
    expect(story.state).toMatchObject({ phase: 'training', round: 2, cold: false, rewarmRound: 2 })
    expect(story.lease(cleo)).toMatchObject({ round: 2, ranges: [{ start: 40, end: 50 }] })
    expect(story.lease(dora)).toMatchObject({ round: 2, ranges: [{ start: 50, end: 60 }] })
    story.contribute(cleo, dora).merge()
    expect(story.member(ada)).toMatchObject({ lease: null, expired: 1, lastVerdict: { outcome: 'expired' } })
    expect(story.lease(cleo)).toMatchObject({ round: 3, ranges: [{ start: 20, end: 30 }] })
    expect(story.lease(dora)).toMatchObject({ round: 3, ranges: [{ start: 30, end: 40 }] })
  })

  test('and comes back, as when the line of the host was down, nothing that they did meanwhile is lost', () => {
    const story = alone().vanish(ada).vanish(ben).come(ada)
    expect(story.state.phase).toBe('waiting')
    expect(missingPeers(story.state)).toBe(1)
    story.come(ben)
    expect(story.state).toMatchObject({ phase: 'training', round: 2, cold: false, rewarmRound: null })
    expect(story.state.open).toMatchObject({ assigned: 2, outstanding: 2 })
    expect(story.lease(ada)).toMatchObject({ round: 2, ranges: [{ start: 20, end: 30 }] })
    story.contribute(ada, ben)
    expect(story.state.phase).toBe('coolingDown')
  })

  test('a round that has contributions is merged, and the next one begins cold', () => {
    const story = alone().contribute(ada).vanish(ada).vanish(ben)
    expect(story.state).toMatchObject({ phase: 'coolingDown', round: 2, cold: true })
    story.merge()
    expect(story.state).toMatchObject({ phase: 'waiting', round: 3 })
    // Ben still has a lease of round 2, for which he comes late.
    expect(story.join(ada).come(ben).state).toMatchObject({ phase: 'training', round: 3, rewarmRound: 3 })
    expect(story.contribute(ben).member(ben)).toMatchObject({ contributions: 2, late: 1 })
  })

  test('before the first round, nothing has to be warmed again', () => {
    const story = new Story().join(ada, ben).leave(ada).leave(ben).join(cleo, dora)
    expect(story.state).toMatchObject({ phase: 'training', round: 1, rewarmRound: null })
  })

  test('the warmth of a round stays known in those after it', () => {
    const story = alone().vanish(ada).vanish(ben).join(cleo, dora).contribute(cleo, dora).merge()
    expect(story.state).toMatchObject({ round: 3, rewarmRound: 2 })
  })

  test('and nobody comes any more, a run that was to end with this round ends with the one before', () => {
    const story = alone().next({ type: 'ending', atMs: 4 }).vanish(ada).vanish(ben)
    expect(story.state).toMatchObject({ phase: 'finished', round: 1, checkpoint: { round: 1 } })
  })
})

describe('the owner', () => {
  test('pauses with the open round done, and resumes', () => {
    const story = new Story().join(ada, ben).next({ type: 'paused', atMs: 4 })
    expect(story.state.phase).toBe('training')
    story.contribute(ada, ben).merge()
    expect(story.state).toMatchObject({ phase: 'paused', round: 2, pauseRequested: true })
    expect(story.join(cleo).state.phase).toBe('paused')
    expect(story.next({ type: 'resumed', atMs: 5 }).state).toMatchObject({
      phase: 'training',
      round: 2,
      pauseRequested: false,
      open: { assigned: 3 },
    })
  })

  test('pauses at once between rounds, and while the run warms up', () => {
    expect(new Story().join(ada).next({ type: 'paused', atMs: 4 }).state.phase).toBe('paused')
    const story = new Story().come(cleo).join(ada, ben).next({ type: 'paused', atMs: 4 })
    expect(story.state).toMatchObject({ phase: 'paused', warmupDeadlineMs: null })
    expect(story.at(100).next({ type: 'resumed', atMs: 100 }).state).toMatchObject({
      phase: 'warmingUp',
      warmupDeadlineMs: 10_100,
    })
  })

  test('takes a pause back before it has come', () => {
    const story = new Story()
      .join(ada, ben)
      .next({ type: 'paused', atMs: 4 })
      .next({ type: 'resumed', atMs: 4 })
    expect(story.contribute(ada, ben).merge().state.phase).toBe('training')
  })

  test('ends with the open round, or at once when none is', () => {
    const story = new Story().join(ada, ben).next({ type: 'ending', atMs: 4 })
    expect(story.state).toMatchObject({ phase: 'training', lastRound: 1 })
    story.contribute(ada, ben).merge()
    expect(story.state).toMatchObject({ phase: 'finished', checkpoint: { round: 1 } })
    expect(new Story().next({ type: 'ending', atMs: 4 }).state).toMatchObject({ phase: 'finished', round: 0 })
    const paused = new Story().join(ada).next({ type: 'paused', atMs: 4 })
    expect(paused.next({ type: 'ending', atMs: 4 }).state.phase).toBe('finished')
    const merging = new Story().join(ada, ben).contribute(ada, ben).next({ type: 'ending', atMs: 4 })
    expect(merging.state.phase).toBe('coolingDown')
    expect(merging.merge().state).toMatchObject({ phase: 'finished', round: 1 })
  })

  const changed = (change: Partial<typeof storyPolicy>) =>
    ({ type: 'policyChanged', atMs: 4, policy: { ...storyPolicy, ...change } }) as const

  test('changes the rules while a round is open', () => {
    const story = new Story({ quorum: 1 }).join(ada, ben).contribute(ada)
    expect(story.state).toMatchObject({ phase: 'training', open: { deadlineMs: 60_001 } })
    story.next(changed({ quorum: 1, maxRoundMs: 5000 }))
    expect(story.state.open!.deadlineMs).toBe(5001)
    expect(story.effects).toEqual([{ type: 'wake', atMs: 5001 }])
    story.next(changed({ quorum: 0.5 }))
    expect(story.state).toMatchObject({ phase: 'closing', open: { deadlineMs: 1004 } })
  })

  test('changes how many must come', () => {
    const story = new Story().join(ada).next(changed({ minimumPeers: 1 }))
    expect(story.state.phase).toBe('training')
  })

  test.each([
    [2, 2],
    [1, 2],
    [7, 7],
  ])('changes the rounds to %d while the second is open: the last is then %d', (rounds, last) => {
    const story = new Story().join(ada, ben).contribute(ada, ben).merge().next(changed({ rounds }))
    expect(story.state).toMatchObject({ phase: 'training', round: 2, lastRound: last })
    story.contribute(ada, ben).merge()
    expect(story.state.phase).toBe(last === 2 ? 'finished' : 'training')
  })

  test('changes the rounds to fewer than are done, while none is open: the run is finished', () => {
    const story = new Story().join(ada, ben).contribute(ada, ben).merge().leave(ada).leave(ben)
    expect(story.next(changed({ rounds: 1 })).state).toMatchObject({ phase: 'finished', round: 1 })
  })

  test('does not take an ending back by changing the rules', () => {
    const story = new Story()
      .join(ada, ben)
      .next({ type: 'ending', atMs: 4 })
      .next(changed({ rounds: 9 }))
    expect(story.contribute(ada, ben).merge().state.phase).toBe('finished')
  })
})

describe('run time', () => {
  test('does not go back, whatever times come', () => {
    const story = new Story().join(ada, ben).at(100).contribute(ada).at(50).come(cleo)
    expect(story.state.nowMs).toBe(100)
    expect(story.state.open!.deadlineMs).toBe(1100)
  })

  test('that leaps shortens a grace at most', () => {
    const story = new Story().join(ada, ben).at(100).contribute(ada).at(1e12).tick()
    expect(story.state.phase).toBe('coolingDown')
  })
})

test('of members that have gone only so many are remembered, the longest gone are not', () => {
  const story = new Story().join(ada, ben).contribute(ada, ben)
  const { maxDeparted } = reducerLimits
  const gone: Member = { ...story.member(ada), status: 'left' }
  const departed = Array.from({ length: maxDeparted + 2 }, (_, i): [PeerId, Member] => [
    peerNumber(100 + i),
    { ...gone, since: i },
  ])
  story.state = { ...story.state, members: story.state.members.concat(departed) }
  story.leave(ben).merge()
  expect(story.state.members.size).toBe(maxDeparted + 1)
  expect([ada, ben, peerNumber(103)].filter((peer) => story.state.members.has(peer))).toHaveLength(3)
  expect([100, 101, 102].filter((n) => story.state.members.has(peerNumber(n)))).toEqual([])
  expect(story.state.totals.contributions).toBe(2)
})

test('a policy under which training would never begin is none', () => {
  expect(roundPolicySchema.safeParse(storyPolicy).success).toBe(true)
  expect(roundPolicySchema.safeParse({ ...storyPolicy, minimumPeers: 6 }).success).toBe(false)
})

describe('what cannot happen is refused with a reason', () => {
  test.each<[string, (story: Story) => Parameters<Story['try']>[0]]>([
    ['run/created', (story) => story.events[0]!],
    ['run/not-paused', () => ({ type: 'resumed', atMs: 9 })],
    ['run/paused', (story) => story.next({ type: 'paused', atMs: 9 }) && { type: 'paused', atMs: 9 }],
    ['run/ending', (story) => story.next({ type: 'ending', atMs: 9 }) && { type: 'ending', atMs: 9 }],
    ['member/present', () => ({ type: 'joined', atMs: 9, peer: ada, name: '', addresses: [] })],
    ['member/ready', () => ({ type: 'ready', atMs: 9, peer: ada, stepsPerSecond: null })],
    ['member/unknown', () => ({ type: 'ready', atMs: 9, peer: cleo, stepsPerSecond: null })],
    ['member/unknown', () => ({ type: 'left', atMs: 9, peer: cleo })],
    ['member/unknown', () => ({ type: 'vanished', atMs: 9, peer: cleo })],
    ['member/unknown', (story) => story.contributed(cleo)],
    ['member/unknown', (story) => story.vanish(ada).contributed(ada)],
    ['round/no-lease', (story) => story.contributed(ada, { round: 2 })],
    ['round/no-lease', (story) => story.join(cleo).contributed(cleo)],
    ['round/contributed', (story) => story.contribute(ada).contributed(ada)],
    ['round/contributed', (story) => story.contribute(ada, ben).contributed(ada)],
    ['round/not-due', () => ({ type: 'ticked', atMs: 1e12 })],
    ['round/not-merging', () => ({ type: 'checkpointed', atMs: 9, round: 1, checkpoint: cid(7) })],
    ['lease/too-many-steps', (story) => story.contributed(ada, { steps: 11 })],
    ['run/full', (story) => story.join(cleo, dora, emil) && joined(6)],
  ])('%s', (code, make) => {
    const story = new Story({ minimumPeers: 2, quorum: 0.5 }).join(ada, ben)
    const event = make(story)
    const before = story.state
    const { state, effects, refusal } = story.try(event)
    expect(state).toBe(before)
    expect(effects).toEqual([])
    expect(refusal!.code).toBe(code)
    expect(refusal!.message).toMatch(/^[A-Z].*\.$/)
  })

  const joined = (n: number) =>
    ({
      type: 'joined',
      atMs: 9,
      peer: [ada, ben, cleo, dora, emil][n - 1] ?? cid(n),
      name: '',
      addresses: [],
    }) as never

  test('an update for a round that is being merged, until the next one opens', () => {
    const story = new Story().join(ada, ben).contribute(ada).at(2000).tick()
    expect(story.try(story.contributed(ben)).refusal).toMatchObject({
      code: 'round/not-open',
      remedy: 'Come again when the next one opens.',
    })
    story.next({ type: 'paused', atMs: 2000 }).merge()
    expect(story.try(story.contributed(ben)).refusal?.code).toBe('run/paused')
    story.next({ type: 'resumed', atMs: 2000 }).contribute(ben)
  })

  test('an update that was sent before, by anybody in this round or a kept one', () => {
    const story = new Story({ rounds: 9 }).join(ada, ben)
    const first = story.contributed(ada)
    story.next(first)
    const copy = (): string | undefined =>
      story.try(story.contributed(ben, { update: first.update })).refusal?.code
    expect(copy()).toBe('round/copy')
    story.contribute(ben).merge()
    for (let round = 2; round <= 4; round++) {
      expect(copy()).toBe('round/copy')
      story.contribute(ada, ben).merge()
    }
    expect(copy()).toBeUndefined()
  })

  test('more peers than the policy allows, until one leaves', () => {
    const story = new Story({ maximumPeers: 2 }).join(ada, ben)
    const third = { type: 'joined', atMs: 9, peer: cleo, name: '', addresses: [] } as const
    expect(story.try(third).refusal?.code).toBe('run/full')
    story.leave(ben).next(third)
  })

  test('anything but last words after the end', () => {
    const story = new Story({ rounds: 1 }).join(ada, ben).contribute(ada, ben).merge()
    expect(story.try(joined(3)).refusal?.code).toBe('run/finished')
    expect(story.try({ type: 'policyChanged', atMs: 9, policy: storyPolicy }).refusal?.code).toBe(
      'run/finished',
    )
    story.next({ type: 'hosted', atMs: 9, session: 'again', wallMs: 1e12 })
    story
      .next({ type: 'disagreed', atMs: 9, peer: ada, round: 1, checkpoint: cid(7) })
      .leave(ada)
      .vanish(ben)
    expect(story.state.phase).toBe('finished')
  })
})
