/**
 * The checkpoints and updates that a peer has in its store for others, or for a merge that is under way. They are listed on
 * disk, so that a process drops what the one before it has left, however that ended. Only what is listed is ever dropped,
 * as a folder may serve several runs: what another run lists stays for that run. The list is written several times a
 * round and never flushed, like the blobs that it names: a power failure may cost disk space, but no step waits for a disk.
 */
import { z } from 'zod'
import { type Cid, decodeCanonical, encodeCanonical, GroundswellError } from '../core/index.ts'
import type { Blobs } from '../swarm/index.ts'
import { dropArtifacts } from './artifacts.ts'
import { cidSchema } from './events.ts'
import type { LocalStore } from './local-store.ts'

export interface KeptArtifactsInit {
  readonly blobs: Blobs
  /** Without one an earlier process is not known. */
  readonly store: LocalStore | undefined
  readonly run: Cid
  /** Of the longest artifact. */
  readonly maxBytes: number
}

const format = 'groundswell/kept/1'
/** Some hundred artifacts for each of some runs; a longer list is not read, and costs disk space only. */
const maxListBytes = 1024 * 1024

const listSchema = z.object({ format: z.literal(format), runs: z.record(z.string(), z.array(cidSchema)) })

export class KeptArtifacts {
  private readonly init: KeptArtifactsInit
  private readonly listed = new Set<Cid>()
  private others: Readonly<Record<string, readonly Cid[]>> = {}
  private saving: Promise<void> = Promise.resolve()

  constructor(init: KeptArtifactsInit) {
    this.init = init
  }

  /** Drops what earlier processes of this run have left, except for one artifact; true when that one is among it. */
  async restore(except: Cid): Promise<boolean> {
    const bytes = await this.init.store?.load('kept')
    const { [this.init.run]: left = [], ...others } = bytes === undefined ? {} : decodeList(bytes)
    this.others = others
    for (const cid of left) this.listed.add(cid)
    await this.drop(left.filter((cid) => cid !== except))
    if (left.length > 0) await this.save()
    return this.listed.has(except)
  }

  /** Lists artifacts, those to be fetched before they are. */
  async add(artifacts: Iterable<Cid>): Promise<void> {
    const before = this.listed.size
    for (const cid of artifacts) this.listed.add(cid)
    if (this.listed.size === before) return
    // One after the other, so that the newest list is what stays.
    const saved = this.saving.then(() => this.save())
    this.saving = saved.catch(() => undefined) // told to whoever waits for it
    await saved
  }

  /** Deletes artifacts, except for what others share. The list is not written: what it has too much is just not here. */
  async drop(artifacts: readonly Cid[]): Promise<void> {
    if (artifacts.length === 0) return
    for (const cid of artifacts) this.listed.delete(cid)
    const keep = [...this.listed, ...Object.values(this.others).flat()]
    await dropArtifacts(this.init.blobs, artifacts, { artifacts: keep }, { maxBytes: this.init.maxBytes })
  }

  private async save(): Promise<void> {
    const runs = { ...this.others, [this.init.run]: [...this.listed] }
    await this.init.store?.save('kept', [encodeCanonical({ format, runs })])
  }
}

function decodeList(bytes: Uint8Array): Record<string, Cid[]> {
  try {
    return listSchema.safeParse(decodeCanonical(bytes, maxListBytes)).data?.runs ?? {}
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError)) throw thrown
    return {} // damaged
  }
}
