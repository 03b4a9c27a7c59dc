/**
 * The folder in which a process keeps its key, its blobs and its log. One process owns it at a time: a lock file
 * names the owner, and one whose process is gone does not count. A number is not enough of a name: it is given again,
 * and in a container that is started anew often to the very process that looks.
 */
import { open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { GroundswellError } from '../core/index.ts'
import { makeFolder, withFileErrors } from '../run/index.ts'

export interface Home extends AsyncDisposable {
  readonly folder: string
}

const maxSiblings = 64

/** @throws GroundswellError `home/in-use` */
export async function openHome(folder: string): Promise<Home> {
  const home = await tryHome(folder)
  if (home !== undefined) return home
  throw new GroundswellError(`Another process is using “${folder}”.`, {
    code: 'home/in-use',
    remedy: 'Stop it first, or choose another folder with --home.',
  })
}

/** The folder, or the first of `folder-2`, `folder-3` … that nobody uses: several peers on one machine. */
export async function openFreeHome(folder: string): Promise<Home> {
  for (let number = 1; number <= maxSiblings; number++) {
    const home = await tryHome(number === 1 ? folder : `${folder}-${number}`)
    if (home !== undefined) return home
  }
  return openHome(folder)
}

async function tryHome(folder: string): Promise<Home | undefined> {
  await withFileErrors(folder, () => makeFolder(folder))
  const lock = join(folder, 'lock')
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      await using file = await open(lock, 'wx')
      await file.writeFile(`${process.pid} ${await startOf(process.pid)}`)
      return { folder, [Symbol.asyncDispose]: () => rm(lock, { force: true }) }
    } catch (thrown) {
      if (!(thrown instanceof Error) || !('code' in thrown) || thrown.code !== 'EEXIST') throw thrown
      if (await isOwned(lock)) return undefined
      await rm(lock, { force: true })
    }
  }
  return undefined
}

/** Whether the process that the lock names is there. An empty lock was left by a crash in the middle of making it. */
async function isOwned(lock: string): Promise<boolean> {
  const [number, start] = (await readFile(lock, 'utf8').catch(() => '')).split(' ')
  const pid = Number(number)
  if (!Number.isSafeInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (thrown) {
    const isForeign = thrown instanceof Error && 'code' in thrown && thrown.code === 'EPERM'
    if (!isForeign) return false
  }
  return start === undefined ? pid !== process.pid : start === (await startOf(pid))
}

/**
 * When the process began, in clock ticks since the system did (the 22nd field of /proc/PID/stat, proc(5)); empty where
 * the system does not say.
 */
async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  // The second field is the program's name in parentheses and may hold anything.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
}
