import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { type Blobs, memoryBlobs } from './blobs.ts'
import { runBlobsSuite } from './blobs-suite.ts'
import { fileBlobs } from './file-blobs.ts'
import { tieredBlobs } from './tiered-blobs.ts'

const root = mkdtempSync(join(tmpdir(), 'groundswell-tiers-'))
afterAll(() => rmSync(root, { recursive: true }))
let folders = 0

runBlobsSuite({
  name: 'a file store before one in memory',
  make: async (options) =>
    tieredBlobs(await fileBlobs(join(root, `${folders++}`), { durable: false }), memoryBlobs(options)),
})

const bytes = Uint8Array.of(1, 2, 3)

/** Counts how often it is asked for bytes. */
function counting(blobs: Blobs): Blobs & { reads: number } {
  const counted = {
    ...blobs,
    reads: 0,
    get: (cid: Parameters<Blobs['get']>[0]) => {
      counted.reads += 1
      return blobs.get(cid)
    },
  }
  return counted
}

describe('tiered blobs', () => {
  test('a blob that was put is in both', async () => {
    const [fast, durable] = [memoryBlobs(), memoryBlobs()]
    const cid = await tieredBlobs(fast, durable).put(bytes)
    expect([await fast.has(cid), await durable.has(cid)]).toEqual([true, true])
  })

  test('a blob that the durable store refuses is in neither', async () => {
    const fast = memoryBlobs()
    await expect(tieredBlobs(fast, memoryBlobs({ quotaBytes: 2 })).put(bytes)).rejects.toMatchObject({
      code: 'blob/quota',
    })
    expect(await fast.list()).toEqual([])
  })

  test('what only the durable store has is read from there once', async () => {
    const durable = counting(memoryBlobs())
    const cid = await durable.put(bytes)
    const blobs = tieredBlobs(memoryBlobs(), durable)
    expect([await blobs.has(cid), await blobs.get(cid), await blobs.get(cid)]).toEqual([true, bytes, bytes])
    expect(durable.reads).toBe(1)
  })

  test('a fast store that is full stops no reading', async () => {
    const durable = memoryBlobs()
    const cid = await durable.put(bytes)
    const blobs = tieredBlobs(memoryBlobs({ quotaBytes: 1 }), durable)
    expect(await blobs.get(cid)).toEqual(bytes)
  })

  test('what was deleted is in neither', async () => {
    const [fast, durable] = [memoryBlobs(), memoryBlobs()]
    const blobs = tieredBlobs(fast, durable)
    await blobs.delete(await blobs.put(bytes))
    expect([await fast.list(), await durable.list(), await blobs.list()]).toEqual([[], [], []])
  })
})
