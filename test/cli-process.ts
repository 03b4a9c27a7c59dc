/** Running the program as a person or a script would: its own process, its output, its exit code. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

interface CliEvent {
  readonly event: string
  readonly [field: string]: unknown
}

export interface CliResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  /** The JSON lines of standard output. */
  readonly events: CliEvent[]
  readonly last: CliEvent
}

export interface RunningCli {
  readonly process: ChildProcess
  readonly ended: Promise<CliResult>
  /** The first event from now on, or already said, that satisfies. */
  event(satisfies: (event: CliEvent) => boolean): Promise<CliEvent>
}

const door = join(import.meta.dirname, '..', 'bin', 'groundswell.mjs')

interface CliOptions {
  readonly cwd?: string
  /** Put before the command, as to run it in a network namespace. */
  readonly prefix?: readonly string[]
}

export function startCli(arguments_: readonly string[], options: CliOptions = {}): RunningCli {
  const [command = '', ...rests] = [...(options.prefix ?? []), process.execPath, door, ...arguments_]
  const child = spawn(command, rests, {
    cwd: options.cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const events: CliEvent[] = []
  const waiters = new Set<() => void>()
  let stdout = ''
  let stderr = ''
  let rest = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    for (const line of lines) if (line.startsWith('{')) events.push(JSON.parse(line) as CliEvent)
    for (const look of [...waiters]) look()
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const ended = new Promise<CliResult>((resolve) => {
    child.once('close', (code) => {
      resolve({ code, stdout, stderr, events, last: events.at(-1) ?? { event: 'nothing' } })
      for (const look of [...waiters]) look()
    })
  })
  return {
    process: child,
    ended,
    event: (satisfies) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = events.find(satisfies)
          const over = child.exitCode !== null || child.signalCode !== null
          if (found === undefined && !over) return
          waiters.delete(look)
          if (found !== undefined) resolve(found)
          else reject(new Error(`ended without that event\n${stdout}\n${stderr}`))
        }
        waiters.add(look)
        look()
      }),
  }
}

export function runCli(arguments_: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return startCli(arguments_, options).ended
}

export interface Scratch extends AsyncDisposable {
  readonly path: string
  /** Writes a file below the folder, and gives its path. */
  write(name: string, content: string | Uint8Array): Promise<string>
}

/** An empty folder that is removed at the end. */
export async function scratch(): Promise<Scratch> {
  const path = await mkdtemp(join(tmpdir(), 'groundswell-test-'))
  return {
    path,
    write: async (name, content) => {
      await writeFile(join(path, name), content)
      return join(path, name)
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  }
}

/** A model so small that a hundred steps take a moment. */
export const tinyRun = {
  model: { layers: 1, hiddenSize: 16, intermediateSize: 32, attentionHeads: 2 },
  training: {
    steps: 30,
    batchSize: 2,
    sequenceLength: 16,
    evaluateEvery: 0,
    evaluationBatches: 2,
    checkpointEvery: 0,
  },
  runtime: { backend: 'cpu', threads: 1 },
}

/** Text that repeats enough to be learnt from. */
export function someText(): string {
  return Array.from({ length: 400 }, (_, i) => `The swell rose ${i} times before the ground gave way.`).join(
    '\n',
  )
}
