import { expect, test } from 'vitest'
import { Quarantines } from './quarantines.ts'
import { cid, peerNumber } from './story.ts'

const bytes = (length: number, content: number): Uint8Array => new Uint8Array(length).fill(content)

test('all together keep to their budget: what was left longest ago goes, and nothing that is under way', async () => {
  const quarantines = new Quarantines(300)
  const put = async (peer: number, length: number): Promise<void> => {
    await quarantines.enter(peerNumber(peer), cid(peer)).put(bytes(length, peer))
  }
  const held = async (peer: number): Promise<number> =>
    (await quarantines.enter(peerNumber(peer), cid(peer)).list()).length
  for (const peer of [1, 2]) await put(peer, 100)
  for (const peer of [2, 1]) quarantines.leave(peerNumber(peer))
  await put(3, 100)
  expect(quarantines.bytes).toBe(300)
  await put(4, 50)
  expect(quarantines.bytes).toBe(250)
  expect(await Promise.all([1, 2, 3, 4].map(held))).toEqual([1, 0, 1, 1])
  // Now all four are under way.
  await put(2, 200)
  expect(quarantines.bytes).toBe(450)
  quarantines.leave(peerNumber(3))
  expect(quarantines.bytes).toBe(350)
  quarantines.leave(peerNumber(2))
  expect(quarantines.bytes).toBe(150)
})

test('counts what comes twice once, and what belongs to another update or to a peer that is gone not at all', async () => {
  const quarantines = new Quarantines(1000)
  const [ada, ben] = [peerNumber(1), peerNumber(2)]
  const first = quarantines.enter(ada, cid(1))
  for (let n = 0; n < 3; n++) await first.put(bytes(10, 1))
  expect(quarantines.bytes).toBe(10)
  await quarantines.enter(ada, cid(2)).put(bytes(20, 1))
  await first.put(bytes(30, 1))
  expect(quarantines.bytes).toBe(20)
  await quarantines.enter(ben, cid(1)).put(bytes(5, 1))
  quarantines.forget((peer) => peer === ada)
  expect(quarantines.bytes).toBe(5)
  quarantines.drop(ben)
  expect(quarantines.bytes).toBe(0)
})
