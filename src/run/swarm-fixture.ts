/**
 * A whole swarm in one process for tests: hosts and peers on a network in memory, with a model that learns something
 * without an engine.
 */
import { randomBytes } from 'node:crypto'
import { type Clock, seededRandom, systemClock } from '../core/index.ts'
import { encodeManifest } from '../data/index.ts'
import { type LlamaConfig, layoutOf, llamaConfig, type ParameterLayout } from '../model/index.ts'
import {
  type Blobs,
  type Identity,
  identityFromSeed,
  type JoinLink,
  MemoryNetwork,
  memoryBlobs,
  memoryTransport,
  putArtifact,
  type Transport,
} from '../swarm/index.ts'
import { createSyncMethod, type SyncSettings, syncSettingsSchema } from '../sync/index.ts'
import { optimiserSchema, scheduleSchema } from '../train/index.ts'
import { type Host, type HostInit, openHost } from './host.ts'
import { HostClient } from './host-client.ts'
import type { Workload } from './inner-trainer.ts'
import type { LocalStore } from './local-store.ts'
import { type Log, memoryLog } from './log.ts'
import type { Manifest } from './manifest.ts'
import type { PeerEvent, PeerResult } from './peer-status.ts'
import { type RoundPolicy, roundPolicySchema } from './policy.ts'
import { TrainerPeer } from './trainer-peer.ts'

const toyModel: LlamaConfig = llamaConfig({
  vocabularySize: 16,
  hiddenSize: 8,
  intermediateSize: 8,
  layers: 1,
  attentionHeads: 2,
})
export const toyLayout: ParameterLayout = layoutOf(toyModel)

/** A policy that loses patience soon, for tests in which somebody is missing. */
export const impatient: Partial<RoundPolicy> = { graceMs: 200, vanishAfterMs: 600 }

export interface SwarmOptions {
  readonly rounds?: Partial<RoundPolicy>
  /** A whole method, or DiLoCo with some settings changed. */
  readonly sync?: Partial<SyncSettings>
  readonly network?: MemoryNetwork
  /** Of the host. */
  readonly host?: Pick<Partial<HostInit>, 'clock' | 'judge' | 'owners' | 'lease'>
}

const normals = (scale: number, ...seed: (string | number)[]): Float32Array => {
  const random = seededRandom(...seed)
  return Float32Array.from({ length: toyLayout.totalSize }, () => random.nextNormal() * scale)
}

/** What all peers learn: the loss is the mean squared distance to it, and every batch sees it through noise. */
const target = normals(1, 'toy', 'target')

export interface ToyOptions {
  /** How long a step takes, at least; what a function returns may change while the peer works. */
  readonly stepMs?: number | (() => number)
  /** Waited for before every step that is not thrown away. */
  readonly beforeStep?: () => Promise<unknown>
  /** Told of every step that is not thrown away: its batch and its place in the schedule. */
  readonly onStep?: (batch: number, scheduleStep: number, rateScale: number) => void
}

/** Gradient descent on a noisy quadratic; `stepMs` makes it slow. */
export function toyWorkload(options: ToyOptions = {}): Workload {
  const { onStep } = options
  let parameters = new Float32Array(toyLayout.totalSize)
  let begun = false
  const gradientOf = async (batch: number): Promise<{ loss: number; gradient: Float32Array }> => {
    const stepMs = typeof options.stepMs === 'function' ? options.stepMs() : options.stepMs
    if (stepMs !== undefined) await systemClock().sleep(stepMs)
    if (begun) await options.beforeStep?.()
    const noise = normals(0.3, 'toy', 'noise', batch)
    let loss = 0
    const gradient = parameters.map((value, i) => {
      loss += (value - target[i]!) ** 2 / toyLayout.totalSize
      return value - target[i]! - noise[i]!
    })
    return { loss, gradient }
  }
  return {
    batch: (number) => Int32Array.of(number),
    trainer: {
      step: async (tokens, { scheduleStep, rateScale }) => {
        const { loss, gradient } = await gradientOf(tokens[0]!)
        parameters = parameters.map((value, i) => value - 0.2 * rateScale * gradient[i]!)
        if (begun) onStep?.(tokens[0]!, scheduleStep, rateScale)
        return { loss, tokens: 8 }
      },
      gradient: async (tokens) => {
        const { loss, gradient } = await gradientOf(tokens[0]!)
        return { loss, tokens: 8, gradient }
      },
      parameters: async () => parameters.slice(),
      setParameters: async (flat) => {
        begun = true
        parameters = flat.slice()
      },
      reset: async () => undefined,
    },
  }
}

/** The distance of parameters from what is to be learnt. */
export function toyLoss(parameters: Float32Array): number {
  return parameters.reduce((sum, value, i) => sum + (value - target[i]!) ** 2 / toyLayout.totalSize, 0)
}

export const identityNumbered = (n: number): Identity => identityFromSeed(new Uint8Array(32).fill(n))

export interface Member {
  readonly identity: Identity
  readonly transport: Transport
  readonly blobs: Blobs
  readonly peer: TrainerPeer
  readonly events: PeerEvent[]
  readonly result: Promise<PeerResult>
  /** Asks it to leave. */
  readonly leave: () => void
  /** As SIGKILL would: nothing is sent any more, nothing answered. */
  readonly kill: () => Promise<void>
}

export interface JoinOptions extends ToyOptions {
  readonly clock?: Clock
  readonly workload?: Workload
  readonly blobs?: Blobs
  readonly localStore?: LocalStore
  readonly onEvent?: (event: PeerEvent) => void
}

export class ToySwarm {
  readonly network: MemoryNetwork
  readonly hostIdentity: Identity = identityNumbered(100)
  readonly hostBlobs: Blobs = memoryBlobs()
  readonly log: Log = memoryLog()
  readonly members: Member[] = []
  manifest!: Manifest
  host!: Host
  hostTransport!: Transport
  private standbyTransport: Transport | undefined
  private readonly clientTransports: Transport[] = []

  private readonly hostOptions: NonNullable<SwarmOptions['host']>

  private constructor(options: SwarmOptions) {
    this.network = options.network ?? new MemoryNetwork()
    this.hostOptions = options.host ?? {}
  }

  static async start(options: SwarmOptions = {}): Promise<ToySwarm> {
    const swarm = new ToySwarm(options)
    swarm.manifest = await toyManifest(swarm.hostBlobs, options)
    await swarm.startHost()
    return swarm
  }

  /** A host on the log and the blobs that are there: at first, or after `killHost`. */
  async startHost(): Promise<void> {
    const { network, hostIdentity, hostBlobs: blobs, log, manifest } = this
    this.hostTransport = memoryTransport({ self: hostIdentity.peerId, network })
    this.host = await openHost({
      manifest,
      blobs,
      log,
      transport: this.hostTransport,
      signer: hostIdentity.signer,
      clock: systemClock(),
      session: randomBytes(16),
      seed: 'toy',
      ...this.hostOptions,
    })
  }

  /** Another host on the same log and blobs, as a standby that takes over; the first one knows nothing of it. */
  async takeOver(): Promise<Host> {
    const identity = identityNumbered(101)
    this.standbyTransport = memoryTransport({ self: identity.peerId, network: this.network })
    return openHost({
      ...{ manifest: this.manifest, blobs: this.hostBlobs, log: this.log, transport: this.standbyTransport },
      ...{ signer: identity.signer, clock: systemClock(), session: randomBytes(16), seed: 'other' },
    })
  }

  /** A client of the host that is no peer of the run. */
  async client(n: number): Promise<HostClient> {
    const { peerId, signer } = identityNumbered(n)
    const transport = memoryTransport({ self: peerId, network: this.network })
    this.clientTransports.push(transport)
    const client = new HostClient({
      ...{ link: this.link, transport, signer, clock: systemClock(), session: randomBytes(16) },
    })
    await client.connect()
    return client
  }

  /** As SIGKILL would: only the log and the blobs remain. */
  async killHost(): Promise<void> {
    await this.hostTransport.stop()
    await this.host.stop()
  }

  get link(): JoinLink {
    return {
      runId: this.host.runId,
      host: this.hostIdentity.peerId,
      addresses: this.hostTransport.addresses,
    }
  }

  join(n: number, options: JoinOptions = {}): Member {
    const identity = identityNumbered(n)
    const transport = memoryTransport({ self: identity.peerId, network: this.network })
    const blobs = options.blobs ?? memoryBlobs()
    const events: PeerEvent[] = []
    const leaving = new AbortController()
    const peer = new TrainerPeer({
      link: this.link,
      transport,
      blobs,
      signer: identity.signer,
      clock: options.clock ?? systemClock(),
      random: seededRandom('toy', n),
      session: randomBytes(16),
      name: `peer ${n}`,
      prepare: async () => options.workload ?? toyWorkload(options),
      onEvent: (event) => {
        events.push(event)
        options.onEvent?.(event)
      },
      firstPatienceMs: 500,
      ...(options.localStore && { localStore: options.localStore }),
    })
    const result = peer.run(leaving.signal)
    result.catch(() => undefined) // whoever is killed does not matter
    const member: Member = {
      ...{ identity, transport, blobs, peer, events, result },
      leave: () => leaving.abort(new Error('asked to leave')),
      kill: async () => {
        await transport.stop()
        leaving.abort(new Error('killed'))
      },
    }
    this.members.push(member)
    return member
  }

  /** Resolves when the host's status satisfies. */
  async until(satisfies: (status: ReturnType<Host['status']>) => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const check = (): void => {
      if (satisfies(this.host.status())) resolve()
    }
    const stop = this.host.onChange(check)
    check()
    await promise
    stop()
  }

  async stop(): Promise<void> {
    for (const member of this.members) member.leave()
    await Promise.allSettled(this.members.map(({ result }) => result))
    await this.host.stop()
    for (const { transport } of this.members) await transport.stop()
    for (const transport of this.clientTransports) await transport.stop()
    await this.standbyTransport?.stop()
    await this.hostTransport.stop()
  }
}

/** Puts what a toy run needs into a store. */
export async function toyManifest(blobs: Blobs, options: SwarmOptions): Promise<Manifest> {
  const sync = syncSettingsSchema.parse(
    options.sync?.method !== undefined
      ? options.sync
      : {
          method: 'diloco',
          innerSteps: 3,
          outerLearningRate: 0.7,
          outerMomentum: 0.6,
          encoding: 'int8',
          ...options.sync,
        },
  )
  const method = createSyncMethod(sync)
  const initial = method.createState(toyLayout, new Float32Array(toyLayout.totalSize))
  return {
    format: 'groundswell/manifest/1',
    name: 'toy',
    model: toyModel,
    tokenizer: await putArtifact(blobs, new TextEncoder().encode('{}')),
    data: await blobs.put(await toyData(blobs), { codec: 'dag-cbor' }),
    programs: {},
    initialCheckpoint: await putArtifact(blobs, method.serialiseState(initial)),
    inner: {
      steps: 100,
      batchSize: 2,
      sequenceLength: 4,
      gradientAccumulation: 1,
      optimiser: optimiserSchema.parse({}),
      schedule: scheduleSchema.parse({}),
    },
    sync,
    seed: 7,
    rounds: roundPolicySchema.parse({
      ...{ rounds: 5, minimumPeers: 3, maximumPeers: 8, warmupMs: 10_000, quorum: 0.67, graceMs: 10_000 },
      ...{ maxRoundMs: 60_000, vanishAfterMs: 20_000, rewarmSteps: 0, maximumNormFactor: 1000 },
      ...options.rounds,
    }),
  }
}

/** One shard of tokens that no toy reads, but a host must not lose. */
export const toyShard: Uint8Array = new Uint8Array(2000).fill(1)

async function toyData(blobs: Blobs): Promise<Uint8Array> {
  const cid = await blobs.put(toyShard)
  const empty = { tokens: 0, runs: 0, textBytes: 0, shards: [] }
  return encodeManifest({
    format: 'groundswell/dataset/1',
    tokenizer: cid,
    vocabularySize: 300,
    endOfTextId: 0,
    bytesPerToken: 2,
    documents: 1,
    heldOut: { rule: 'sha256-of-text', seed: 0, fraction: 0 },
    train: { ...empty, tokens: 1000, shards: [{ cid, tokens: 1000 }] },
    validation: empty,
  })
}

/** A manifest with something in every place. */
export async function exampleManifest(): Promise<Manifest> {
  const blobs = memoryBlobs()
  const program = await putArtifact(blobs, new Uint8Array(4))
  return { ...(await toyManifest(blobs, {})), programs: { 'train-step.portable': program } }
}
