/**
 * Bringing a fault about, and healing it when its time is over.
 */
import type { Disk } from './disks.ts'
import type { Fault, FaultKind, Target } from './plan.ts'
import type { Program, ProgramEvent } from './processes.ts'
import { goodLine, type LineState, type TcpProxy } from './proxy.ts'

/** A process of the swarm, with all that can be done to it. */
export interface Member {
  readonly program: Program
  readonly target: Target
  readonly home: string
  /** Its home, where this machine allows a disk for it. */
  readonly disk: Disk | undefined
  /** Its ways to the host; of the host, those of all peers. */
  readonly lines: readonly TcpProxy[]
  link: string
  peer: string | undefined
  finished: ProgramEvent | undefined
  lastStatus: ProgramEvent | undefined
  diskIsFull: boolean
  /** Whether it is down, or about to be, on purpose. */
  held: boolean
  /** Until when its disk, and its way to the host, were in trouble; by the clock of `performance`. */
  diskTroubleUntil: number
  lineTroubleUntil: number
}

const hourMs = 3_600_000
/** So that every jump is whole, no clock ever goes further astray. */
const furthestClockMs = 2 * hourMs

/**
 * Brings it about, waits, heals it. Returns false when there was no process to meet.
 * @throws when the wait is aborted; healed all the same
 */
export async function bringAbout(
  fault: Fault,
  member: Member,
  wait: (durationMs: number) => Promise<void>,
): Promise<boolean> {
  const { kind, amount, durationMs } = fault
  const { program, lines } = member
  switch (kind) {
    case 'kill':
    case 'freeze':
    case 'restart':
      if (!program.isRunning) return false
      await disturbProcess(fault, member, wait)
      return true
    case 'clock':
      await program.shiftClock(Math.abs(program.clockOffsetMs + amount) > furthestClockMs ? -amount : amount)
      return true
    case 'disk':
      await fillDisk(fault, member, wait)
      return true
    case 'cut':
      for (const line of lines) line.cut()
      return true
    default:
      member.lineTroubleUntil = performance.now() + durationMs
      for (const line of lines) line.change(badLine(kind, amount))
      try {
        await wait(durationMs)
      } finally {
        for (const line of lines) line.change(goodLine)
      }
      return true
  }
}

async function disturbProcess(
  { kind, durationMs }: Fault,
  member: Member,
  wait: (durationMs: number) => Promise<void>,
): Promise<void> {
  const { program } = member
  member.lineTroubleUntil = performance.now() + durationMs
  member.held = true
  try {
    if (kind === 'freeze') program.freeze(durationMs)
    else if (kind === 'kill') await program.kill()
    else await program.leave()
    await wait(durationMs)
  } finally {
    member.held = false
    if (kind === 'freeze') program.thaw()
  }
  if (!program.isRunning) program.start()
}

async function fillDisk(
  { durationMs }: Fault,
  member: Member,
  wait: (durationMs: number) => Promise<void>,
): Promise<void> {
  member.diskIsFull = true
  member.diskTroubleUntil = performance.now() + durationMs
  try {
    await member.disk!.fill()
    await wait(durationMs)
  } finally {
    await member.disk!.free()
    member.diskIsFull = false
  }
}

function badLine(kind: FaultKind, amount: number): Partial<LineState> {
  switch (kind) {
    case 'delay':
      return { delayMs: amount }
    case 'loss':
      return { lossProbability: amount }
    case 'narrow':
      return { bytesPerSecond: amount }
    case 'stall':
      return { stalled: true }
    case 'partition':
      return { parted: true }
    default:
      throw new TypeError(`“${kind}” is no state of a line`)
  }
}

/** One fault in a few words. */
export function describeFault({ kind, amount, durationMs }: Fault): string {
  const lasting = durationMs === 0 ? '' : ` for ${(durationMs / 1000).toFixed(1)} s`
  const size: Partial<Record<FaultKind, string>> = {
    clock: ` ${amount > 0 ? '+' : '−'}1 h`,
    delay: ` ${Math.round(amount)} ms`,
    loss: ` ${Math.round(100 * amount)} %`,
    narrow: ` ${Math.round(amount / 1000)} kB/s`,
  }
  return `${kind}${size[kind] ?? ''}${lasting}`
}
