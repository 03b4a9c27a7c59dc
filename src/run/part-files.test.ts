import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { nodeFiles } from './node-files.ts'
import { partOf } from './part-files.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'groundswell-parts-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const save = (name = 'weights'): Promise<void> => nodeFiles().write(join(folder, name), [Uint8Array.of(1)])
const hourAgo = (): Date => new Date(Date.now() - 3_600_000)
/** A part that nobody has written to for so long. */
const part = async (name: string, writtenAt = new Date()): Promise<string> => {
  await writeFile(join(folder, name), 'half')
  await utimes(join(folder, name), writtenAt, writtenAt)
  return name
}
const ofProcess = (pid: number): string => basename(partOf('weights')).replace(`-${process.pid}-`, `-${pid}-`)

test('what a process that was killed left behind goes with the next write of the same name', async () => {
  const script = `import { nodeFiles } from ${JSON.stringify(join(import.meta.dirname, 'node-files.ts'))}
    function* endless() { for (;;) { yield new Uint8Array(1 << 12); process.stdout.write('.') } }
    await nodeFiles().write(${JSON.stringify(join(folder, 'weights'))}, endless())`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script])
  await once(child.stdout, 'data')
  await save() // while the other one is writing
  expect((await readdir(folder)).filter((name) => name.endsWith('.part'))).toHaveLength(1)
  child.kill('SIGKILL')
  await once(child, 'close')
  await save('other')
  expect(await readdir(folder)).toHaveLength(3)
  await save()
  expect(await readdir(folder)).toEqual(['other', 'weights'])
})

test('parts of living processes, of other machines and of other names stay', async () => {
  const kept = [
    await part(ofProcess(process.ppid), hourAgo()),
    await part(ofProcess(process.pid)),
    await part('weights.elsewhere-1-0a1b2c3d.part'),
    await part('weights.0a1b2c3d.part'),
    await part('weights.index.0a1b2c3d.part', hourAgo()),
    await part('weights.of-somebody.part', hourAgo()),
    await part('weights', hourAgo()),
  ]
  await mkdir(join(folder, 'weights.folder'))
  await save()
  expect(await readdir(folder)).toEqual([...kept, 'weights.folder'].sort())
})

test('parts of earlier versions and of other machines go when nobody writes to them any more', async () => {
  await part('weights.0a1b2c3d.part', hourAgo())
  await part('weights.elsewhere-1-0a1b2c3d.part', hourAgo())
  await part(ofProcess(process.pid), hourAgo()) // of a process that had this one’s number before
  await save()
  expect(await readdir(folder)).toEqual(['weights'])
})
