import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { nodeFiles } from './node-files.ts'

const root = mkdtempSync(join(tmpdir(), 'groundswell-files-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

const files = nodeFiles()
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
let folder = root
let folders = 0
beforeEach(() => {
  folder = join(root, `${folders++}`)
  mkdirSync(folder)
})

describe('reading', () => {
  test('lists all files below a folder, sorted, hidden ones and links included', async () => {
    mkdirSync(join(folder, 'b', '.hidden'), { recursive: true })
    for (const name of ['z', 'b/a', 'b/.hidden/x', 'a.txt', 'ä']) writeFileSync(join(folder, name), name)
    symlinkSync(join(folder, 'z'), join(folder, 'link'))
    symlinkSync(folder, join(folder, 'b', 'circle')) // leads back to where the listing began
    symlinkSync(join(folder, 'nowhere'), join(folder, 'broken'))
    const listed = await files.list(folder)
    expect(listed.map(({ path }) => path.slice(folder.length + 1))).toEqual([
      'a.txt',
      'b/.hidden/x',
      'b/a',
      'link',
      'z',
      'ä',
    ])
    expect(listed.find(({ path }) => path.endsWith('b/a'))!.sizeBytes).toBe(3)
  })

  test('lists a file as itself', async () => {
    writeFileSync(join(folder, 'one'), '1')
    expect(await files.list(join(folder, 'one'))).toEqual([{ path: join(folder, 'one'), sizeBytes: 1 }])
  })

  test('reads all of a file or a part, and no more than there is', async () => {
    const path = join(folder, 'digits')
    writeFileSync(path, '0123456789')
    expect(await files.read(path)).toEqual(bytesOf('0123456789'))
    expect(await files.read(path, { offset: 3, length: 4 })).toEqual(bytesOf('3456'))
    expect(await files.read(path, { offset: 8, length: 1e15 })).toEqual(bytesOf('89'))
    expect(await files.read(path, { offset: 20, length: 1 })).toEqual(bytesOf(''))
  })

  test('says what is wrong with a path', async () => {
    writeFileSync(join(folder, 'file'), '')
    await expect(files.read(join(folder, 'none'))).rejects.toMatchObject({ code: 'file/not-found' })
    await expect(files.list(join(folder, 'none'))).rejects.toMatchObject({ code: 'file/not-found' })
    await expect(files.read(join(folder, 'file', 'below'))).rejects.toMatchObject({ code: 'file/not-found' })
    await expect(files.read(folder)).rejects.toMatchObject({ code: 'file/is-folder' })
    await expect(files.list('/dev/null')).rejects.toMatchObject({ code: 'file/not-regular' })
    expect(await files.exists(join(folder, 'none'))).toBe(false)
    expect(await files.exists(join(folder, 'file', 'below'))).toBe(false)
    expect(await files.exists(folder)).toBe(true)
  })

  test.skipIf(process.getuid?.() === 0)('says that a file may not be read', async () => {
    const path = join(folder, 'secret')
    writeFileSync(path, '')
    chmodSync(path, 0)
    await expect(files.read(path)).rejects.toMatchObject({ code: 'file/not-permitted' })
  })
})

describe('writing', () => {
  test('makes folders, replaces the whole file and leaves nothing else', async () => {
    const path = join(folder, 'new', 'deep', 'file')
    await files.write(path, [bytesOf('first, which is longer'), bytesOf(' and more')])
    await files.write(path, [bytesOf('sec'), new Uint8Array(0), bytesOf('ond')])
    expect(readFileSync(path, 'utf8')).toBe('second')
    expect(readdirSync(join(folder, 'new', 'deep'))).toEqual(['file'])
  })

  test.each([true, false])('flushes the file and its folder if it is to be durable (%s)', async (durable) => {
    const path = join(folder, 'file')
    await using handle = await open(folder)
    const sync = vi.spyOn(Object.getPrototypeOf(handle) as FileHandle, 'sync')
    onTestFinished(() => sync.mockRestore())
    await files.write(path, [bytesOf('content')], { durable })
    expect(sync).toHaveBeenCalledTimes(durable ? 2 : 0)
    expect(readFileSync(path, 'utf8')).toBe('content')
    expect(readdirSync(folder)).toEqual(['file'])
  })

  test.each([
    ['ENOSPC', 'file/disk-full'],
    ['EDQUOT', 'file/disk-full'],
    ['EIO', 'file/unreadable'],
    ['EROFS', 'file/not-permitted'],
    ['EACCES', 'file/not-permitted'],
  ])(
    'that fails with %s in the middle leaves the old file and no part of the new one',
    async (code, expected) => {
      const path = join(folder, 'kept')
      writeFileSync(path, 'old')
      const chunks = function* (): Generator<Uint8Array> {
        yield bytesOf('half of the new')
        throw Object.assign(new Error('disk'), { code })
      }
      await expect(files.write(path, chunks())).rejects.toMatchObject({ code: expected })
      expect(readFileSync(path, 'utf8')).toBe('old')
      expect(readdirSync(folder)).toEqual(['kept'])
    },
  )

  test('says that the system allows no file of that size, and leaves nothing half-written', () => {
    // A real limit of the system, which node cannot set for itself.
    const path = join(folder, 'large')
    const script = `import { nodeFiles } from ${JSON.stringify(join(import.meta.dirname, 'node-files.ts'))}
      process.on('SIGXFSZ', () => undefined)
      await nodeFiles().write(${JSON.stringify(path)}, [new Uint8Array(1 << 20)]).catch((e) => console.log(e.code))`
    const output = execFileSync('sh', [
      '-c',
      'ulimit -f 64; exec "$0" --input-type=module -e "$1"',
      process.execPath,
      script,
    ])
    expect(String(output).trim()).toBe('file/too-large')
    expect(readdirSync(folder)).toEqual([])
  })

  test('onto a folder is refused and leaves nothing behind', async () => {
    mkdirSync(join(folder, 'taken', 'inside'), { recursive: true })
    await expect(files.write(join(folder, 'taken'), [bytesOf('x')])).rejects.toMatchObject({
      code: 'file/is-folder',
    })
    expect(readdirSync(folder)).toEqual(['taken'])
  })

  test.runIf(process.platform === 'linux')('below a folder that the system cannot make ends', async () => {
    await expect(files.write('/proc/none/deep/file', [bytesOf('x')])).rejects.toMatchObject({
      code: 'file/not-found',
    })
  })

  test('removes files and folders; what is not there is no error', async () => {
    await files.write(join(folder, 'a', 'b'), [bytesOf('x')])
    await files.remove(join(folder, 'a'))
    await files.remove(join(folder, 'a'))
    expect(readdirSync(folder)).toEqual([])
  })
})
