import { describe, expect, test } from 'vitest'
import { cidOf, joinPieces, memoryFiles } from '../core/index.ts'
import { createSyncMethod, syncSettingsSchema } from '../sync/index.ts'
import { fileLocalStore, LocalMemory } from './local-store.ts'
import type { Verdict } from './state.ts'

const run = await cidOf(Uint8Array.of(1))
const layout = { entries: [{ name: 'values', offset: 0, size: 4, shape: [4] }], totalSize: 4 }
const method = createSyncMethod(syncSettingsSchema.parse({ method: 'sparse-loco' }))
/** What a peer knows, told apart by one number. */
const local = (mark: number): unknown => ({ layout, memory: new Float32Array(4).fill(mark) })
const markOf = (found: { readonly local: unknown } | undefined): number | undefined =>
  (found?.local as { memory: Float32Array } | undefined)?.memory[0]
const verdict = (round: number, outcome: Verdict['outcome']): Verdict => ({
  round,
  outcome,
  code: '',
  reason: '',
})

function folder(): {
  process: (about?: { run?: typeof run }) => LocalMemory
  files: ReturnType<typeof memoryFiles>
} {
  const files = memoryFiles()
  const store = fileLocalStore(files, 'peer')
  return { files, process: (about) => new LocalMemory({ store, run, method, layout, ...about }) }
}

describe('what only a peer knows, over the death of its process', () => {
  test('after an update that was accepted is what it left behind', async () => {
    const { process } = folder()
    const first = process()
    expect(await first.restore({ lastRound: 0, lastVerdict: null })).toBeUndefined()
    for (const round of [1, 2, 3]) {
      await first.keep(round, local(round))
      first.accepted()
    }
    expect(markOf(await process().restore({ lastRound: 3, lastVerdict: verdict(3, 'accepted') }))).toBe(3)
  })

  test.each([
    ['had been accepted when it died', { lastRound: 3, lastVerdict: verdict(3, 'accepted') }, 3],
    ['had been accepted late', { lastRound: 4, lastVerdict: verdict(3, 'late') }, 3],
    ['never reached the host', { lastRound: 2, lastVerdict: verdict(2, 'accepted') }, 2],
    ['had been rejected', { lastRound: 2, lastVerdict: verdict(3, 'rejected') }, 2],
    ['was accepted before another lease ran out', { lastRound: 3, lastVerdict: verdict(5, 'expired') }, 3],
    ['was not, and another lease ran out', { lastRound: 2, lastVerdict: verdict(5, 'expired') }, 2],
  ])('when the last update %s', async (_, told, expected) => {
    const { process } = folder()
    const first = process()
    for (const round of [1, 2]) {
      await first.keep(round, local(round))
      first.accepted()
    }
    await first.keep(3, local(3)) // and dies
    const second = process()
    expect(markOf(await second.restore(told))).toBe(expected)
    // What counts is not overwritten by the next that may.
    await second.keep(6, local(6))
    expect(markOf(await process().restore(told))).toBe(expected)
  })

  test('is nothing to another run, and damage is no worse than loss', async () => {
    const { files, process } = folder()
    const first = process()
    await first.keep(1, local(1))
    const told = { lastRound: 1, lastVerdict: verdict(1, 'accepted') }
    expect(await process({ run: await cidOf(Uint8Array.of(2)) }).restore(told)).toBeUndefined()
    const bytes = await files.read('peer/local.0.bin')
    for (const length of [0, 3, 40, bytes.byteLength - 1]) {
      await files.write('peer/local.0.bin', [joinPieces([bytes.subarray(0, length)])])
      expect(await process().restore(told)).toBeUndefined()
    }
  })
})
