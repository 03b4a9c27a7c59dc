/**
 * Datasets: tokens in content-addressed shards under a manifest. `buildDataset` makes one from documents,
 * `openDataset` puts one together again from shards that anybody may have sent.
 */
import { type Cid, cidOf, GroundswellError, matchesCid, throwIfAborted } from '../core/index.ts'
import { type BytePairTokenizer, tokenizerToJson } from '../model/index.ts'
import type { Document } from './documents.ts'
import { splitHeldOut } from './held-out.ts'
import {
  bytesPerTokenFor,
  type DatasetManifest,
  encodeManifest,
  maxShardBytes,
  parseManifest,
  type TokenStream,
} from './manifest.ts'

export interface BuildOptions {
  readonly documents: readonly Document[]
  readonly tokenizer: BytePairTokenizer
  /** Share of the text to hold out for validation. Default 0.05. */
  readonly heldOutFraction?: number
  /** Decides, with each text's hash, what is held out. Default 0. */
  readonly seed?: number
  readonly signal?: AbortSignal
  /** Told after each run of text how many of its characters, of all, have become tokens. */
  readonly onProgress?: (done: number, total: number) => void
}

export interface BuiltDataset {
  readonly manifest: DatasetManifest
  /** The manifest as it is stored and sent. */
  readonly manifestBytes: Uint8Array
  readonly manifestCid: Cid
  readonly shards: ReadonlyMap<Cid, Uint8Array>
  /** The `tokenizer.json` that the manifest names. */
  readonly tokenizerBytes: Uint8Array
}

/** Turns documents into shards: every run of text, then the token that ends it. */
export async function buildDataset(options: BuildOptions): Promise<BuiltDataset> {
  const { documents, tokenizer, signal } = options
  const fraction = options.heldOutFraction ?? 0.05
  const seed = options.seed ?? 0
  const { train, validation } = splitHeldOut(documents, { seed, fraction })
  const tokenizerBytes = new TextEncoder().encode(tokenizerToJson(tokenizer))
  const bytesPerToken = bytesPerTokenFor(tokenizer.vocabularySize)
  const shards = new Map<Cid, Uint8Array>()
  const total = documents.reduce((sum, document) => sum + document.text.length, 0)
  let done = 0
  const encodeRuns = async (runs: readonly string[]): Promise<TokenStream> => {
    const writer = new ShardWriter(bytesPerToken, shards)
    let textBytes = 0
    for (const run of runs) {
      throwIfAborted(signal)
      textBytes += new TextEncoder().encode(run).length
      await writer.append(tokenizer.encode(run, { addSpecialTokens: false }))
      await writer.append([tokenizer.endOfTextId])
      done += run.length
      options.onProgress?.(done, total)
    }
    return { ...(await writer.finish()), runs: runs.length, textBytes }
  }
  const manifest: DatasetManifest = {
    format: 'groundswell/dataset/1',
    tokenizer: await cidOf(tokenizerBytes),
    vocabularySize: tokenizer.vocabularySize,
    endOfTextId: tokenizer.endOfTextId,
    bytesPerToken,
    documents: documents.length,
    heldOut: { rule: 'sha256-of-text', seed, fraction },
    train: await encodeRuns(train),
    validation: await encodeRuns(validation),
  }
  const manifestBytes = encodeManifest(manifest)
  const manifestCid = await cidOf(manifestBytes, 'dag-cbor')
  return { manifest, manifestBytes, manifestCid, shards, tokenizerBytes }
}

/** Collects tokens into full shards. */
class ShardWriter {
  private readonly shards: Map<Cid, Uint8Array>
  private readonly bytesPerToken: 2 | 4
  private readonly capacity: number
  private readonly entries: { cid: Cid; tokens: number }[] = []
  private pending: DataView
  private length = 0
  private total = 0

  constructor(bytesPerToken: 2 | 4, shards: Map<Cid, Uint8Array>) {
    this.shards = shards
    this.bytesPerToken = bytesPerToken
    this.capacity = maxShardBytes / bytesPerToken
    this.pending = new DataView(new ArrayBuffer(maxShardBytes))
  }

  async append(tokens: ArrayLike<number>): Promise<void> {
    for (let i = 0; i < tokens.length; i++) {
      const offset = this.length++ * this.bytesPerToken
      if (this.bytesPerToken === 2) this.pending.setUint16(offset, tokens[i]!, true)
      else this.pending.setUint32(offset, tokens[i]!, true)
      if (this.length === this.capacity) await this.flush()
    }
  }

  async finish(): Promise<Pick<TokenStream, 'tokens' | 'shards'>> {
    if (this.length > 0) await this.flush()
    return { tokens: this.total, shards: this.entries }
  }

  private async flush(): Promise<void> {
    const bytes = new Uint8Array(this.pending.buffer, 0, this.length * this.bytesPerToken).slice()
    const cid = await cidOf(bytes)
    this.shards.set(cid, bytes)
    this.entries.push({ cid, tokens: this.length })
    this.total += this.length
    this.length = 0
  }
}

/** Tokens ready to be cut into batches. */
export interface Dataset {
  readonly manifest: DatasetManifest
  readonly trainTokens: Uint16Array | Uint32Array
  readonly validationTokens: Uint16Array | Uint32Array
}

export interface OpenOptions {
  /** Refuse datasets whose tokens take more, before anything is fetched. Default 2 GiB. */
  readonly maxBytes?: number
  readonly signal?: AbortSignal
}

/**
 * Checks a manifest, fetches its shards one after the other and checks each before use.
 * @param getShard gives the bytes that a CID names; they may be anything
 * @throws GroundswellError as `parseManifest`; `data/too-large`; `data/shard` when bytes are not what the manifest names
 */
export async function openDataset(
  manifest: Uint8Array,
  getShard: (cid: Cid, signal?: AbortSignal) => Uint8Array | undefined | Promise<Uint8Array | undefined>,
  options: OpenOptions = {},
): Promise<Dataset> {
  const { signal } = options
  const parsed = parseManifest(manifest)
  const { bytesPerToken, vocabularySize } = parsed
  const bytes = (parsed.train.tokens + parsed.validation.tokens) * bytesPerToken
  const maxBytes = options.maxBytes ?? 2 ** 31
  if (bytes > maxBytes) {
    throw new GroundswellError(`The dataset takes ${bytes} bytes; this machine accepts ${maxBytes}.`, {
      code: 'data/too-large',
      remedy: 'Allow more, or join a run with less data.',
    })
  }
  const read = async (stream: TokenStream): Promise<Uint16Array | Uint32Array> => {
    // Not allocated at once: the shards that fill it have not been seen yet.
    const parts: (Uint16Array | Uint32Array)[] = []
    for (const shard of stream.shards) {
      throwIfAborted(signal)
      const bytes = await getShard(shard.cid, signal)
      if (bytes?.byteLength !== shard.tokens * bytesPerToken || !(await matchesCid(bytes, shard.cid))) {
        throw badShard(shard.cid, bytes === undefined ? 'is missing' : 'has other bytes than its name says')
      }
      const tokens = decodeTokens(bytes, bytesPerToken)
      const stranger = tokens.findIndex((token: number) => token >= vocabularySize)
      if (stranger >= 0) {
        throw badShard(shard.cid, `holds the token ${tokens[stranger]} of a vocabulary of ${vocabularySize}`)
      }
      parts.push(tokens)
    }
    const all = bytesPerToken === 2 ? new Uint16Array(stream.tokens) : new Uint32Array(stream.tokens)
    let offset = 0
    for (const part of parts) {
      all.set(part, offset)
      offset += part.length
    }
    return all
  }
  return {
    manifest: parsed,
    trainTokens: await read(parsed.train),
    validationTokens: await read(parsed.validation),
  }
}

function decodeTokens(bytes: Uint8Array, bytesPerToken: 2 | 4): Uint16Array | Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const tokens = bytesPerToken === 2 ? new Uint16Array(bytes.length / 2) : new Uint32Array(bytes.length / 4)
  for (let i = 0; i < tokens.length; i++) {
    tokens[i] = bytesPerToken === 2 ? view.getUint16(i * 2, true) : view.getUint32(i * 4, true)
  }
  return tokens
}

function badShard(cid: Cid, what: string): GroundswellError {
  return new GroundswellError(`The data shard ${cid} ${what}.`, {
    code: 'data/shard',
    remedy: 'Fetch it from another peer.',
  })
}

/** Mean loss per validation token (nats) as bits per byte of text, which does not depend on the vocabulary. */
export function validationBitsPerByte({ validation }: DatasetManifest, loss: number): number {
  return (loss / Math.LN2) * (validation.tokens / validation.textBytes)
}
