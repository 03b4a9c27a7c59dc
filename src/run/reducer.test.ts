import { expect, test } from 'vitest'
import { Story, ada, ben, cid } from './story.ts'

test('waits for its peers, trains its rounds, and finishes', () => {
  const story = new Story()
  expect(story.state.phase).toBe('waiting')
  story.join(ada)
  expect(story.state.phase).toBe('waiting')
  story.join(ben)
  for (const round of [1, 2, 3]) {
    expect(story.state).toMatchObject({ phase: 'training', round, open: { assigned: 2, outstanding: 2 } })
    story.contribute(ben)
    expect(story.state.phase).toBe('closing')
    story.contribute(ada)
    expect(story.state.phase).toBe('coolingDown')
    expect(story.effects).toContainEqual(expect.objectContaining({ type: 'merge', round }))
    story.merge()
    expect(story.state.checkpoint).toEqual({ round, checkpoint: cid(1_000_000 + round) })
  }
  expect(story.state.phase).toBe('finished')
  expect(story.effects).toContainEqual({ type: 'finish' })
  expect(story.member(ada)).toMatchObject({ contributions: 3, tokens: 3 * 10 * 64, lastRound: 3 })
})
