import { describe, expect, test } from 'vitest'
import { cidOf, joinPieces, memoryFiles } from '../core/index.ts'
import { createSyncMethod, syncSettingsSchema } from '../sync/index.ts'
import { fileLocalStore, LocalMemory } from './local-store.ts'
import type { Verdict } from './state.ts'

const run = await cidOf(Uint8Array.of(1))
const layout = { entries: [{ name: 'values', offset: 0, size: 4, shape: [4] }], totalSize: 4 }
const method = createSyncMethod(syncSettingsSchema.parse({ method: 'sparse-loco' }))
/** What a peer knows, told apart by one number; 0 for one that knows nothing. */
const local = (mark: number): unknown => ({ layout, memory: new Float32Array(4).fill(mark) })
const markOf = ({ local }: LocalMemory): number | undefined => (local as { memory: Float32Array }).memory[0]

/** What the host says of a peer of which it has counted so many contributions. */
const told = (
  contributions: number,
  lastRound: number,
  round = 0,
  outcome: Verdict['outcome'] = 'accepted',
) => ({
  contributions,
  lastRound,
  lastVerdict: round === 0 ? null : { round, outcome, code: '', reason: '' },
})

interface Folder {
  readonly files: ReturnType<typeof memoryFiles>
  /** A process that begins when the host says this. */
  readonly process: (you: ReturnType<typeof told>, about?: { run: typeof run }) => Promise<LocalMemory>
}

function folder(): Folder {
  const files = memoryFiles()
  const store = fileLocalStore(files, 'peer')
  const process: Folder['process'] = async (you, about) => {
    const memory = new LocalMemory({ store, run, method, layout, ...about })
    await memory.restore(you)
    return memory
  }
  return { files, process }
}

/** A process of which the host counts the updates of these rounds. */
async function contributing({ process }: Folder, ...rounds: readonly number[]): Promise<LocalMemory> {
  const memory = await process(told(0, 0))
  for (const round of rounds) {
    await memory.keep(round, local(round))
    memory.accepted()
  }
  return memory
}

describe('what only a peer knows, over the death of its process', () => {
  test('after an update that was accepted is what it left behind', async () => {
    const home = folder()
    expect(markOf(await contributing(home, 1, 2, 3))).toBe(3)
    expect(markOf(await home.process(told(3, 3, 3)))).toBe(3)
  })

  test.each([
    ['had been accepted when it died', told(3, 3, 3), 3],
    ['had been accepted late', told(3, 4, 3, 'late'), 3],
    ['never reached the host', told(2, 2, 2), 2],
    ['had been rejected', told(2, 2, 3, 'rejected'), 2],
    ['was accepted before another lease ran out', told(3, 3, 5, 'expired'), 3],
    ['was not, and another lease ran out', told(2, 2, 5, 'expired'), 2],
    ['was not, and another process of a copy contributed', told(3, 5, 5), 0],
  ])('when the last update %s', async (_, you, expected) => {
    const home = folder()
    const first = await contributing(home, 1, 2)
    await first.keep(3, local(3)) // and dies
    const second = await home.process(you)
    expect(markOf(second)).toBe(expected)
    // What counts is not overwritten by the next that may.
    await second.keep(6, local(6))
    expect(markOf(await home.process(you))).toBe(expected)
  })

  test('is nothing to another run, and damage is no worse than loss', async () => {
    const home = folder()
    await contributing(home, 1)
    const you = told(1, 1, 1)
    expect(markOf(await home.process(you))).toBe(1)
    expect(markOf(await home.process(you, { run: await cidOf(Uint8Array.of(2)) }))).toBe(0)
    const bytes = await home.files.read('peer/local.0.bin')
    for (const length of [0, 3, 40, bytes.byteLength - 1]) {
      await home.files.write('peer/local.0.bin', [joinPieces([bytes.subarray(0, length)])])
      expect(markOf(await home.process(you))).toBe(0)
    }
  })

  test('begins anew rather than with what went into an update that counts', async () => {
    const home = folder()
    await contributing(home, 1, 2, 3)
    expect(markOf(await home.process(told(7, 9, 9)))).toBe(0) // the folder is an old copy
    expect(markOf(await home.process(told(2, 2, 2)))).toBe(2) // the host's is
    expect(markOf(await home.process(told(1, 1, 1)))).toBe(0)
    await home.files.write('peer/local.0.bin', [new Uint8Array(5)])
    expect(markOf(await home.process(told(3, 3, 3)))).toBe(0)
  })
})

describe('an update of which the host tells later that it counts', () => {
  test('is taken up in the same process, whose answer was lost', async () => {
    const memory = await contributing(folder(), 1)
    await memory.keep(2, local(2))
    memory.settle(told(1, 1, 2, 'expired'))
    expect(markOf(memory)).toBe(1)
    memory.settle(told(2, 3, 6, 'expired')) // rounds later
    expect(markOf(memory)).toBe(2)
  })

  test('is taken up in the next process, which began while it was being judged', async () => {
    const home = folder()
    await (await contributing(home, 1)).keep(2, local(2))
    const second = await home.process(told(1, 1, 1))
    expect(markOf(second)).toBe(1)
    second.settle(told(2, 2, 2))
    expect(markOf(second)).toBe(2)
    await second.keep(3, local(3))
    expect(markOf(await home.process(told(2, 2, 2)))).toBe(2)
  })

  test('is not mistaken for another one for the same lease', async () => {
    const home = folder()
    await (await contributing(home, 1)).keep(2, local(2))
    const second = await home.process(told(1, 1, 1))
    await second.keep(2, local(4))
    second.settle(told(2, 2, 2))
    expect(markOf(second)).toBe(0)
    expect(markOf(await home.process(told(2, 2, 2)))).toBe(0)
  })
})
