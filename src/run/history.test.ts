import { expect, test } from 'vitest'
import { describeConsequences, describeEvent } from './history.ts'
import { createRun, step } from './reducer.ts'
import { ada, ben, cid, cleo, Story, storyPolicy } from './story.ts'

test('a history reads as what happened and what followed', () => {
  const story = new Story({ rounds: 9, maximumStrikes: 1 })
  story.next({ type: 'hosted', atMs: 1, session: 's1', wallMs: Date.UTC(2026, 0, 1) })
  story.next({ type: 'joined', atMs: 1, peer: ada, name: 'Ada', addresses: [] }).ready(ada, 1 / 3)
  story.come(cleo).join(ben).at(11_000).tick()
  story.contribute(ada).at(12_000).tick().ready(cleo).merge()
  story.vanish(ada).come(ada).contribute(ben)
  story.next({ type: 'paused', atMs: 1 }).reject(cleo, 'Its norm is 20 times the median.')
  story.next(story.contributed(ada, { steps: 1 })).merge()
  story.next({ type: 'disagreed', atMs: 1, peer: ada, round: 2, checkpoint: cid(5) })
  story.next({ type: 'policyChanged', atMs: 1, policy: { ...storyPolicy, rounds: 5 } })
  story.next({ type: 'resumed', atMs: 1 }).leave(ada).leave(ben).next({ type: 'ending', atMs: 1 })

  const [first, ...rest] = story.events
  let state = createRun(first as Parameters<typeof createRun>[0])
  const lines = [describeEvent(first!, state)]
  for (const event of rest) {
    const before = state
    state = step(state, event).state
    lines.push(describeEvent(event, state), ...describeConsequences(before, state).map((line) => `  ${line}`))
  }
  // Each kind of event is told in one line.
  expect(new Set(story.events.map(({ type }) => type)).size).toBe(15)
  for (const line of lines) expect(line).toMatch(/^ *[^ \n][^\n]*\.$/)
  const short = (text: string): string => text.replace(/bafy[a-z0-9]+/g, 'CID')
  expect(lines.map(short).join('\n')).toMatchInlineSnapshot(`
    "The run begins: 9 rounds of 10 inner steps, from checkpoint CID.
    A host takes the run on: session s1, 2026-01-01T00:00:00.000Z.
    Ada (…yhAMjDSx) asks to take part.
    Ada (…yhAMjDSx) is ready, at 0.333 steps/s by its own account.
    …nBPWn35z asks to take part.
    …swGwFdGU asks to take part.
    …swGwFdGU is ready.
      The run warms up: 1 peer still fetching.
    Time is up.
      Round 1 opens for 2 peers.
    Ada (…yhAMjDSx) contributes 10 steps of its lease of round 1: 640 tokens, loss 2.000.
      Round 1 has its quorum: 1 still out.
    Time is up.
      Round 1 closes with 1 update.
    …nBPWn35z is ready.
    Round 1 is merged: checkpoint CID.
      Round 2 opens for 2 peers.
    Ada (…yhAMjDSx) has fallen silent.
    …yhAMjDSx asks to take part again, and has its lease of round 2 still.
    …swGwFdGU contributes 10 steps of its lease of round 1, in round 2 because it is late: 640 tokens, loss 2.000.
    The owner pauses the run.
    …nBPWn35z’s update for round 2 is refused (sync/invalid): Its norm is 20 times the median. It is expelled until round 4.
    …yhAMjDSx contributes 1 step of its lease of round 2: 64 tokens, loss 2.000.
      Round 2 closes with 2 updates.
    Round 2 is merged: checkpoint CID.
      The run stands still.
    …yhAMjDSx merged round 2 into another checkpoint, CID.
    The owner changes the rules; the last round is now 5.
    The owner lets the run go on.
      Round 3 opens for 2 peers.
    …yhAMjDSx leaves.
    …swGwFdGU leaves.
      The run waits for 2 more peers.
    The owner ends the run with round 2.
      The run is finished after round 2."
  `)
})
