/**
 * The files in which a write is under way, `NAME.HOST-PID-RANDOM.part`. A process that is killed in the middle cannot
 * take its own away, so the next write of the same name does, by the process that a part names.
 */
import { readdir, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, dirname, join } from 'node:path'

/** A part of which nobody here can tell whose it is counts as left when nobody has written to it for so long. */
const abandonedMs = 15 * 60_000

/** Where the new content of `path` is gathered. */
export function partOf(path: string): string {
  return `${path}.${thisHost()}-${process.pid}-${crypto.randomUUID().slice(0, 8)}.part`
}

/** Takes away what writes of `path` left behind that will never be finished; what cannot be taken away stays. */
export async function removeLeftParts(path: string): Promise<void> {
  const prefix = `${basename(path)}.`
  const folder = dirname(path)
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.startsWith(prefix)) continue
    // Earlier versions wrote the random part alone.
    const owner = /^(?:(\w+)-(\d+)-)?[0-9a-f]{8}\.part$/.exec(name.slice(prefix.length))
    if (owner === null) continue
    const part = join(folder, name)
    const writtenMs = await stat(part).then(
      ({ mtimeMs }) => mtimeMs,
      () => undefined, // finished meanwhile
    )
    if (writtenMs === undefined) continue
    const [, host, pid] = owner
    const isLeft =
      host === thisHost() ? !mayStillWrite(Number(pid), writtenMs) : Date.now() - writtenMs > abandonedMs
    if (isLeft) await rm(part, { force: true }).catch(() => undefined)
  }
}

/** The number of a process is given again, in a container that is started anew often to the one that looks. */
function mayStillWrite(pid: number, writtenMs: number): boolean {
  if (pid === process.pid) return writtenMs >= performance.timeOrigin
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return thrown instanceof Error && 'code' in thrown && thrown.code === 'EPERM'
  }
}

/** A folder may be shared by machines, whose processes have the same numbers. */
function thisHost(): string {
  return hostname().replace(/\W/g, '').slice(0, 24) || 'host'
}
