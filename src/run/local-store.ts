/**
 * Where a peer keeps what only it knows (residuals, momenta) so that a restart with the same identity loses none of it, and
 * counts none of it twice. What an update leaves behind is written before the update is reported, beside what was there before:
 * the host's count of contributions tells which of the two it is, whenever it is heard.
 */
import {
  type Cid,
  decodeCanonical,
  encodeCanonical,
  type Files,
  GroundswellError,
  type Pieces,
} from '../core/index.ts'
import type { SyncMethod, TensorLayout } from '../sync/index.ts'
import type { RunView } from './protocol.ts'

/** Two places: one for what counts, one for what may. */
type Slot = 0 | 1

/** And one for the list of what it keeps for others (kept-artifacts.ts). */
type Place = Slot | 'kept'

export interface LocalStore {
  load(place: Place): Promise<Uint8Array | undefined>
  /**
   * Replaces what was in a place by these pieces as a whole: after a crash the old or the new is there. The list of what
   * is kept may be lost with the power, as what it names may.
   */
  save(place: Place, pieces: Pieces): Promise<void>
}

/** Files in a folder. */
export function fileLocalStore(files: Files, folder: string): LocalStore {
  const pathOf = (place: Place): string => `${folder}/local.${place}.bin`
  return {
    load: async (place) => ((await files.exists(pathOf(place))) ? files.read(pathOf(place)) : undefined),
    save: (place, pieces) => files.write(pathOf(place), pieces, { durable: place !== 'kept' }),
  }
}

export interface LocalMemoryInit {
  /** Without one nothing is kept. */
  readonly store: LocalStore | undefined
  readonly run: Cid
  readonly method: SyncMethod
  readonly layout: TensorLayout
}

/** What the host has to say about a peer's leases. */
type Told = Pick<RunView['you'], 'contributions' | 'lastRound' | 'lastVerdict'>

/** What an update left behind, and what it takes for that to be what counts. */
interface Left {
  /** Of the lease. */
  readonly round: number
  /** Contributions that the host has counted when this one is the newest of them. */
  readonly contributions: number
  /** Another update for the same lease was reported before: the number does not tell which of the two counts. */
  readonly repeated: boolean
  readonly local: unknown
}

/** Where what counts is, and what may come to count. */
interface Pending extends Left {
  readonly slot: Slot
}

export class LocalMemory {
  private readonly init: LocalMemoryInit
  /** Where the next one goes: not where the one that counts is. */
  private next: Slot = 0
  private counted: { readonly contributions: number; readonly local: unknown }
  /** Kept until the next one, as the host's word may come late, or only through a view. */
  private pending: Pending | undefined

  constructor(init: LocalMemoryInit) {
    this.init = init
    this.counted = this.nothing(0)
  }

  /** Of the method: what counts, as far as the host has told. */
  get local(): unknown {
    return this.counted.local
  }

  /** Takes up what an earlier process has left, if that is of this run. */
  async restore(you: Told): Promise<void> {
    this.counted = this.nothing(you.contributions)
    const kept: Pending[] = []
    for (const slot of [0, 1] as const) {
      const bytes = await this.init.store?.load(slot)
      const left = bytes && decodeLocal(bytes, this.init)
      if (left !== undefined) kept.push({ ...left, slot })
    }
    const newest = kept.find((each) => isNewestCounted(each, you))
    if (newest !== undefined) this.adopt(newest)
    // The host may be judging it at this moment.
    this.pending = kept.find((each) => each.contributions === you.contributions + 1)
    if (this.pending !== undefined) this.next = this.pending.slot
  }

  /**
   * Brings it in line with what the host has counted when it gave a lease: before work on that lease begins. Nothing kept
   * may fit, as when a home folder was restored from a copy; then an empty memory counts nothing twice.
   */
  settle(you: Told): void {
    if (this.pending !== undefined && this.counts(you)) this.adopt(this.pending)
    if (this.counted.contributions !== you.contributions) this.counted = this.nothing(you.contributions)
  }

  /** Before the update of a lease is reported: what will be left when it is accepted. */
  async keep(round: number, local: unknown): Promise<void> {
    const contributions = this.counted.contributions + 1
    const { pending, next: slot } = this
    const repeated = pending?.round === round && pending.contributions === contributions
    const left = { round, contributions, repeated }
    const pieces = this.init.method.serialiseLocal(local)
    // A method whose peers keep nothing to themselves has nothing to lose: its rounds wait for no disk.
    if (pieces.length > 0) await this.init.store?.save(slot, encodeLocal(this.init, left, pieces))
    this.pending = { ...left, local, slot }
  }

  /** Whether the host has accepted the update of which the memory was kept last, and none of this peer's since. */
  counts(you: Told): boolean {
    return this.pending !== undefined && isNewestCounted(this.pending, you)
  }

  /** The host has accepted the very update of which the memory was kept last. */
  accepted(): void {
    if (this.pending !== undefined) this.adopt(this.pending)
  }

  private adopt({ contributions, local, slot }: Pending): void {
    this.counted = { contributions, local }
    this.next = slot === 0 ? 1 : 0
    this.pending = undefined
  }

  private nothing(contributions: number): { contributions: number; local: unknown } {
    const { method, layout } = this.init
    return { contributions, local: method.createLocal(layout) }
  }
}

/** Whether that update is in the model, and is the newest one of its peer that is. */
function isNewestCounted(left: Left, { contributions, lastRound, lastVerdict }: Told): boolean {
  if (left.repeated || left.contributions !== contributions || lastRound < left.round) return false
  const { outcome } = lastVerdict ?? {}
  const isOfThis = lastVerdict?.round === left.round
  return outcome === 'accepted' || outcome === 'late' ? isOfThis : !isOfThis
}

const format = 'groundswell/local/3'
const maxHeaderBytes = 1024

/** A header { format, run, method, round, contributions, repeated }, its length before it as uint32 little-endian, and the method's own bytes. */
function encodeLocal({ run, method }: LocalMemoryInit, left: Omit<Left, 'local'>, pieces: Pieces): Pieces {
  const header = encodeCanonical({ format, run, method: method.id, ...left })
  const length = new Uint8Array(4)
  new DataView(length.buffer).setUint32(0, header.byteLength, true)
  return [length, header, ...pieces]
}

/** Undefined for what is of another run or method, or damaged. */
function decodeLocal(bytes: Uint8Array, { run, method, layout }: LocalMemoryInit): Left | undefined {
  try {
    const length = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true)
    const header = decodeCanonical(bytes.subarray(4, 4 + length), maxHeaderBytes) as Record<string, unknown>
    const { round, contributions, repeated } = header
    if (header.format !== format || header.run !== run || header.method !== method.id) return undefined
    if (typeof round !== 'number' || typeof contributions !== 'number' || typeof repeated !== 'boolean') {
      return undefined
    }
    const local = method.parseLocal(bytes.subarray(4 + length), layout)
    return { round, contributions, repeated, local }
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError || thrown instanceof RangeError)) throw thrown
    return undefined // a fresh start costs one round's residuals, a refusal would cost the peer
  }
}
