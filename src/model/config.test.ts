import { describe, expect, test } from 'vitest'
import { GroundswellError } from '../core/index.ts'
import {
  type LlamaConfig,
  llamaConfig,
  llamaConfigSchema,
  llamaConfigToJson,
  parseLlamaConfig,
} from './config.ts'

/** As transformers 5.18 writes it, shortened to what matters. */
const written = {
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  bos_token_id: 1,
  dtype: 'bfloat16',
  eos_token_id: [2, 7],
  head_dim: 8,
  hidden_act: 'silu',
  hidden_size: 16,
  initializer_range: 0.02,
  intermediate_size: 24,
  max_position_embeddings: 64,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: 2,
  num_hidden_layers: 3,
  num_key_value_heads: 1,
  pad_token_id: null,
  rms_norm_eps: 1e-5,
  rope_parameters: { rope_theta: 5000, rope_type: 'default' },
  tie_word_embeddings: true,
  transformers_version: '5.18.0',
  vocab_size: 32,
}

const understood: LlamaConfig = {
  vocabularySize: 32,
  hiddenSize: 16,
  intermediateSize: 24,
  layers: 3,
  attentionHeads: 2,
  keyValueHeads: 1,
  headSize: 8,
  maxPositionEmbeddings: 64,
  rmsNormEpsilon: 1e-5,
  ropeTheta: 5000,
  tieWordEmbeddings: true,
  initializerRange: 0.02,
  bosTokenId: 1,
  eosTokenId: [2, 7],
  padTokenId: null,
}

const refusal = (json: unknown): GroundswellError => {
  try {
    parseLlamaConfig(json, 'some/config.json')
  } catch (thrown) {
    if (thrown instanceof GroundswellError) return thrown
    throw thrown
  }
  throw new Error('nothing was thrown')
}

describe('config.json', () => {
  test('of transformers 5 is understood', () => {
    expect(parseLlamaConfig(written)).toEqual(understood)
    expect(llamaConfigSchema.parse(written)).toEqual(understood)
  })

  test('of transformers 4, with rope_theta outside and no head_dim, is understood alike', () => {
    const { rope_parameters: _rope, head_dim: _head, ...rest } = written
    expect(parseLlamaConfig({ ...rest, rope_theta: 5000, rope_scaling: null })).toEqual(understood)
  })

  // rope_parameters = rope_scaling or rope_parameters or {}, then setdefault('rope_theta', rope_theta or 10000)
  test.each([
    [{ rope_scaling: { rope_type: 'default', rope_theta: 500_000 } }, 500_000],
    [{ rope_scaling: { rope_theta: 500_000 }, rope_parameters: { rope_theta: 5000 } }, 500_000],
    [{ rope_scaling: { rope_type: 'default' }, rope_parameters: { rope_theta: 5000 } }, 10_000],
    [{ rope_scaling: { rope_type: 'default' }, rope_parameters: null, rope_theta: 7000 }, 7000],
    [{ rope_scaling: {}, rope_parameters: { rope_theta: 5000 }, rope_theta: 7000 }, 5000],
    [{ rope_scaling: null, rope_parameters: {}, rope_theta: 7000 }, 7000],
    [{ rope_scaling: {}, rope_parameters: {} }, 10_000],
  ])('finds rotary positions where transformers 5 does: %o', (fields, theta) => {
    expect(parseLlamaConfig({ model_type: 'llama', ...fields }).ropeTheta).toBe(theta)
  })

  test('is written so that it reads back as it was', () => {
    expect(parseLlamaConfig(llamaConfigToJson(understood))).toEqual(understood)
    expect(parseLlamaConfig(JSON.parse(JSON.stringify(llamaConfigToJson(understood))))).toEqual(understood)
  })

  test('with absent fields means what transformers takes them to mean', () => {
    expect(parseLlamaConfig({ model_type: 'llama' })).toEqual({
      vocabularySize: 32_000,
      hiddenSize: 4096,
      intermediateSize: 11_008,
      layers: 32,
      attentionHeads: 32,
      keyValueHeads: 32,
      headSize: 128,
      maxPositionEmbeddings: 2048,
      rmsNormEpsilon: 1e-6,
      ropeTheta: 10_000,
      tieWordEmbeddings: false,
      initializerRange: 0.02,
      bosTokenId: 1,
      eosTokenId: 2,
      padTokenId: null,
    })
  })

  test('may give heads another width than hidden size over heads', () => {
    expect(parseLlamaConfig({ ...written, head_dim: 16 }).headSize).toBe(16)
  })

  test.each([
    ['another architecture', { ...written, model_type: 'mistral' }, 'model/architecture', /mistral/],
    [
      'another head on a Llama',
      { ...written, architectures: ['LlamaForSequenceClassification'] },
      'model/architecture',
      /LlamaForSequenceClassification/,
    ],
    ['no architecture at all', { hidden_size: 16 }, 'model/config', /model_type/],
    ['not an object', 'hello', 'model/config', /does not describe a model/],
    ['heads that do not divide the width', { ...written, num_attention_heads: 3 }, 'model/config', /3 .*16/],
    ['key-value heads that do not divide', { ...written, num_key_value_heads: 4 }, 'model/config', /4 .*2/],
    ['an odd head', { ...written, head_dim: 7 }, 'model/config', /is 7/],
    ['a width of nothing', { ...written, hidden_size: 0 }, 'model/config', /hidden_size/],
    ['a width beyond all bounds', { ...written, hidden_size: 2 ** 40 }, 'model/config', /hidden_size/],
    ['a width in words', { ...written, hidden_size: 'wide' }, 'model/config', /hidden_size/],
    [
      'stretched rotary positions',
      { ...written, rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: null },
      'model/unsupported',
      /linear/,
    ],
    [
      'Llama 3 rotary positions',
      { ...written, rope_parameters: { rope_type: 'llama3' } },
      'model/unsupported',
      /llama3/,
    ],
    [
      'Llama 3 rotary positions under the older name, beside plain ones',
      { ...written, rope_scaling: { rope_type: 'llama3', factor: 8 } },
      'model/unsupported',
      /rope_type “llama3”/,
    ],
    ['biases in attention', { ...written, attention_bias: true }, 'model/unsupported', /attention_bias/],
    ['biases in the feed-forward', { ...written, mlp_bias: true }, 'model/unsupported', /mlp_bias/],
    ['another activation', { ...written, hidden_act: 'gelu' }, 'model/unsupported', /gelu/],
  ])('with %s is refused', (_what, json, code, message) => {
    const error = refusal(json)
    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
    expect(error.message).toContain('some/config.json')
  })

  test('a refusal reaches zod as an issue', () => {
    const result = llamaConfigSchema.safeParse({ ...written, num_attention_heads: 3 })
    expect(result.error?.issues[0]?.message).toMatch(/does not divide/)
  })
})

describe('a configuration made here', () => {
  const small = { vocabularySize: 256, hiddenSize: 64, intermediateSize: 172, layers: 2, attentionHeads: 4 }

  test('needs five numbers and takes the rest from transformers', () => {
    expect(llamaConfig(small)).toMatchObject({
      keyValueHeads: 4,
      headSize: 16,
      ropeTheta: 10_000,
      eosTokenId: null,
    })
    expect(llamaConfig({ ...small, keyValueHeads: 2 })).toMatchObject({ keyValueHeads: 2 })
  })

  test.each([{ attentionHeads: 5 }, { keyValueHeads: 3 }, { hiddenSize: 4 }, { layers: 0 }, { layers: 1.5 }])(
    'cannot have %o',
    (change) => {
      expect(() => llamaConfig({ ...small, ...change })).toThrow(GroundswellError)
    },
  )
})
