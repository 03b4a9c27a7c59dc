/**
 * Small disks that can be filled: a tmpfs for each home. Mounting one needs Linux and root; elsewhere homes are plain
 * folders and no disk gets full. A run that was killed cannot unmount, so the next one does it for it.
 */
import { execFile } from 'node:child_process'
import { mkdir, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { isThere } from './processes.ts'

const execute = promisify(execFile)
const ballastChunk = Buffer.alloc(1 << 16, 0x5a)

/** What all work folders of chaos are called, with the process that owns them. */
export function workFolderPrefix(pid: number): string {
  return join(tmpdir(), `groundswell-chaos-${pid}-`)
}

export interface Disk extends AsyncDisposable {
  readonly folder: string
  /** Writes until nothing more fits. */
  fill(): Promise<void>
  free(): Promise<void>
}

/** Whether this process may mount a tmpfs here. */
export async function canMount(folder: string): Promise<boolean> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false
  try {
    const disk = await mountDisk(join(folder, 'probe'), 1 << 20)
    await disk[Symbol.asyncDispose]()
    return true
  } catch {
    return false // a container without the right to mount
  }
}

export async function mountDisk(folder: string, sizeBytes: number): Promise<Disk> {
  await mkdir(folder, { recursive: true })
  await execute('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes},mode=0700`, 'tmpfs', folder])
  const ballast = join(folder, 'ballast')
  return {
    folder,
    fill: async () => {
      await using file = await open(ballast, 'a')
      for (let bytes = ballastChunk.byteLength; bytes >= 1; ) {
        try {
          const { bytesWritten } = await file.write(ballastChunk, 0, bytes)
          if (bytesWritten < bytes) bytes = Math.min(bytes >> 1, ballastChunk.byteLength)
        } catch (thrown) {
          if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOSPC')) throw thrown
          bytes >>= 1
        }
      }
    },
    free: () => rm(ballast, { force: true }),
    [Symbol.asyncDispose]: () => unmount(folder),
  }
}

/** Detaches a mount even when a process still has a file open in it: it is gone with the last of them. */
async function unmount(folder: string): Promise<void> {
  await execute('umount', ['--lazy', folder])
}

/** Removes what runs that were killed have left: mounts and work folders whose process is gone. */
export async function unmountOrphans(): Promise<void> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return
  const prefix = workFolderPrefix(0).replace(/0-$/, '')
  const mounts = (await readFile('/proc/mounts', 'utf8')).split('\n').map((line) => line.split(' ')[1] ?? '')
  for (const folder of mounts.filter((each) => each.startsWith(prefix))) {
    const pid = Number(folder.slice(prefix.length).split('-')[0])
    if (!isThere(pid)) await unmount(folder)
  }
}
