/**
 * The processes of a swarm under test: the same command line that anybody types, with `--json`, started, stopped, frozen
 * and killed from outside, always with the same home. They end when this process does: each watches its standard
 * input, and one that is frozen is thawed by a process of its own, whatever becomes of this one.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, type WriteStream } from 'node:fs'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

export interface ProgramEvent {
  readonly event: string
  readonly [field: string]: unknown
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** The code of the error that it told, if it told one. */
  readonly error: string | undefined
  readonly complaint: string
  /** Whether this process had asked for it. */
  readonly wanted: boolean
  /** Whether it was asked to leave and had to be killed. */
  readonly late: boolean
  /** Whether it had said anything before. */
  readonly spoke: boolean
}

export interface ProgramInit {
  readonly name: string
  readonly arguments: () => readonly string[]
  /** Takes all that it says. */
  readonly logFile: string
  readonly clockFile: string
  readonly onEvent: (event: ProgramEvent) => void
  readonly onExit: (exit: Exit) => void
}

const door = fileURLToPath(new URL('../../bin/groundswell.mjs', import.meta.url))
const clockPreload = new URL('./clock-preload.ts', import.meta.url).href
const complaintLength = 2000
/** After SIGTERM, before SIGKILL. */
const leaveTimeoutMs = 15_000
/** How much later than meant a frozen process is thawed when this one is no longer there to do it. */
const thawAfterMs = 5000

export class Program {
  readonly name: string
  /** Processes that were started. */
  starts = 0
  peakRssBytes = 0
  rssBytes = 0
  private readonly init: ProgramInit
  private readonly log: WriteStream
  private child: ChildProcess | undefined
  private ended: Promise<unknown> = Promise.resolve()
  private unwanted = false
  private spoke = false
  private lateToLeave = false
  private offsetMs = 0
  private thawer: ChildProcess | undefined
  private lastError: string | undefined

  constructor(init: ProgramInit) {
    this.init = init
    this.name = init.name
    this.log = createWriteStream(init.logFile, { flags: 'a' })
  }

  get isRunning(): boolean {
    return this.child !== undefined
  }

  get pid(): number | undefined {
    return this.child?.pid
  }

  get clockOffsetMs(): number {
    return this.offsetMs
  }

  start(): void {
    if (this.child !== undefined) throw new Error(`${this.name} runs already.`)
    this.starts += 1
    this.unwanted = false
    this.spoke = false
    this.lateToLeave = false
    this.lastError = undefined
    const child = spawn(
      process.execPath,
      ['--import', clockPreload, door, ...this.init.arguments(), '--json', '--leave-with-parent'],
      {
        stdio: ['pipe', 'pipe', 'pipe'],
        env: { ...process.env, CHAOS_CLOCK_OFFSET_FILE: this.init.clockFile },
        // Its own group: Ctrl-C reaches this process alone, which then stops the others.
        detached: true,
      },
    )
    this.child = child
    this.note(`started as process ${child.pid}`)
    child.stdin!.on('error', () => {}) // it has gone; its exit is told below
    let complaint = ''
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(-complaintLength)
      this.write(text.trimEnd())
    })
    this.followOutput(child)
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => (complaint += error.message))
      child.once('close', (code, signal) => {
        this.child = undefined
        this.rssBytes = 0
        this.note(`ended with ${signal ?? `code ${code}`}`)
        const error = this.lastError
        const { unwanted: wanted, spoke, lateToLeave: late } = this
        this.init.onExit({ code, signal, error, complaint: complaint.trim(), wanted, late, spoke })
        resolve(undefined)
      })
    })
  }

  async kill(): Promise<void> {
    this.unwanted = true
    this.thaw()
    this.child?.kill('SIGKILL')
    await this.ended
  }

  /** Asks it to leave, and kills it when it does not. */
  async leave(): Promise<void> {
    this.unwanted = true
    this.thaw()
    const { child } = this
    child?.kill('SIGTERM')
    const timer = setTimeout(() => {
      this.lateToLeave = true
      child?.kill('SIGKILL')
    }, leaveTimeoutMs)
    await this.ended
    clearTimeout(timer)
  }

  freeze(durationMs: number): void {
    const pid = this.child?.pid
    if (pid === undefined) return
    this.child!.kill('SIGSTOP')
    this.note('frozen')
    const command = `sleep ${(durationMs + thawAfterMs) / 1000}; kill -CONT ${pid}`
    this.thawer = spawn('sh', ['-c', command], { stdio: 'ignore', detached: true })
    this.thawer.unref()
  }

  thaw(): void {
    if (this.thawer === undefined) return
    this.child?.kill('SIGCONT')
    if (this.thawer.pid !== undefined) process.kill(-this.thawer.pid, 'SIGKILL')
    this.thawer = undefined
    this.note('thawed')
  }

  /** Its wall clock from now on, against this machine's; also when it is started again. */
  async shiftClock(byMs: number): Promise<void> {
    this.offsetMs += byMs
    const next = `${this.init.clockFile}.next`
    await writeFile(next, String(this.offsetMs))
    await rename(next, this.init.clockFile)
    this.note(`clock ${this.offsetMs} ms ahead`)
  }

  /** Reads how much memory it holds, where the system says so. */
  async sampleMemory(): Promise<void> {
    const pid = this.child?.pid
    if (pid === undefined || process.platform !== 'linux') return
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
    const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0)
    this.rssBytes = kib * 1024
    this.peakRssBytes = Math.max(this.peakRssBytes, this.rssBytes)
  }

  /** Writes into its log what happens to it. */
  note(text: string): void {
    this.write(`--- ${text}`)
  }

  async closeLog(): Promise<void> {
    this.log.end()
    await once(this.log, 'close')
  }

  private write(line: string): void {
    this.log.write(`${new Date().toISOString().slice(11, 23)} ${line}\n`)
  }

  private followOutput(child: ChildProcess): void {
    let rest = ''
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        const event = parseEvent(line)
        if (event?.event === 'error') this.lastError = String(event.code)
        if (event?.event !== 'status') this.write(line)
        if (event === undefined) continue
        this.spoke = true
        this.init.onEvent(event)
      }
    })
  }
}

export function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return thrown instanceof Error && 'code' in thrown && thrown.code === 'EPERM'
  }
}

function parseEvent(line: string): ProgramEvent | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && 'event' in value
      ? (value as ProgramEvent)
      : undefined
  } catch {
    return undefined // a line that is no event, such as a warning of a native library
  }
}
