import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openFreeHome, openHome } from './home.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'groundswell-home-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const lockedBy = (text: string): Promise<void> => writeFile(join(folder, 'lock'), text)

test('a home is free again when its owner has put it back', async () => {
  await using home = await openHome(folder)
  expect(home.folder).toBe(folder)
  await expect(openHome(folder)).rejects.toMatchObject({ code: 'home/in-use' })
  await home[Symbol.asyncDispose]()
  await using again = await openHome(folder)
  expect(again.folder).toBe(folder)
})

test('a living process keeps its home to itself; another peer takes the folder beside it', async () => {
  const stat = await readFile(`/proc/${process.ppid}/stat`, 'utf8').catch(() => '')
  const start = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  await lockedBy(`${process.ppid} ${start}`)
  await expect(openHome(folder)).rejects.toMatchObject({ code: 'home/in-use' })
  await using beside = await openFreeHome(folder)
  expect(beside.folder).toBe(`${folder}-2`)
  await rm(beside.folder, { recursive: true })
})

test.each([
  ['is gone', '2147483646 1'],
  ['had the number that this process has now, as in a container that was started anew', `${process.pid}`],
  ['wrote nothing before it was killed', ''],
])('a lock whose owner %s does not count', async (_, text) => {
  await lockedBy(text)
  await using home = await openHome(folder)
  expect(home.folder).toBe(folder)
})

test.runIf(process.platform === 'linux').each([process.pid, process.ppid])(
  'nor does one that began at another time than process %d',
  async (pid) => {
    await lockedBy(`${pid} 1`)
    await using home = await openHome(folder)
    expect(home.folder).toBe(folder)
  },
)
