import { expect, test } from 'vitest'
import { Introductions } from './introductions.ts'
import { ada, ben, Story } from './story.ts'
import { Holders, viewFor } from './views.ts'

test('a peer is dialled once at its addresses, and again where it listens after a restart', async () => {
  const story = new Story().join(ada, ben)
  const there = new Set(['/memory/1'])
  const dialled: string[] = []
  const known = new Introductions({
    dial: async (address) => {
      dialled.push(address)
      if (!there.has(address)) throw new Error('nobody is there')
      return ben
    },
  })
  const holders = new Holders()
  const look = async (): Promise<void> => {
    holders.set(ben, { round: 0, checkpoint: story.state.checkpoint.checkpoint })
    const view = viewFor(story.state, ada, story.member(ada), { merged: -1, nowMs: 0, holders, life: '' })
    known.introduce(view, new AbortController().signal)
    await known.settled()
  }
  const at = (address: string): Story =>
    story.next({ type: 'joined', atMs: story.state.nowMs, peer: ben, name: 'ben', addresses: [address] })
  at('/memory/0')
  await look()
  await look()
  expect(known.canReach(ben)).toBe(false)
  at('/memory/1')
  await look()
  expect(known.canReach(ben)).toBe(true)
  expect(dialled).toEqual(['/memory/0', '/memory/1'])
})
