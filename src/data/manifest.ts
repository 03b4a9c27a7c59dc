/**
 * The manifest of a dataset: DAG-CBOR that names every shard of tokens by its CID, so that the manifest's own CID pins
 * all data of a run. It comes from other peers: it is sized, then checked, and only then believed.
 */
import { z } from 'zod'
import { type Cid, decodeCanonical, encodeCanonical, GroundswellError, parseCid } from '../core/index.ts'

/** Bytes of one shard at most, the chunk that peers exchange. */
export const maxShardBytes: number = 2 ** 20
/** Bytes of a manifest at most: room for some 60,000 shards. */
export const maxManifestBytes: number = 2 ** 22
/** Shards of each half at most: 32 GiB of tokens. */
const maxShards = 2 ** 15

export interface ShardEntry {
  readonly cid: Cid
  readonly tokens: number
}

/** One half of the data: its tokens in order, cut into shards. */
export interface TokenStream {
  readonly tokens: number
  /** Runs of text, each followed by the token that ends documents. */
  readonly runs: number
  /** UTF-8 bytes of the text. */
  readonly textBytes: number
  readonly shards: readonly ShardEntry[]
}

export interface DatasetManifest {
  readonly format: 'groundswell/dataset/1'
  /** The `tokenizer.json` that made the tokens. */
  readonly tokenizer: Cid
  readonly vocabularySize: number
  readonly endOfTextId: number
  /** 2 (uint16) or 4 (uint32), little endian. */
  readonly bytesPerToken: 2 | 4
  readonly documents: number
  /** How text was held out; see `held-out.ts`. */
  readonly heldOut: { readonly rule: 'sha256-of-text'; readonly seed: number; readonly fraction: number }
  readonly train: TokenStream
  readonly validation: TokenStream
}

const count = z.int().nonnegative()
const cid = z.string().transform((text, context) => {
  try {
    return parseCid(text)
  } catch {
    context.addIssue({ code: 'custom', message: 'not a CID' })
    return z.NEVER
  }
})
const stream = z.strictObject({
  tokens: count,
  runs: count,
  textBytes: count,
  shards: z.array(z.strictObject({ cid, tokens: z.int().positive() })).max(maxShards),
})
const manifestSchema = z.strictObject({
  format: z.literal('groundswell/dataset/1'),
  tokenizer: cid,
  vocabularySize: z
    .int()
    .positive()
    .max(2 ** 31 - 1),
  endOfTextId: count,
  bytesPerToken: z.union([z.literal(2), z.literal(4)]),
  documents: count,
  heldOut: z.strictObject({
    rule: z.literal('sha256-of-text'),
    seed: z.number(),
    fraction: z.number().min(0).lt(1),
  }),
  train: stream,
  validation: stream,
})

export function encodeManifest(manifest: DatasetManifest): Uint8Array {
  return encodeCanonical(manifest)
}

/**
 * Reads a manifest that may come from anyone.
 * @throws GroundswellError `message/oversized`, `message/malformed`, `data/manifest`
 */
export function parseManifest(bytes: Uint8Array): DatasetManifest {
  const parsed = manifestSchema.safeParse(decodeCanonical(bytes, maxManifestBytes))
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw badManifest(`${issue?.path.join('.') || 'content'}: ${issue?.message}`)
  }
  const manifest = parsed.data
  if (manifest.endOfTextId >= manifest.vocabularySize)
    throw badManifest('endOfTextId is not in the vocabulary')
  if (manifest.bytesPerToken !== bytesPerTokenFor(manifest.vocabularySize)) {
    throw badManifest(
      `a vocabulary of ${manifest.vocabularySize} does not take ${manifest.bytesPerToken} bytes`,
    )
  }
  for (const half of ['train', 'validation'] as const)
    checkStream(half, manifest[half], manifest.bytesPerToken)
  return manifest
}

/** All shards but the last are full, so that a token's shard can be computed. */
function checkStream(half: string, { tokens, shards }: TokenStream, bytesPerToken: number): void {
  const full = maxShardBytes / bytesPerToken
  const sum = shards.reduce((total, shard) => total + shard.tokens, 0)
  if (sum !== tokens) throw badManifest(`the ${half} shards hold ${sum} tokens, not ${tokens}`)
  for (const [i, shard] of shards.entries()) {
    const fits = i < shards.length - 1 ? shard.tokens === full : shard.tokens <= full
    if (!fits) throw badManifest(`${half} shard ${i} has ${shard.tokens} tokens, a full one ${full}`)
  }
}

export function bytesPerTokenFor(vocabularySize: number): 2 | 4 {
  return vocabularySize <= 2 ** 16 ? 2 : 4
}

function badManifest(what: string): GroundswellError {
  return new GroundswellError(`The dataset manifest is not valid: ${what}.`, { code: 'data/manifest' })
}
