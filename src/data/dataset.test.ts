import { beforeAll, describe, expect, test } from 'vitest'
import { type Cid, cidOf, encodeCanonical, memoryFiles } from '../core/index.ts'
import { byteTokenizer, trainBytePairEncoding } from '../model/index.ts'
import {
  type BuiltDataset,
  buildDataset,
  encodeManifest,
  loadDocuments,
  openDataset,
  parseManifest,
  validationBitsPerByte,
} from './index.ts'

const documents = Array.from({ length: 300 }, (_, i) => ({
  path: `${i}`,
  text: `Document ${i}, größer als ${i * i}.`,
}))
const tokenizer = trainBytePairEncoding(
  documents.map(({ text }) => text),
  { vocabularySize: 300 },
)
const open = (built: BuiltDataset, bytes: Uint8Array = built.manifestBytes) =>
  openDataset(bytes, (cid) => built.shards.get(cid))

describe('buildDataset and openDataset', () => {
  test('tokens come back, every document followed by the end of text', async () => {
    const built = await buildDataset({ documents, tokenizer, heldOutFraction: 0.1, seed: 5 })
    const { trainTokens, validationTokens, manifest } = await open(built)
    const texts = (tokens: Iterable<number>): string[] => {
      const runs: number[][] = [[]]
      for (const id of tokens) {
        if (id === tokenizer.endOfTextId) runs.push([])
        else runs.at(-1)!.push(id)
      }
      return runs.slice(0, -1).map((ids) => tokenizer.decode(ids))
    }
    const train = texts(trainTokens)
    const validation = texts(validationTokens)
    expect([...train, ...validation].sort()).toEqual(documents.map(({ text }) => text).sort())
    expect(manifest).toEqual(built.manifest)
    expect(manifest).toMatchObject({
      documents: 300,
      bytesPerToken: 2,
      vocabularySize: 300,
      heldOut: { seed: 5, fraction: 0.1 },
      train: { runs: train.length, tokens: trainTokens.length },
      validation: {
        runs: validation.length,
        textBytes: new TextEncoder().encode(validation.join('')).length,
      },
    })
    expect(await cidOf(built.tokenizerBytes)).toBe(manifest.tokenizer)
    expect(await cidOf(built.manifestBytes, 'dag-cbor')).toBe(built.manifestCid)
  })

  test('the same documents, in whatever way they were found, give the same manifest', async () => {
    const files = (names: number[]) =>
      memoryFiles(Object.fromEntries(names.map((n) => [`d/${n}`, `text number ${n}`])))
    const build = async (names: number[]): Promise<Cid> => {
      const corpus = await loadDocuments(files(names), 'd')
      return (await buildDataset({ documents: corpus.documents, tokenizer: byteTokenizer() })).manifestCid
    }
    expect(await build([3, 1, 2])).toBe(await build([2, 3, 1]))
    expect(await build([3, 1, 2])).not.toBe(await build([3, 1, 4]))
  })

  test('bits per byte: one nat per byte token, separators included, is log2(e) per byte and a little more', async () => {
    const built = await buildDataset({ documents, tokenizer: byteTokenizer(), heldOutFraction: 0.2 })
    const { tokens, textBytes, runs } = built.manifest.validation
    expect(tokens).toBe(textBytes + runs)
    expect(validationBitsPerByte(built.manifest, Math.LN2)).toBeCloseTo(1 + runs / textBytes, 12)
  })

  test('more than a shard of tokens makes several, all full but the last', async () => {
    const text = Array.from({ length: 120_000 }, (_, i) => `row ${i}\n`).join('')
    const built = await buildDataset({ documents: [{ path: '', text }], tokenizer: byteTokenizer() })
    const sizes = built.manifest.train.shards.map(({ cid }) => built.shards.get(cid)!.length)
    expect(sizes.slice(0, -1).every((size) => size === 2 ** 20)).toBe(true)
    expect(sizes.length).toBeGreaterThan(1)
    expect((await open(built)).trainTokens.length).toBe(built.manifest.train.tokens)
  })
})

describe('a dataset from a stranger', () => {
  let built: BuiltDataset
  beforeAll(async () => {
    built = await buildDataset({ documents, tokenizer })
  })
  const code = (promise: Promise<unknown>) =>
    promise.then(
      () => undefined,
      (error: { code?: string }) => error.code,
    )
  const changed = (change: object) => encodeCanonical({ ...built.manifest, ...change })

  test('shards that are missing, altered or cut short are refused', async () => {
    const alter: Record<string, (bytes: Uint8Array) => Uint8Array | undefined> = {
      missing: () => undefined,
      altered: (bytes) => bytes.with(0, bytes[0]! ^ 1),
      short: (bytes) => bytes.slice(2),
    }
    for (const [how, serve] of Object.entries(alter)) {
      const opened = openDataset(built.manifestBytes, (cid) => serve(built.shards.get(cid)!))
      expect(await code(opened), how).toBe('data/shard')
    }
  })

  test('tokens outside the vocabulary are refused, although their shard has the right name', async () => {
    const shard = new Uint8Array([200, 0, 44, 1]) // 200 and 300
    const cid = await cidOf(shard)
    const manifest = changed({ train: { tokens: 2, runs: 1, textBytes: 2, shards: [{ cid, tokens: 2 }] } })
    const opened = openDataset(manifest, () => shard)
    await expect(opened).rejects.toThrow(/holds the token 300 of a vocabulary of 300/)
  })

  test('manifests that contradict themselves are refused before anything is fetched', async () => {
    const { train } = built.manifest
    const wrong: Record<string, object> = {
      'another format': { format: 'groundswell/dataset/9' },
      'an unknown field': { extra: 1 },
      'no CID': { tokenizer: 'bafy' },
      'a sum that is wrong': { train: { ...train, tokens: train.tokens + 1 } },
      'a shard that is too large': {
        train: { ...train, tokens: 2 ** 30, shards: [{ ...train.shards[0]!, tokens: 2 ** 30 }] },
      },
      'another width': { bytesPerToken: 4 },
      'an end of text outside the vocabulary': { endOfTextId: 300 },
    }
    for (const [what, change] of Object.entries(wrong)) {
      const opened = openDataset(changed(change), () => {
        throw new Error('fetched')
      })
      expect(await code(opened), what).toBe('data/manifest')
    }
    expect(() => parseManifest(new Uint8Array(2 ** 23))).toThrow(/exceeds the limit/)
    expect(parseManifest(encodeManifest(built.manifest))).toEqual(built.manifest)
  })

  test('more data than this machine accepts is refused before anything is fetched', async () => {
    const opened = openDataset(
      built.manifestBytes,
      () => {
        throw new Error('fetched')
      },
      { maxBytes: 1000 },
    )
    expect(await code(opened)).toBe('data/too-large')
  })
})
