import { describe, expect, test } from 'vitest'
import type { RunEvent } from './events.ts'
import { step } from './reducer.ts'
import type { RunState } from './state.ts'
import { cid, peerNumber, Story } from './story.ts'

/**
 * Work is counted, not timed: how many objects a state has that the one before did not have, and how many elements
 * these hold. Whatever an event copies, it copies into new objects.
 */
function newlyMade(known: ReadonlySet<object>, after: RunState): number {
  let elements = 0
  for (const each of objectsIn(after, known)) elements += Object.keys(each).length
  return elements
}

/** All objects that can be reached, without those that are known and what these hold. */
function objectsIn(value: unknown, known: ReadonlySet<object> = new Set()): Set<object> {
  const found = new Set<object>()
  const stack = [value]
  while (stack.length > 0) {
    const next = stack.pop()
    if (typeof next !== 'object' || next === null || known.has(next) || found.has(next)) continue
    found.add(next)
    for (const each of Object.values(next)) stack.push(each)
  }
  return found
}

/** A round in full swing: all have a lease, one more is fetching, a tenth has contributed. */
function midway(peers: number): Story {
  const story = new Story({ minimumPeers: peers, maximumPeers: 20_000, quorum: 1, warmupMs: 0, rounds: 9 })
  for (let n = 0; n < peers; n++) story.join(peerNumber(n))
  for (let n = 0; n < peers / 10; n++) story.contribute(peerNumber(n))
  return story.come(peerNumber(peers))
}

const sizes = [100, 10_000] as const

describe('one event costs about the same among ten thousand members as among a hundred', () => {
  const stories = sizes.map((size) => {
    const story = midway(size)
    return { size, story, known: objectsIn(story.state) }
  })

  test.each<[string, (story: Story, size: number) => RunEvent]>([
    [
      'joined',
      (_, size) => ({ type: 'joined', atMs: 2, peer: peerNumber(size + 1), name: '', addresses: [] }),
    ],
    ['ready', (_, size) => ({ type: 'ready', atMs: 2, peer: peerNumber(size), stepsPerSecond: 1 })],
    ['contributed', (story, size) => story.contributed(peerNumber(size / 2))],
    ['contributed in part', (story, size) => story.contributed(peerNumber(size / 2), { steps: 3 })],
    [
      'rejected',
      (story, size) => {
        const { atMs, peer, round, update, report } = story.contributed(peerNumber(size / 2))
        return { type: 'rejected', atMs, peer, round, update, code: 'a/b', reason: 'No.', report }
      },
    ],
    ['vanished', (_, size) => ({ type: 'vanished', atMs: 2, peer: peerNumber(size / 2) })],
    ['left', (_, size) => ({ type: 'left', atMs: 2, peer: peerNumber(size / 2) })],
    ['hosted', () => ({ type: 'hosted', atMs: 2, session: '', wallMs: 0 })],
    ['paused', () => ({ type: 'paused', atMs: 2 })],
  ])('%s', (_, make) => {
    const [few, many] = stories.map(({ story, size, known }) => {
      const { state, refusal } = step(story.state, make(story, size))
      expect(refusal).toBeUndefined()
      return newlyMade(known, state)
    })
    // Up to three persistent maps copy one path each: two nodes of up to 32 entries more for a hundred times as many.
    expect(many! - few!).toBeLessThan(200)
    expect(many!).toBeLessThan(400)
  })

  test('refusing one makes nothing', () => {
    for (const { size, story } of stories) {
      const copy = story.state.updates.open.first()!
      expect(step(story.state, story.contributed(peerNumber(size / 2), { update: copy })).state).toBe(
        story.state,
      )
      const unknown = step(story.state, { type: 'left', atMs: 2, peer: peerNumber(77_777) })
      expect(unknown.state).toBe(story.state)
    }
  })
})

test('opening and closing a round costs each member about the same, however many there are', () => {
  const perMember = sizes.map((size) => {
    const story = midway(size)
    for (let n = size / 10; n < size - 1; n++) story.contribute(peerNumber(n))
    const open = story.state
    const closed = story.contribute(peerNumber(size - 1)).state
    const opened = story.merge(cid(7)).state
    expect([open.phase, closed.phase, opened.phase]).toEqual(['training', 'coolingDown', 'training'])
    return [newlyMade(objectsIn(open), closed) / size, newlyMade(objectsIn(closed), opened) / size]
  })
  for (const i of [0, 1]) {
    expect(perMember[1]![i]! / perMember[0]![i]!).toBeLessThan(1.5)
  }
})
