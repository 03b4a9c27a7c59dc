import { describe, expect, test } from 'vitest'
import { llamaConfig } from './config.ts'
import {
  defaultGenerationConfig,
  generationConfigToJson,
  parseGenerationConfig,
} from './generation-config.ts'

describe('generation_config.json', () => {
  test('of Llama 3 is understood', () => {
    const json = {
      bos_token_id: 128_000,
      do_sample: true,
      eos_token_id: [128_001, 128_008, 128_009],
      temperature: 0.6,
      top_p: 0.9,
      transformers_version: '4.42.3',
    }
    expect(parseGenerationConfig(json)).toEqual({
      bosTokenId: 128_000,
      eosTokenIds: [128_001, 128_008, 128_009],
      padTokenId: null,
      sampling: { temperature: 0.6, topP: 0.9 },
    })
  })

  test('without do_sample is greedy, whatever temperature stands there', () => {
    expect(parseGenerationConfig({ temperature: 0.6, eos_token_id: 2 })).toMatchObject({
      eosTokenIds: [2],
      sampling: { temperature: 0 },
    })
    expect(parseGenerationConfig({}).eosTokenIds).toEqual([])
  })

  test('top_k 0 keeps all tokens', () => {
    expect(parseGenerationConfig({ do_sample: true, top_k: 0 }).sampling).toEqual({})
  })

  test.each([{ temperature: 0 }, { temperature: 0.7, topK: 40, topP: 0.95 }, { temperature: 1, topP: 0.5 }])(
    'is read as it was written: %o',
    (sampling) => {
      for (const eosTokenIds of [[], [3], [3, 4]]) {
        const config = { bosTokenId: 1, eosTokenIds, padTokenId: null, sampling }
        expect(parseGenerationConfig(generationConfigToJson(config))).toMatchObject(config)
      }
    },
  )

  test('is made up from config.json where it is missing', () => {
    const config = llamaConfig({
      ...{
        vocabularySize: 8,
        hiddenSize: 4,
        intermediateSize: 4,
        layers: 1,
        attentionHeads: 1,
        eosTokenId: [2, 3],
      },
    })
    expect(defaultGenerationConfig(config)).toMatchObject({
      eosTokenIds: [2, 3],
      sampling: { temperature: 0 },
    })
  })

  test('with nonsense is refused by field', () => {
    expect(() => parseGenerationConfig({ top_p: 2 }, '“x.json”')).toThrow(/“x.json” has an unusable top_p/)
    expect(() => parseGenerationConfig([])).toThrow(/unusable content/)
  })
})
