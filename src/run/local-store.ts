/**
 * Where a peer keeps what only it knows (residuals, momenta) so that a restart with the same identity loses none of it, and
 * counts none of it twice. What an update leaves behind is written before the update is reported, beside what was there before:
 * after a restart the host's verdict tells which of the two it is.
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

export interface LocalStore {
  load(slot: Slot): Promise<Uint8Array | undefined>
  /** Replaces what was in a place by these pieces as a whole: after a crash the old or the new is there. */
  save(slot: Slot, pieces: Pieces): Promise<void>
}

/** Two files in a folder. */
export function fileLocalStore(files: Files, folder: string): LocalStore {
  const pathOf = (slot: Slot): string => `${folder}/local.${slot}.bin`
  return {
    load: async (slot) => ((await files.exists(pathOf(slot))) ? files.read(pathOf(slot)) : undefined),
    save: (slot, pieces) => files.write(pathOf(slot), pieces),
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
type Told = Pick<RunView['you'], 'lastRound' | 'lastVerdict'>

export class LocalMemory {
  private readonly init: LocalMemoryInit
  /** Where the next one goes: not where the one that counts is. */
  private next: Slot = 0

  constructor(init: LocalMemoryInit) {
    this.init = init
  }

  /** What counts of what was kept; undefined when there is nothing for this run. */
  async restore(you: Told): Promise<{ readonly local: unknown } | undefined> {
    const kept: { slot: Slot; round: number; local: unknown }[] = []
    for (const slot of [0, 1] as const) {
      const bytes = await this.init.store?.load(slot)
      const found = bytes && decodeLocal(bytes, this.init)
      if (found !== undefined) kept.push({ slot, ...found })
    }
    const [newest, older] = kept.toSorted((a, b) => b.round - a.round)
    // The older one was accepted, or the newer one would have taken its place.
    const found = newest !== undefined && wasCounted(newest.round, you) ? newest : older
    if (found !== undefined) this.next = otherThan(found.slot)
    return found
  }

  /** Before the update of a lease is reported: what will be left when it is accepted. */
  async keep(round: number, local: unknown): Promise<void> {
    await this.init.store?.save(this.next, encodeLocal(this.init, round, local))
  }

  /** What was kept last counts from now on. */
  accepted(): void {
    this.next = otherThan(this.next)
  }
}

const otherThan = (slot: Slot): Slot => (slot === 0 ? 1 : 0)

/** Whether the update of a round's lease is in the model. Of leases before the last one only the round that counted it is known. */
function wasCounted(round: number, { lastRound, lastVerdict }: Told): boolean {
  if (lastVerdict?.round !== round) return lastRound >= round
  return lastVerdict.outcome === 'accepted' || lastVerdict.outcome === 'late'
}

const format = 'groundswell/local/2'
const maxHeaderBytes = 1024

/** A header { format, run, method, round }, its length before it as uint32 little-endian, and the method's own bytes. */
function encodeLocal({ run, method }: LocalMemoryInit, round: number, local: unknown): Pieces {
  const header = encodeCanonical({ format, run, method: method.id, round })
  const length = new Uint8Array(4)
  new DataView(length.buffer).setUint32(0, header.byteLength, true)
  return [length, header, ...method.serialiseLocal(local)]
}

/** Undefined for what is of another run or method, or damaged. */
function decodeLocal(
  bytes: Uint8Array,
  { run, method, layout }: LocalMemoryInit,
): { readonly round: number; readonly local: unknown } | undefined {
  try {
    const length = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true)
    const header = decodeCanonical(bytes.subarray(4, 4 + length), maxHeaderBytes) as Record<string, unknown>
    const { round } = header
    if (header.format !== format || header.run !== run || header.method !== method.id) return undefined
    if (typeof round !== 'number') return undefined
    return { round, local: method.parseLocal(bytes.subarray(4 + length), layout) }
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError || thrown instanceof RangeError)) throw thrown
    return undefined // a fresh start costs one round's residuals, a refusal would cost the peer
  }
}
