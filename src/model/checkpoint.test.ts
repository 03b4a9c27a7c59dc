import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Files, GroundswellError, memoryFiles } from '../core/index.ts'
import {
  type CheckpointContent,
  readCheckpoint,
  readConfig,
  readModel,
  writeCheckpoint,
} from './checkpoint.ts'
import { llamaConfig, llamaConfigToJson } from './config.ts'
import { defaultGenerationConfig } from './generation-config.ts'
import { initialParameters } from './parameters.ts'
import { safetensorsChunks } from './safetensors.ts'
import { byteTokenizer, trainBytePairEncoding } from './tokenizer/index.ts'

const vectors = join(import.meta.dirname, '../../test/vectors')

/** A folder that transformers wrote (test/vectors/make-llama-checkpoints.py), in memory. */
function written(folder: string): Record<string, Uint8Array> {
  const names = readdirSync(join(vectors, folder))
  return Object.fromEntries(
    names.map((name) => [`${folder}/${name}`, readFileSync(join(vectors, folder, name))]),
  )
}

const config = llamaConfig({
  vocabularySize: 256,
  hiddenSize: 16,
  intermediateSize: 24,
  layers: 2,
  attentionHeads: 2,
  keyValueHeads: 1,
  eosTokenId: 0,
})
const tokenizer = byteTokenizer()
const content: CheckpointContent = { config, parameters: initialParameters(config, 1), tokenizer }

const refusal = async (reading: Promise<unknown>): Promise<GroundswellError> => {
  const thrown: unknown = await reading.then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(thrown).toBeInstanceOf(GroundswellError)
  return thrown as GroundswellError
}

describe('a checkpoint', () => {
  test.each([false, true])('is read as it was written (tied: %s)', async (tieWordEmbeddings) => {
    const shape = { ...config, tieWordEmbeddings }
    const generationConfig = {
      ...defaultGenerationConfig(shape),
      eosTokenIds: [0, 10],
      sampling: { temperature: 0.8, topP: 0.95, topK: 40 },
    }
    const files = memoryFiles()
    const parameters = initialParameters(shape, 2)
    await writeCheckpoint(files, 'out/final/', { config: shape, parameters, tokenizer, generationConfig })
    const found = await readCheckpoint(files, 'out/final')
    expect(found.config).toEqual(shape)
    expect(found.parameters).toEqual(parameters)
    expect(found.generationConfig).toEqual(generationConfig)
    expect(found.tokenizer.definition).toEqual(tokenizer.definition)
  })

  test('has the files of transformers, the same bytes every time', async () => {
    const [one, other] = [memoryFiles(), memoryFiles()]
    await writeCheckpoint(one, 'a', content)
    await writeCheckpoint(other, 'a', content)
    const names = (await one.list('a')).map(({ path }) => path)
    expect(names).toEqual(
      [
        'config.json',
        'generation_config.json',
        'model.safetensors',
        'tokenizer.json',
        'tokenizer_config.json',
      ].map((name) => `a/${name}`),
    )
    for (const name of names) expect(await one.read(name)).toEqual(await other.read(name))
  })

  test('names the special tokens for AutoTokenizer', async () => {
    const trained = trainBytePairEncoding(['a b c'], { vocabularySize: 257 })
    const shape = {
      ...config,
      vocabularySize: 260,
      bosTokenId: trained.endOfTextId,
      eosTokenId: trained.endOfTextId,
    }
    const files = memoryFiles()
    await writeCheckpoint(files, 'a', {
      config: shape,
      parameters: initialParameters(shape, 1),
      tokenizer: trained,
    })
    const json: unknown = JSON.parse(new TextDecoder().decode(await files.read('a/tokenizer_config.json')))
    expect(json).toMatchObject({
      tokenizer_class: 'PreTrainedTokenizerFast',
      bos_token: '<|endoftext|>',
      eos_token: '<|endoftext|>',
      model_max_length: 2048,
    })
  })

  test('is not written when its parts do not belong together', async () => {
    const files = memoryFiles()
    const narrow = { ...config, vocabularySize: 200 }
    const parameters = initialParameters(narrow, 1)
    const errors = [
      await refusal(writeCheckpoint(files, 'a', { ...content, config: { ...config, layers: 3 } })),
      await refusal(writeCheckpoint(files, 'a', { config: narrow, parameters, tokenizer })),
    ]
    expect(errors.map(({ code }) => code)).toEqual(['model/parameters', 'checkpoint/tokenizer'])
    expect(await files.list('a')).toEqual([])
  })
})

describe('a crash while a checkpoint is written', () => {
  /** Files that fail at the given change, as a machine does that loses power. */
  function failing(files: Files, at: number): Files {
    let changes = 0
    const change = (): void => {
      if (changes++ === at) throw new Error('power lost')
    }
    return {
      ...files,
      write: async (path, chunks) => {
        change()
        await files.write(path, chunks)
      },
      remove: async (path) => {
        change()
        await files.remove(path)
      },
    }
  }

  const wider = { ...config, intermediateSize: 32 }
  const trained = trainBytePairEncoding(['a b c'], { vocabularySize: 256, specialTokens: [] })
  test.each<[string, CheckpointContent | undefined, CheckpointContent]>([
    ['in a new folder', undefined, content],
    ['over older weights', content, { ...content, parameters: initialParameters(config, 2) }],
    ['over another shape', content, { config: wider, parameters: initialParameters(wider, 2), tokenizer }],
    [
      'over another tokenizer',
      content,
      { ...content, parameters: initialParameters(config, 2), tokenizer: trained },
    ],
  ])('%s leaves the old one, the new one, or none', async (_what, before, after) => {
    for (let at = 0; at < 8; at++) {
      const files = memoryFiles()
      if (before !== undefined) await writeCheckpoint(files, 'a', before)
      await writeCheckpoint(failing(files, at), 'a', after).catch((thrown: unknown) => {
        expect(thrown).toEqual(new Error('power lost'))
      })
      const found = await readCheckpoint(files, 'a').catch((thrown: unknown) => thrown)
      if (found instanceof GroundswellError) {
        expect(found.code).toMatch(/checkpoint\/(incomplete|unfinished)|file\/not-found/)
      } else {
        const whole = [before, after].filter((one) => one !== undefined)
        const asWritten = whole.map(({ config, parameters, tokenizer: { definition } }) => ({
          ...{ config, parameters, definition },
        }))
        const { config, parameters, tokenizer } = found as CheckpointContent
        expect(asWritten).toContainEqual({ config, parameters, definition: tokenizer.definition })
      }
    }
  })
})

describe('a checkpoint that transformers wrote', () => {
  test.each(['llama-f32-untied', 'llama-f32-tied', 'llama-bf16-untied', 'llama-bf16-tied'])(
    '%s is read',
    async (folder) => {
      const { config, parameters } = await readModel(memoryFiles(written(folder)), folder)
      expect(config).toMatchObject({
        vocabularySize: 32,
        layers: 2,
        headSize: 4,
        ropeTheta: 500,
        eosTokenId: 0,
      })
      expect(Object.hasOwn(parameters, 'lm_head.weight')).toBe(folder.endsWith('untied'))
      expect(parameters['model.layers.1.self_attn.k_proj.weight']!.shape).toEqual([4, 8])
    },
  )

  test('in several files is the same as in one', async () => {
    const folder = 'llama-bf16-untied-sharded'
    const sharded = await readModel(memoryFiles(written(folder)), folder)
    expect(Object.keys(sharded.parameters)).toHaveLength(21)
  })
})

describe('a folder that is no sound checkpoint', () => {
  const folder = 'llama-f32-tied'
  const sound = written(folder)
  const sharded = written('llama-bf16-untied-sharded')
  const index = 'llama-bf16-untied-sharded/model.safetensors.index.json'
  const without = (...names: string[]): Record<string, Uint8Array> =>
    Object.fromEntries(
      Object.entries(sound).filter(([path]) => !names.some((name) => path.endsWith(`/${name}`))),
    )
  const configWith = (change: object): Record<string, Uint8Array | string> => {
    const json: object = JSON.parse(new TextDecoder().decode(sound[`${folder}/config.json`]))
    return { ...sound, [`${folder}/config.json`]: JSON.stringify({ ...json, ...change }) }
  }
  const indexWith = (change: Record<string, string>): Record<string, Uint8Array | string> => {
    const json: { weight_map: object } = JSON.parse(new TextDecoder().decode(sharded[index]))
    return { ...sharded, [index]: JSON.stringify({ weight_map: { ...json.weight_map, ...change } }) }
  }
  const cut = (path: string, bytes: number): Record<string, Uint8Array> => ({
    ...sound,
    [path]: sound[path]!.subarray(0, -bytes),
  })

  test.each<[string, Record<string, Uint8Array | string>, string, RegExp]>([
    ['nothing at all', {}, 'file/not-found', /llama-f32-tied/],
    ['weights alone', without('config.json'), 'checkpoint/unfinished', /has weights but no config.json/],
    ['a readme alone', { [`${folder}/README.md`]: '' }, 'checkpoint/incomplete', /no config.json/],
    ['no weights', without('model.safetensors'), 'checkpoint/incomplete', /no model.safetensors/],
    [
      'weights cut short',
      cut(`${folder}/model.safetensors`, 1),
      'safetensors/truncated',
      /inside tensor “model.norm/,
    ],
    [
      'config.json cut short',
      cut(`${folder}/config.json`, 3),
      'checkpoint/malformed',
      /config.json” is not JSON/,
    ],
    [
      'a config.json in Latin-1',
      { ...sound, [`${folder}/config.json`]: Uint8Array.of(0xe4) },
      'checkpoint/malformed',
      /not UTF-8/,
    ],
    [
      'a config.json of 2 MiB',
      { ...sound, [`${folder}/config.json`]: ' '.repeat(2 ** 21) },
      'checkpoint/malformed',
      /above the limit/,
    ],
    ['another architecture', configWith({ model_type: 'gpt2' }), 'model/architecture', /gpt2/],
    [
      'a layer too few in the file',
      configWith({ num_hidden_layers: 3 }),
      'model/parameters',
      /no parameter “model.layers.2.input_layernorm.weight”/,
    ],
    [
      'a layer too many in the file',
      configWith({ num_hidden_layers: 1 }),
      'model/parameters',
      /“model.layers.1.*does not call for/,
    ],
    [
      'another width',
      configWith({ intermediate_size: 16 }),
      'model/parameters',
      /“model.layers.0.mlp.gate_proj.weight” with shape \[12, 8\].*\[16, 8\]/,
    ],
    [
      'no output projection',
      configWith({ tie_word_embeddings: false }),
      'model/parameters',
      /no parameter “lm_head.weight”/,
    ],
    [
      'a generation config in words',
      { ...sound, [`${folder}/generation_config.json`]: '{"temperature":"hot"}' },
      'checkpoint/malformed',
      /unusable temperature/,
    ],
  ])('%s is refused in one sentence', async (_what, content, code, message) => {
    const error = await refusal(readModel(memoryFiles(content), folder))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
    expect(error.message).toContain(folder)
  })

  test.each<[string, Record<string, Uint8Array | string>, string, RegExp]>([
    [
      'an index that reaches outside',
      indexWith({ 'lm_head.weight': '../../etc/passwd.safetensors' }),
      'checkpoint/malformed',
      /no file beside it/,
    ],
    [
      'an index that misplaces',
      indexWith({ 'lm_head.weight': 'model-00001-of-00002.safetensors' }),
      'checkpoint/malformed',
      /does not hold it/,
    ],
    [
      'an index that invents',
      indexWith({ 'extra.weight': 'model-00001-of-00002.safetensors' }),
      'checkpoint/malformed',
      /extra.weight/,
    ],
    ['an index without a map', { ...sharded, [index]: '{}' }, 'checkpoint/malformed', /weight_map/],
    [
      'a shard that is gone',
      Object.fromEntries(Object.entries(sharded).filter(([path]) => !path.includes('00002-of'))),
      'file/not-found',
      /model-00002-of-00002.safetensors/,
    ],
  ])('%s is refused in one sentence', async (_what, content, code, message) => {
    const error = await refusal(readModel(memoryFiles(content), 'llama-bf16-untied-sharded'))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
  })

  test('no tokenizer, or one of another model, is named', async () => {
    expect(await refusal(readCheckpoint(memoryFiles(sound), folder))).toMatchObject({
      code: 'checkpoint/incomplete',
      message: expect.stringContaining('tokenizer.json'),
    })
    const files = memoryFiles()
    await writeCheckpoint(files, 'a', content)
    const other = memoryFiles({
      ...sound,
      [`${folder}/tokenizer.json`]: await files.read('a/tokenizer.json'),
    })
    expect(await refusal(readCheckpoint(other, folder))).toMatchObject({
      code: 'checkpoint/tokenizer',
      message: expect.stringMatching(/256 tokens, its model only 32/),
    })
  })

  test('a tied checkpoint may repeat its embeddings as output projection, but not contradict them', async () => {
    const shape = { ...config, tieWordEmbeddings: true }
    const parameters = initialParameters(shape, 1)
    const embedding = parameters['model.embed_tokens.weight']!
    const folderOf = (output: Float32Array): Files => {
      const tensors = { ...parameters, 'lm_head.weight': { shape: embedding.shape, data: output } }
      const bytes = Uint8Array.from(safetensorsChunks(tensors).flatMap((chunk) => [...chunk]))
      return memoryFiles({
        'a/config.json': JSON.stringify(llamaConfigToJson(shape)),
        'a/model.safetensors': bytes,
      })
    }
    expect((await readModel(folderOf(embedding.data), 'a')).parameters).toEqual(parameters)
    const error = await refusal(readModel(folderOf(embedding.data.map((value) => -value)), 'a'))
    expect(error.message).toMatch(/of its own although its configuration ties it/)
  })

  test('config.json can be read alone', async () => {
    expect(await readConfig(memoryFiles(without('model.safetensors')), folder)).toMatchObject({ layers: 2 })
  })
})
