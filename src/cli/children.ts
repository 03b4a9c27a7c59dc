/**
 * Child processes: the same program with the same commands that anybody would type, started with `--json` so that
 * this process can follow them. They share its fate: each watches its standard input, which closes when this process
 * ends, however it ends.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { GroundswellError } from '../core/index.ts'
import type { OutputEvent } from './output.ts'

export interface ChildCommand {
  readonly name: string
  readonly arguments: readonly string[]
  readonly onEvent: (event: OutputEvent) => void
}

export interface ChildExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** What it said last on standard error. */
  readonly complaint: string
}

export interface Child {
  readonly name: string
  readonly pid: number | undefined
  readonly exited: Promise<ChildExit>
  kill(signal: NodeJS.Signals): void
}

const limits = { lineLength: 1_000_000, complaintLength: 2_000 } as const

export function startChild(command: ChildCommand): Child {
  const door = fileURLToPath(new URL('../../bin/groundswell.mjs', import.meta.url))
  const child = spawn(process.execPath, [door, ...command.arguments, '--json', '--leave-with-parent'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    // Its own group: Ctrl-C reaches this process alone, which then stops the others in order.
    detached: process.platform !== 'win32',
  })
  forEachLine(child, command)
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-limits.complaintLength)
  })
  // A child that is gone no longer reads; its exit is reported below.
  child.stdin.on('error', () => {})
  const exited = new Promise<ChildExit>((resolve) => {
    child.once('error', (error) => resolve({ code: null, signal: null, complaint: error.message }))
    child.once('close', (code, signal) => resolve({ code, signal, complaint: complaint.trim() }))
  })
  return { name: command.name, pid: child.pid, exited, kill: (signal) => void child.kill(signal) }
}

/** The error for a child that ended although it was still needed. */
export function unexpectedExit(name: string, exit: ChildExit): GroundswellError {
  const how = exit.signal === null ? `with code ${exit.code ?? '?'}` : `by ${exit.signal}`
  const said = exit.complaint.split('\n')[0] ?? ''
  return new GroundswellError(`The ${name} ended ${how}${said === '' ? '.' : `: ${said}`}`, {
    code: 'process/ended',
    remedy: 'Look at “groundswell doctor”, then try again.',
  })
}

function forEachLine(child: ChildProcess, command: ChildCommand): void {
  let rest = ''
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    if (rest.length > limits.lineLength) rest = ''
    for (const line of lines) {
      const event = parseEvent(line)
      if (event !== undefined) command.onEvent(event)
    }
  })
}

function parseEvent(line: string): OutputEvent | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && 'event' in value
      ? (value as OutputEvent)
      : undefined
  } catch {
    return undefined // a line that is no event, such as a warning of a native library
  }
}

/** Runs a command to its end, and gives its last event. */
export async function runChild(command: ChildCommand & { signal: AbortSignal }): Promise<OutputEvent> {
  let done: OutputEvent | undefined
  const child = startChild({
    ...command,
    onEvent: (event) => {
      if (event.event === 'done') done = event
      command.onEvent(event)
    },
  })
  const stop = (): void => child.kill('SIGTERM')
  command.signal.addEventListener('abort', stop, { once: true })
  if (command.signal.aborted) stop()
  const exit = await child.exited
  command.signal.removeEventListener('abort', stop)
  command.signal.throwIfAborted()
  if (exit.code !== 0 || done === undefined) throw unexpectedExit(command.name, exit)
  return done
}
