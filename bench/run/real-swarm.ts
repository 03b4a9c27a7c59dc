/**
 * A swarm of real processes on this machine for measuring: one host, peers that come and go, and what each says, with
 * the time at which it was said. The model is so small that computing costs next to nothing.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Child, startChild } from '../../src/cli/children.ts'
import type { OutputEvent } from '../../src/cli/output.ts'

interface Said extends OutputEvent {
  /** Milliseconds since this process began. */
  readonly heardMs: number
}

export interface SwarmSettings {
  readonly steps: number
  readonly innerSteps: number
  readonly minimumPeers: number
  readonly graceSeconds: number
  readonly vanishAfterSeconds: number
  readonly model: { layers: number; hiddenSize: number; intermediateSize: number; attentionHeads: number }
  readonly batchSize: number
  readonly sequenceLength: number
}

export const tinySettings: SwarmSettings = {
  steps: 100_000,
  innerSteps: 4,
  minimumPeers: 1,
  graceSeconds: 1,
  vanishAfterSeconds: 3,
  model: { layers: 1, hiddenSize: 16, intermediateSize: 32, attentionHeads: 2 },
  batchSize: 1,
  sequenceLength: 16,
}

/** One process and everything that it said. */
class Follower {
  readonly child: Child
  readonly said: Said[] = []
  private readonly waiting = new Set<() => void>()

  constructor(name: string, arguments_: readonly string[]) {
    this.child = startChild({
      name,
      arguments: arguments_,
      onEvent: (event) => {
        this.said.push({ ...event, heardMs: performance.now() })
        for (const look of [...this.waiting]) look()
      },
    })
    void this.child.exited.then(() => {
      for (const look of [...this.waiting]) look()
    })
  }

  /** The first thing said since `sinceMs` that satisfies. */
  async hears(satisfies: (event: Said) => boolean, sinceMs = 0): Promise<Said> {
    for (;;) {
      const found = this.said.find((event) => event.heardMs >= sinceMs && satisfies(event))
      if (found !== undefined) return found
      const { promise, resolve } = Promise.withResolvers<void>()
      this.waiting.add(resolve)
      const ended = await Promise.race([this.child.exited, promise])
      this.waiting.delete(resolve)
      if (ended !== undefined) throw new Error(`${this.child.name} ended: ${ended.complaint}`)
    }
  }

  /** Processor time that it has used, in milliseconds; 0 where the system does not tell. */
  async processorMs(): Promise<number> {
    try {
      const fields = (await readFile(`/proc/${this.child.pid}/stat`, 'utf8')).split(') ')[1]!.split(' ')
      return (Number(fields[11]) + Number(fields[12])) * 10 // of 100 ticks a second, as on every Linux
    } catch {
      return 0
    }
  }
}

export class RealSwarm implements AsyncDisposable {
  readonly folder: string
  private readonly runFile: string
  private readonly all: Follower[] = []

  private constructor(folder: string, runFile: string) {
    this.folder = folder
    this.runFile = runFile
  }

  static async prepare(settings: SwarmSettings): Promise<RealSwarm> {
    const folder = await mkdtemp(join(tmpdir(), 'groundswell-bench-'))
    const text = join(folder, 'text.txt')
    const lines = Array.from(
      { length: 4000 },
      (_, i) => `The swell rose ${i} times before the ground gave way.`,
    )
    await writeFile(text, lines.join('\n'))
    const runFile = join(folder, 'run.json') // YAML reads JSON
    await writeFile(
      runFile,
      JSON.stringify({
        model: settings.model,
        data: { path: text },
        training: {
          steps: settings.steps,
          batchSize: settings.batchSize,
          sequenceLength: settings.sequenceLength,
          evaluateEvery: 0,
          evaluationBatches: 1,
        },
        sync: { method: 'diloco', innerSteps: settings.innerSteps, encoding: 'int8' },
        run: {
          name: 'bench',
          minimumPeers: settings.minimumPeers,
          graceSeconds: settings.graceSeconds,
          vanishAfterSeconds: settings.vanishAfterSeconds,
        },
        runtime: { backend: 'cpu', threads: 1 },
        out: join(folder, 'out'),
      }),
    )
    return new RealSwarm(folder, runFile)
  }

  get hostHome(): string {
    return join(this.folder, 'host')
  }

  /** Starts the host, anew or on the home that an earlier one left; the same port gives the same link. */
  startHost(port = 0): Follower {
    return this.follow('host', ['host', this.runFile, '--home', this.hostHome, '--port', `${port}`])
  }

  startPeer(name: string, link: string): Follower {
    const home = join(this.folder, name)
    return this.follow(name, [
      'join',
      link,
      '--name',
      name,
      '--home',
      home,
      '--backend',
      'cpu',
      '--threads',
      '1',
    ])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.all) child.kill('SIGKILL')
    await Promise.all(this.all.map(({ child }) => child.exited))
    await rm(this.folder, { recursive: true, force: true })
  }

  private follow(name: string, arguments_: readonly string[]): Follower {
    const follower = new Follower(name, arguments_)
    this.all.push(follower)
    return follower
  }
}

export const isRound =
  (least: number) =>
  ({ event, round }: Said): boolean =>
    event === 'round' && Number(round) >= least

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted.length === 0 ? Number.NaN : sorted[sorted.length >> 1]!
}
