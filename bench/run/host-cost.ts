/**
 * What a whole host costs: the one that `groundswell host` runs, with its log in SQLite and its blobs in memory, whose members
 * sit in the same process on a network in memory. In a round every member asks for the run as it concerns it and reports an
 * update of about a kilobyte; the host checks both signatures, signs two answers, fetches, decodes, judges and stores the
 * update, appends it to the log, and merges. The messages are signed beforehand and their answers not opened, so that next
 * to nothing of the members' own work is in the figures.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { z } from 'zod'
import { type Clock, seededRandom, VirtualClock } from '../../src/core/index.ts'
import { type Host, openHost } from '../../src/run/host.ts'
import { replay, sqliteLog } from '../../src/run/index.ts'
import type { RunState } from '../../src/run/state.ts'
import { toyLayout, toyManifest } from '../../src/run/swarm-fixture.ts'
import {
  type Blobs,
  type Identity,
  identityFromSeed,
  MemoryNetwork,
  memoryBlobs,
  memoryTransport,
  messageProtocol,
  type PeerId,
  PeerLedger,
  pruneBlobs,
  putArtifact,
  serveBlobs,
  signedMessages,
  type Transport,
} from '../../src/swarm/index.ts'
import { createSyncMethod, type SyncMethod } from '../../src/sync/index.ts'
import { heldBytes } from '../../test/held-bytes.ts'

export interface HostCost {
  /** Processor time of its thread, collecting garbage included as far as it stops it, per member and round. */
  readonly microseconds: number
  /** Kept by the host between two rounds, per member. */
  readonly hostBytes: number
}

/** Members that speak at the same time. */
const atATime = 50
/** Of them a host lets in so many strangers in a second. */
const joinsPerSecond = 200

/** Measured in a process of its own, whose heap holds nothing else. */
export async function measureHostCost(members: number, rounds: number): Promise<HostCost> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...['--no-warnings', import.meta.filename, String(members), String(rounds)],
  ])
  return JSON.parse(stdout) as HostCost
}

async function measureHere(members: number, rounds: number): Promise<HostCost> {
  // for the compiler
  const warmUp = Math.max(1, Math.round(2000 / members))
  const clock = new VirtualClock()
  const network = new MemoryNetwork({ clock })
  const blobs = memoryBlobs()
  const log = sqliteLog(':memory:')
  const identity = identityFromSeed(seedOf(0))
  const manifest = await toyManifest(blobs, {
    rounds: {
      ...{
        rounds: warmUp + rounds + 1,
        minimumPeers: members,
        maximumPeers: Math.max(members, 2),
        warmupMs: 0,
      },
      ...{ quorum: 1, graceMs: 3_600_000, maxRoundMs: 3_600_000, vanishAfterMs: 3_600_000 },
    },
  })
  const company = new Company(members, network, createSyncMethod(manifest.sync))
  const before = await heldBytes()
  const transport = memoryTransport({ self: identity.peerId, network })
  const host = await openHost({
    ...{ manifest, transport, signer: identity.signer, blobs, log, clock },
    ...{ session: seedOf(1).subarray(0, 16), seed: 'bench' },
  })
  try {
    await company.join(host, transport, clock)
    let spentMicroseconds = 0
    for (let round = -warmUp; round < rounds; round++) {
      await clock.advance(1000)
      await company.prepare(await replay(log))
      const start = process.threadCpuUsage()
      await company.speak(host)
      const { user, system } = process.threadCpuUsage(start)
      if (round >= 0) spentMicroseconds += user + system
      await company.forget()
    }
    const hostBytes = ((await heldBytes()) - before) / members
    return { microseconds: spentMicroseconds / members / rounds, hostBytes }
  } finally {
    await host.stop()
    await log.close()
    await company.stop()
    await transport.stop()
  }
}

interface Prepared {
  readonly watch: Uint8Array
  readonly report: Uint8Array
}

/** All members, each with a key, a transport and one update at a time. */
class Company {
  private readonly transports: readonly Transport[]
  private readonly identities: readonly Identity[]
  private readonly method: SyncMethod
  private readonly blobs: Blobs
  private prepared: Prepared[] = []
  private sign!: readonly ((kind: string, body: unknown) => Promise<Uint8Array>)[]
  private hostPeer!: PeerId

  constructor(count: number, network: MemoryNetwork, method: SyncMethod) {
    const identities = Array.from({ length: count }, (_, i) => identityFromSeed(seedOf(i + 2)))
    this.identities = identities
    this.method = method
    this.blobs = memoryBlobs()
    this.transports = identities.map(({ peerId: self }) => memoryTransport({ self, network }))
    for (const transport of this.transports) serveBlobs(transport, this.blobs)
  }

  async join(host: Host, hostTransport: Transport, clock: VirtualClock): Promise<void> {
    this.hostPeer = hostTransport.self
    this.sign = this.identities.map((identity) => envelopeMaker(identity, host, hostTransport.self, clock))
    for (const [i, transport] of this.transports.entries()) {
      if (i % joinsPerSecond === 0) await clock.advance(1000)
      await transport.dial(hostTransport.addresses[0]!)
      await this.ask(
        i,
        await this.sign[i]!('join', { name: `member ${i}`, addresses: ['/ip4/10.1.2.3/tcp/4001'] }),
      )
    }
    for (const i of this.transports.keys())
      await this.ask(i, await this.sign[i]!('ready', { stepsPerSecond: 5 }))
  }

  /** Makes what everybody says in the open round. */
  async prepare(state: RunState): Promise<void> {
    const { method, blobs } = this
    const zeros = new Float32Array(toyLayout.totalSize)
    const [initial, local] = [method.createState(toyLayout, zeros), method.createLocal(toyLayout)]
    for (const [i, { peerId }] of this.identities.entries()) {
      const { round, steps } = state.members.get(peerId)!.lease!
      const random = seededRandom('host cost', round, i)
      const values = zeros.map(() => random.nextNormal() / 1000)
      const { bytes } = method.encodeUpdate(
        { state: initial, local, round, values, learningRate: 1e-3 },
        toyLayout,
      )
      const update = await putArtifact(blobs, bytes)
      const progress = {
        phase: 'training',
        round,
        step: 1,
        loss: 2,
        tokensPerSecond: 9,
        sentBytes: 1,
        receivedBytes: 1,
      }
      const held = state.checkpoint
      const sign = this.sign[i]!
      this.prepared.push({
        watch: await sign('watch', { version: 0, held, progress }),
        report: await sign('report', { round, update, steps, tokens: steps * state.batchTokens, loss: 2.5 }),
      })
    }
  }

  /** Everybody asks and reports; resolves when the host has merged that and opened the next round. */
  async speak(host: Host): Promise<void> {
    const { round } = host.status()
    const { promise: merged, resolve } = Promise.withResolvers<void>()
    const stopListening = host.onChange(() => {
      if (host.checkpoint().round === round) resolve()
    })
    for (const kind of ['watch', 'report'] as const) {
      for (let start = 0; start < this.prepared.length; start += atATime) {
        const some = this.prepared.slice(start, start + atATime)
        await Promise.all(some.map((each, i) => this.ask(start + i, each[kind])))
      }
    }
    await merged
    stopListening()
  }

  async forget(): Promise<void> {
    this.prepared = []
    await pruneBlobs(this.blobs, new Set())
  }

  async stop(): Promise<void> {
    for (const transport of this.transports) await transport.stop()
  }

  private async ask(i: number, envelope: Uint8Array): Promise<void> {
    await this.transports[i]!.request(this.hostPeer, messageProtocol, envelope, { maxReplyBytes: 2 ** 20 })
  }
}

/** Signs what a member says and keeps it instead of sending it. */
function envelopeMaker(
  { peerId, signer }: Identity,
  host: Host,
  to: PeerId,
  clock: Clock,
): (kind: string, body: unknown) => Promise<Uint8Array> {
  let caught: Uint8Array | undefined
  const catcher: Transport = {
    ...{ self: peerId, addresses: [], ledger: new PeerLedger() },
    dial: () => Promise.reject(new Error('nobody is dialled')),
    handle: () => undefined,
    request: async (_peer, _protocol, bytes) => {
      caught = bytes
      throw new Error('kept')
    },
    stop: async () => undefined,
  }
  const messages = signedMessages({
    ...{ transport: catcher, signer, runId: host.runId, clock, session: new Uint8Array(16) },
  })
  return async (kind, body) => {
    await messages.signedRequest(to, { kind, body, reply: z.null() }).catch(() => undefined)
    return caught!
  }
}

function seedOf(n: number): Uint8Array {
  const seed = new Uint8Array(32)
  new DataView(seed.buffer).setUint32(0, n)
  return seed
}

if (import.meta.main) {
  const [members, rounds] = process.argv.slice(2).map(Number)
  process.stdout.write(JSON.stringify(await measureHere(members!, rounds!)))
}
