import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Scratch, scratch } from '../../test/cli-process.ts'
import { claimFolder } from './disk.ts'

let folder: Scratch
const at = (...names: string[]): string => join(folder.path, ...names)
beforeAll(async () => {
  folder = await scratch()
})
afterAll(() => folder[Symbol.asyncDispose]())

describe('claiming a folder', () => {
  test('makes it, and leaves it with what was put there', async () => {
    {
      await using _claim = await claimFolder(at('used', 'deep'))
      expect(await readdir(at('used', 'deep'))).toEqual([])
      await writeFile(at('used', 'deep', 'result'), '')
    }
    expect(await readdir(at('used', 'deep'))).toEqual(['result'])
  })

  test('takes away again what it made and nobody used, and nothing else', async () => {
    await mkdir(at('before'))
    {
      await using _one = await claimFolder(at('before', 'a', 'b'))
      await using _other = await claimFolder(at('before'))
    }
    expect(await readdir(at('before'))).toEqual([])
  })

  test('is refused where a file is in the way', async () => {
    await writeFile(at('file'), 'kept')
    for (const place of [at('file'), at('file', 'below')]) {
      await expect(claimFolder(place)).rejects.toMatchObject({ code: 'file/not-found' })
    }
  })

  test.skipIf(process.getuid?.() === 0)('is refused where nothing may be written', async () => {
    await mkdir(at('closed'))
    await chmod(at('closed'), 0o500)
    await expect(claimFolder(at('closed'))).rejects.toMatchObject({ code: 'file/not-permitted' })
  })

  test.runIf(existsSync('/proc/self'))('is refused where the system makes no folders', async () => {
    await expect(claimFolder('/proc/none/deep')).rejects.toMatchObject({ code: 'file/not-found' })
    await expect(claimFolder('/proc')).rejects.toHaveProperty('code', 'file/not-found')
  })
})
