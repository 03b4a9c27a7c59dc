/**
 * A node in a process of its own, for tests and benchmarks between real processes: a relay, a peer that serves an
 * artifact, or one that fetches it. Started by `startNode`; says in a line of JSON what it is or has done, and ends
 * when its standard input ends, as it does when whoever started it dies.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type Cid, messageOf, parseCid, seededRandom } from '../src/core/index.ts'
import {
  fetchArtifact,
  type Identity,
  identityFromSeed,
  libp2pTransport,
  memoryBlobs,
  putArtifact,
  readArtifact,
  serveBlobs,
  startRelay,
} from '../src/swarm/index.ts'

export type NodeJob =
  | { readonly role: 'relay'; readonly name: string; readonly listen: readonly string[] }
  | {
      readonly role: 'serve'
      readonly name: string
      readonly sizeBytes: number
      readonly listen?: readonly string[]
      readonly relays?: readonly string[]
    }
  | {
      readonly role: 'fetch'
      readonly name: string
      /** Where the sources are dialled; one that cannot be reached within `dialTimeoutMs` ends the job. */
      readonly from: readonly string[]
      readonly root: string
      readonly maxBytes: number
      readonly dialTimeoutMs?: number
    }

export interface Said {
  /** Of a relay or a serving node. */
  readonly addresses?: readonly string[]
  readonly root?: string
  /** Of a fetching node: the fetch alone, dialling done. */
  readonly milliseconds?: number
  readonly sizeBytes?: number
  readonly duplicateBytes?: number
  readonly sources?: readonly { readonly receivedBytes: number }[]
  readonly failures?: number
  /** The processor's time of the whole process, and its largest memory. */
  readonly cpuMs?: number
  readonly peakRssBytes?: number
  /** Why it could not do its job. */
  readonly error?: string
}

export interface SwarmNode extends AsyncDisposable {
  readonly process: ChildProcess
  /** What it said once it was ready, or done. */
  readonly said: Said
}

/** Starts a node; `prefix` is a command that runs another, as `ip netns exec NAME` does. */
export async function startNode(job: NodeJob, prefix: readonly string[] = []): Promise<SwarmNode> {
  const command = [...prefix, process.execPath, fileURLToPath(import.meta.url), JSON.stringify(job)]
  const child = spawn(command[0]!, command.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const end = async (): Promise<void> => {
    child.stdin.end()
    const late = setTimeout(() => child.kill('SIGKILL'), 5000)
    await ended
    clearTimeout(late)
  }
  for await (const line of createInterface({ input: child.stdout })) {
    return { process: child, said: JSON.parse(line) as Said, [Symbol.asyncDispose]: end }
  }
  await end()
  throw new Error(`The node ${job.name} ended before it was ready.`)
}

function identityOf(name: string): Identity {
  const random = seededRandom('swarm process', name)
  return identityFromSeed(Uint8Array.from({ length: 32 }, () => random.nextInt(256)))
}

/** Content of which no two chunks are the same, and the same in every process. */
function contentOf(sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes)
  const random = seededRandom('content', sizeBytes)
  for (let at = 0; at < sizeBytes; at += 4096) bytes[at] = random.nextInt(256)
  return bytes
}

interface Running {
  readonly said: Said
  readonly stop: () => Promise<void>
}

async function run(job: NodeJob): Promise<Running> {
  const identity = identityOf(job.name)
  if (job.role === 'relay') {
    const relay = await startRelay({ identity, listen: job.listen })
    return { said: { addresses: relay.addresses }, stop: () => relay.stop() }
  }
  const blobs = memoryBlobs()
  if (job.role === 'serve') {
    const { listen = [], relays = [] } = job
    const root = await putArtifact(blobs, contentOf(job.sizeBytes))
    const transport = await libp2pTransport({ identity, listen, relays })
    serveBlobs(transport, blobs)
    return { said: { root, addresses: transport.addresses }, stop: () => transport.stop() }
  }
  const transport = await libp2pTransport({ identity })
  const root: Cid = parseCid(job.root)
  const { maxBytes, dialTimeoutMs: timeoutMs = 20_000 } = job
  const sources = await Promise.all(job.from.map((address) => transport.dial(address, { timeoutMs })))
  const from = performance.now()
  const report = await fetchArtifact({ transport, blobs, sources, root, maxBytes })
  const milliseconds = performance.now() - from
  const whole = await readArtifact(blobs, root, { maxBytes })
  if (Buffer.compare(whole, contentOf(whole.byteLength)) !== 0) throw new Error('Something else came.')
  const { user, system } = process.cpuUsage()
  const said: Said = {
    milliseconds,
    sizeBytes: report.sizeBytes,
    duplicateBytes: report.duplicateBytes,
    sources: report.sources,
    failures: report.failures.length,
    cpuMs: (user + system) / 1000,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  }
  return { said, stop: () => transport.stop() }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const say = (said: Said): unknown => process.stdout.write(`${JSON.stringify(said)}\n`)
  try {
    const { said, stop } = await run(JSON.parse(process.argv[2]!) as NodeJob)
    say(said)
    process.stdin.resume().once('end', () => void stop().finally(() => process.exit()))
  } catch (thrown) {
    say({ error: messageOf(thrown) })
    process.exit(1)
  }
}
