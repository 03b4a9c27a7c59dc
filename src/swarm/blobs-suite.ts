/**
 * What every store of blobs must do, as tests that each implementation runs: see blobs.test.ts.
 */
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Cid, cidOf } from '../core/index.ts'
import { type Blobs, maxBlobBytes, needBlob, pruneBlobs } from './blobs.ts'

export interface BlobsUnderTest {
  readonly name: string
  /** A fresh, empty store. */
  readonly make: (options: { quotaBytes?: number }) => Promise<Blobs>
}

const text = (content: string): Uint8Array => new TextEncoder().encode(content)

export function runBlobsSuite({ name, make }: BlobsUnderTest): void {
  describe(`blobs: ${name}`, () => {
    test('whatever was put comes back under its CID, which is that of its bytes', async () => {
      const blobs = await make({})
      const contents = fc.uniqueArray(fc.uint8Array({ maxLength: 200 }), { maxLength: 5, selector: String })
      await fc.assert(
        fc.asyncProperty(contents, async (all) => {
          for (const bytes of all) {
            const cid = await blobs.put(bytes)
            expect(cid).toBe(await cidOf(bytes))
            expect(await blobs.has(cid)).toBe(true)
            expect(new Uint8Array((await blobs.get(cid))!)).toEqual(bytes)
          }
        }),
        { numRuns: 20 },
      )
    })

    test('the same bytes are another blob as dag-cbor than as raw', async () => {
      const blobs = await make({})
      const bytes = Uint8Array.of(0xa0)
      const cids = [await blobs.put(bytes), await blobs.put(bytes, { codec: 'dag-cbor' })]
      expect(new Set(cids).size).toBe(2)
      expect(cids[1]).toBe(await cidOf(bytes, 'dag-cbor'))
    })

    test('bytes that are not what they are called are refused and not kept', async () => {
      const blobs = await make({})
      const cid = await cidOf(text('right'))
      await expect(blobs.put(text('wrong'), { expected: cid })).rejects.toMatchObject({
        code: 'blob/hash-mismatch',
      })
      expect(await blobs.list()).toEqual([])
      expect(await blobs.put(text('right'), { expected: cid })).toBe(cid)
    })

    test('what is not there is undefined, or an error for whoever needs it', async () => {
      const blobs = await make({})
      const cid = await cidOf(text('absent'))
      expect(await blobs.get(cid)).toBeUndefined()
      expect(await blobs.has(cid)).toBe(false)
      await expect(needBlob(blobs, cid)).rejects.toMatchObject({ code: 'blob/not-found' })
    })

    test('a name that is none never becomes a path', async () => {
      const blobs = await make({})
      const forged = '../../etc/passwd' as Cid
      await expect(blobs.put(text('x'), { expected: forged })).rejects.toMatchObject({ code: 'cid/invalid' })
      await expect(blobs.get(forged)).rejects.toMatchObject({ code: 'cid/invalid' })
    })

    test('the longest blob is kept, a longer one refused', async () => {
      const blobs = await make({})
      const bytes = new Uint8Array(maxBlobBytes + 1)
      await expect(blobs.put(bytes)).rejects.toMatchObject({ code: 'blob/oversized' })
      const cid = await blobs.put(bytes.subarray(1))
      expect((await blobs.get(cid))?.byteLength).toBe(maxBlobBytes)
    })

    test('what comes back may be changed without changing what is kept', async () => {
      const blobs = await make({})
      const cid = await blobs.put(text('abc'))
      const first = (await blobs.get(cid))!
      first[0] = 0
      expect(new Uint8Array((await blobs.get(cid))!)).toEqual(text('abc'))
    })

    test('prune keeps what it is told to and says what became free', async () => {
      const blobs = await make({})
      const [one, two, three] = [
        await blobs.put(text('1')),
        await blobs.put(text('22')),
        await blobs.put(text('333')),
      ]
      expect(await pruneBlobs(blobs, new Set([two!]))).toBe(4)
      expect(await blobs.list()).toEqual([{ cid: two, sizeBytes: 2 }])
      expect([await blobs.has(one!), await blobs.has(three!)]).toEqual([false, false])
      expect(await pruneBlobs(blobs, new Set(), AbortSignal.abort())).toBe(0)
      expect(await blobs.has(two!)).toBe(true)
    })

    test('a quota bounds the sum; deleting makes room, putting again what is there takes none', async () => {
      const blobs = await make({ quotaBytes: 10 })
      const first = await blobs.put(text('123456'))
      await blobs.put(text('123456'))
      await expect(blobs.put(text('abcde'))).rejects.toMatchObject({ code: 'blob/quota' })
      expect(await blobs.list()).toHaveLength(1)
      await blobs.delete(first)
      await blobs.delete(first)
      await blobs.put(text('abcde'))
      await blobs.put(text('fghij'))
      await expect(blobs.put(text('k'))).rejects.toMatchObject({ code: 'blob/quota' })
    })

    test('many at once, also the same one', async () => {
      const blobs = await make({})
      const cids = await Promise.all(Array.from({ length: 40 }, (_, i) => blobs.put(text(`${i % 10}`))))
      expect(new Set(cids).size).toBe(10)
      expect(await blobs.list()).toHaveLength(10)
    })
  })
}
