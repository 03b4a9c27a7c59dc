/**
 * What a host keeps: everything that the manifest names, the updates that count, and the newest merged states. An
 * update of a stranger is fetched into a quarantine of its own and enters the store only when it has proved to be one,
 * so whatever a peer reports, it can neither fill the store nor have anything removed from it.
 */
import { type Cid, type Clock, GroundswellError, inTurns, takingTurns } from '../core/index.ts'
import { parseManifest } from '../data/index.ts'
import { layoutOf } from '../model/index.ts'
import {
  artifactBlobs,
  type Blobs,
  FetchError,
  needBlob,
  type PeerId,
  pruneBlobs,
  putArtifact,
  readArtifact,
  type Transport,
} from '../swarm/index.ts'
import { type Contribution, createSyncMethod, type SyncMethod, type TensorLayout } from '../sync/index.ts'
import { blobsOf, dropArtifacts, longestArtifactBytes, obtainArtifact } from './artifacts.ts'
import { encodeRunManifest, type Manifest, runIdOf } from './manifest.ts'
import { Quarantines } from './quarantines.ts'
import { artifactsOf, type Effect } from './reducer.ts'
import { mergeContextOf } from './schedule-position.ts'
import type { RunState } from './state.ts'
import { Turns } from './turns.ts'

export interface HostStoreInit {
  readonly manifest: Manifest
  readonly transport: Transport
  readonly blobs: Blobs
  readonly clock: Clock
}

const hostStoreLimits = {
  /** Updates being fetched at a time, each held in memory until it is judged: so many, or as many as fit, but some. */
  fetchesAtATime: 32,
  leastAtATime: 4,
  quarantineBytes: 1024 ** 3,
  /** The slowest pace at which an update may come, beyond the first minute. */
  slowestBytesPerSecond: 16_384,
  fetchPatienceMs: 60_000,
  /** After so many fetches in a row that a peer let come to nothing, its update is thrown out. */
  mostWithheld: 2,
  /** Whoever goes away while it is asked has let it come to nothing when nothing has come for so long. */
  silenceMs: 15_000,
} as const

/** An update that was decoded but is not in the store yet. */
export interface DecodedUpdate {
  readonly root: Cid
  readonly bytes: Uint8Array
  readonly decoded: unknown
  readonly norm: number
}

type MergeEffect = Omit<Extract<Effect, { type: 'merge' }>, 'type'>

export class HostStore {
  readonly method: SyncMethod
  readonly layout: TensorLayout
  private readonly init: HostStoreInit
  /** Blobs that the run names: never removed, even where an update shares a chunk with them. */
  private readonly pinned: ReadonlySet<Cid>
  private readonly quarantines: Quarantines
  private readonly turns: Turns
  /** Fetches in a row that a peer let come to nothing. */
  private readonly withheld = new Map<PeerId, number>()
  /** Updates that count and are not merged yet, decoded. */
  private readonly updates = new Map<Cid, unknown>()
  private merged: unknown
  private changes: Promise<unknown> = Promise.resolve()

  private constructor(
    init: HostStoreInit,
    opened: { method: SyncMethod; layout: TensorLayout; pinned: ReadonlySet<Cid>; merged: unknown },
  ) {
    this.init = init
    this.method = opened.method
    this.layout = opened.layout
    this.pinned = opened.pinned
    this.merged = opened.merged
    const { fetchesAtATime, leastAtATime, quarantineBytes } = hostStoreLimits
    const updateBytes = this.method.maximumUpdateBytes(this.layout)
    const fitting = Math.floor(quarantineBytes / updateBytes)
    this.turns = new Turns(Math.max(leastAtATime, Math.min(fetchesAtATime, fitting)))
    this.quarantines = new Quarantines(Math.max(quarantineBytes, leastAtATime * updateBytes))
  }

  /** @throws GroundswellError when something that the manifest names, or the state's checkpoint, is not there */
  static async open(init: HostStoreInit, state: RunState): Promise<HostStore> {
    const { manifest, blobs } = init
    const method = createSyncMethod(manifest.sync)
    const layout = layoutOf(manifest.model)
    const maxBytes = method.stateBytes(layout)
    await blobs.put(encodeRunManifest(manifest), { codec: 'dag-cbor' })
    const { train, validation } = parseManifest(await needBlob(blobs, manifest.data))
    const pinned = new Set([await runIdOf(manifest), manifest.data])
    for (const { cid } of [...train.shards, ...validation.shards]) pinned.add(cid)
    for (const root of [
      manifest.tokenizer,
      manifest.initialCheckpoint,
      ...Object.values(manifest.programs),
    ]) {
      const artifact = await artifactBlobs(blobs, root, { maxBytes: Number.MAX_SAFE_INTEGER })
      for (const cid of artifact) pinned.add(cid)
    }
    const merged = method.parseState(
      await readArtifact(blobs, state.checkpoint.checkpoint, { maxBytes }),
      layout,
    )
    return new HostStore(init, { method, layout, pinned, merged })
  }

  /** The merged parameters. Not to be written to. */
  get parameters(): Float32Array {
    return this.method.parameters(this.merged)
  }

  /**
   * Fetches an update from the peer that reports it, and decodes it.
   * @throws GroundswellError `artifact/unavailable` for trouble on the way; `update/not-given` when the peer lets that
   *   happen again and again; others for what is no update of this run
   */
  async fetchUpdate(from: PeerId, root: Cid, signal: AbortSignal): Promise<DecodedUpdate> {
    const { transport, clock } = this.init
    const { fetchPatienceMs, slowestBytesPerSecond, silenceMs } = hostStoreLimits
    this.throwIfWithheld(from, root) // the last time it went away before it could be told
    await this.turns.take(signal)
    const stop = new AbortController()
    let newestAtMs = clock.steady()
    const blobs = this.quarantines.enter(from, root, () => {
      newestAtMs = clock.steady()
    })
    const maxBytes = this.method.maximumUpdateBytes(this.layout)
    const patience = clock
      .sleep(fetchPatienceMs + (1000 * maxBytes) / slowestBytesPerSecond, stop.signal)
      .then(
        () => stop.abort(tooSlow(root)),
        () => undefined,
      )
    try {
      const until = AbortSignal.any([signal, stop.signal])
      const bytes = await obtainArtifact({
        ...{ transport, blobs, clock, root, maxBytes },
        signal: until,
        sources: [from],
      })
      this.withheld.delete(from)
      const decoded = this.method.decodeUpdate(bytes, this.layout)
      this.quarantines.drop(from)
      return { root, bytes, decoded, norm: this.method.updateNorm(decoded) }
    } catch (thrown) {
      const unavailable = thrown instanceof GroundswellError && thrown.code === 'artifact/unavailable'
      if (!unavailable && !signal.aborted) {
        this.quarantines.drop(from)
        throw thrown
      }
      this.quarantines.leave(from)
      // A line that breaks does so soon; who breaks it after a long silence could as well have answered.
      const isSilent = clock.steady() - newestAtMs >= silenceMs
      const isWithheld = isSilent || (unavailable && isItsFault(thrown))
      if (isWithheld) this.withheld.set(from, (this.withheld.get(from) ?? 0) + 1)
      if (isWithheld && !signal.aborted) this.throwIfWithheld(from, root)
      throw thrown
    } finally {
      stop.abort()
      await patience
      this.turns.pass()
    }
  }

  /** Puts a judged update into the store: from then on it does not depend on its peer. */
  keepUpdate({ root, bytes, decoded }: DecodedUpdate): Promise<void> {
    return this.inTurn(async () => {
      const stored = await putArtifact(this.init.blobs, bytes)
      if (stored !== root) {
        throw new GroundswellError(`Update ${root} is not cut into chunks as artifacts are.`, {
          code: 'artifact/malformed',
        })
      }
      this.updates.set(root, decoded)
    })
  }

  /** The outer step over what was accepted; the CID of the new checkpoint, which is in the store then. */
  async merge({ round, seed, accepted }: MergeEffect): Promise<Cid> {
    const { blobs, manifest, clock } = this.init
    const { method, layout } = this
    const maxBytes = method.maximumUpdateBytes(layout)
    const contributions: Contribution<unknown>[] = []
    for (const { peer, update: root, weight } of accepted) {
      // After a restart the updates that count are in the store only.
      const update =
        this.updates.get(root) ?? method.decodeUpdate(await readArtifact(blobs, root, { maxBytes }), layout)
      contributions.push({ peer, update, weight })
    }
    const context = { ...mergeContextOf(manifest, method, { round, seed }), self: null }
    const merged = await inTurns(takingTurns(clock), method.merge, this.merged, contributions, context)
    const checkpoint = await putArtifact(blobs, method.serialiseState(merged))
    this.merged = merged
    for (const { update } of accepted) this.updates.delete(update)
    return checkpoint
  }

  /** Removes artifacts, except for what the run names or the state still needs. */
  drop(artifacts: readonly Cid[], newest: () => RunState): Promise<void> {
    return this.inTurn(async () => {
      const needed = artifactsOf(newest())
      const { maxBytes } = this
      const dropped = artifacts.filter((root) => !needed.has(root))
      for (const root of dropped) this.updates.delete(root)
      // Those in `updates` may be about to count.
      const kept = new Set([...needed, ...this.updates.keys()])
      await dropArtifacts(this.init.blobs, dropped, { artifacts: kept, blobs: this.pinned }, { maxBytes })
    })
  }

  /**
   * Removes all that neither the run names nor the state needs: what hosts before had put and were killed before they
   * could drop it. Until the signal, because the store may be that of whoever leads then.
   */
  prune(state: RunState, signal: AbortSignal | undefined): Promise<void> {
    return this.inTurn(async () => {
      const { blobs } = this.init
      const kept = new Set(this.pinned)
      for (const root of artifactsOf(state)) {
        for (const cid of await blobsOf(blobs, root, { maxBytes: this.maxBytes })) kept.add(cid)
      }
      await pruneBlobs(blobs, kept, signal)
    })
  }

  private get maxBytes(): number {
    return longestArtifactBytes(this.method, this.layout)
  }

  /** Forgets what had come from peers that are gone. */
  forgetTransfers(isGone: (peer: PeerId) => boolean): void {
    this.quarantines.forget(isGone)
    for (const peer of this.withheld.keys()) if (isGone(peer)) this.withheld.delete(peer)
  }

  private throwIfWithheld(peer: PeerId, root: Cid): void {
    if ((this.withheld.get(peer) ?? 0) < hostStoreLimits.mostWithheld) return
    this.withheld.delete(peer)
    throw new GroundswellError(
      `The peer has reported update ${root}, and did not give it when it was asked.`,
      {
        code: 'update/not-given',
      },
    )
  }

  /** One change after the other: what is being removed may share chunks with what is being put. */
  private inTurn(change: () => Promise<void>): Promise<void> {
    const changed = this.changes.then(change)
    this.changes = changed.catch(() => undefined)
    return changed
  }
}

/** It does not have what it reported, or was so slow that it might as well not. Lines break and peers are busy without any fault. */
function isItsFault(thrown: GroundswellError): boolean {
  return !(thrown instanceof FetchError) || thrown.failures.some(({ reason }) => reason === 'missing')
}

function tooSlow(root: Cid): GroundswellError {
  return new GroundswellError(`Update ${root} came too slowly.`, {
    code: 'artifact/unavailable',
    remedy: 'Try again over a faster line.',
  })
}
