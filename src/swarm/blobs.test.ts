import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { Cid } from '../core/index.ts'
import { memoryBlobs } from './blobs.ts'
import { runBlobsSuite } from './blobs-suite.ts'
import { fileBlobs } from './file-blobs.ts'

const root = mkdtempSync(join(tmpdir(), 'groundswell-blobs-'))
let folders = 0
const freshFolder = (): string => join(root, `store-${folders++}`)
afterAll(() => rmSync(root, { recursive: true }))

runBlobsSuite({ name: 'memory', make: async (options) => memoryBlobs(options) })
runBlobsSuite({ name: 'files', make: (options) => fileBlobs(freshFolder(), options) })
runBlobsSuite({
  name: 'files that are not flushed',
  make: (options) => fileBlobs(freshFolder(), { ...options, durable: false }),
})

const content = new TextEncoder().encode('content')
const pathOf = (folder: string, cid: string): string => join(folder, cid.slice(-2), cid)

describe('blobs in files', () => {
  test('lie at <aa>/<cid>, as plain bytes, and are there for the next process', async () => {
    const folder = freshFolder()
    const cid = await (await fileBlobs(folder)).put(content)
    expect(new Uint8Array(readFileSync(pathOf(folder, cid)))).toEqual(content)
    const again = await fileBlobs(folder, { quotaBytes: content.byteLength })
    expect(new Uint8Array((await again.get(cid))!)).toEqual(content)
    await expect(again.put(Uint8Array.of(1))).rejects.toMatchObject({ code: 'blob/quota' })
  })

  test('a file that was damaged on the disk counts as not there, is told of, and can be put again', async () => {
    const folder = freshFolder()
    const damaged: Cid[] = []
    const blobs = await fileBlobs(folder, { onDamaged: (cid) => damaged.push(cid) })
    const cid = await blobs.put(content)
    writeFileSync(pathOf(folder, cid), 'contenT')
    expect(await blobs.get(cid)).toBeUndefined()
    expect(damaged).toEqual([cid])
    expect(await blobs.has(cid)).toBe(false)
    await blobs.put(content)
    expect(new Uint8Array((await blobs.get(cid))!)).toEqual(content)
  })

  test('a file that a power failure cut short is replaced when its blob is put again', async () => {
    const folder = freshFolder()
    const cid = await (await fileBlobs(folder, { durable: false })).put(content)
    truncateSync(pathOf(folder, cid), 0)
    const blobs = await fileBlobs(folder, { durable: false, quotaBytes: content.byteLength })
    await blobs.put(content)
    expect(new Uint8Array((await blobs.get(cid))!)).toEqual(content)
    await expect(blobs.put(Uint8Array.of(1))).rejects.toMatchObject({ code: 'blob/quota' })
  })

  test('what a killed process left unfinished is removed, and never counts as a blob', async () => {
    const folder = freshFolder()
    await fileBlobs(folder)
    writeFileSync(join(folder, 'unfinished', 'half'), 'hal')
    const blobs = await fileBlobs(folder)
    expect(readdirSync(join(folder, 'unfinished'))).toEqual([])
    expect(await blobs.list()).toEqual([])
  })

  test('a disk that takes nothing: one clear error, nothing half-written', async () => {
    const folder = freshFolder()
    const blobs = await fileBlobs(folder)
    const failing = Object.assign(new Error('no space'), { code: 'ENOSPC' })
    const full = await fileBlobs(freshFolder(), { writeFile: () => Promise.reject(failing) })
    await expect(full.put(content)).rejects.toMatchObject({
      code: 'blob/disk-full',
      message: expect.stringContaining('is full'),
      remedy: expect.stringContaining('Free some space'),
    })
    expect(await full.list()).toEqual([])
    expect(await blobs.list()).toEqual([])
  })

  test.skipIf(process.getuid?.() === 0 || process.platform === 'win32')(
    'a folder that may not be written to is named',
    async () => {
      const folder = freshFolder()
      await fileBlobs(folder)
      chmodSync(folder, 0o500)
      await expect(fileBlobs(folder)).rejects.toMatchObject({ code: 'blob/not-writable' })
      chmodSync(folder, 0o700)
    },
  )

  test('a file where the folder should be is named', async () => {
    const path = join(root, 'a-file')
    writeFileSync(path, '')
    await expect(fileBlobs(path)).rejects.toMatchObject({
      code: 'blob/not-writable',
      message: expect.stringContaining(path),
    })
  })
})
