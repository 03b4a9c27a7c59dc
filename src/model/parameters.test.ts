import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cidOf, inTurns } from '../core/index.ts'
import { llamaConfig } from './config.ts'
import {
  countParameters,
  flatten,
  initialParameters,
  layoutOf,
  parameterSpecs,
  unflatten,
} from './parameters.ts'

const small = llamaConfig({
  vocabularySize: 96,
  hiddenSize: 32,
  intermediateSize: 48,
  layers: 2,
  attentionHeads: 4,
  keyValueHeads: 2,
})

describe('parameters of a Llama', () => {
  test('have the names and shapes of transformers, input to output', () => {
    expect(parameterSpecs({ ...small, layers: 1 })).toEqual([
      { name: 'model.embed_tokens.weight', shape: [96, 32] },
      { name: 'model.layers.0.input_layernorm.weight', shape: [32] },
      { name: 'model.layers.0.self_attn.q_proj.weight', shape: [32, 32] },
      { name: 'model.layers.0.self_attn.k_proj.weight', shape: [16, 32] },
      { name: 'model.layers.0.self_attn.v_proj.weight', shape: [16, 32] },
      { name: 'model.layers.0.self_attn.o_proj.weight', shape: [32, 32] },
      { name: 'model.layers.0.post_attention_layernorm.weight', shape: [32] },
      { name: 'model.layers.0.mlp.gate_proj.weight', shape: [48, 32] },
      { name: 'model.layers.0.mlp.up_proj.weight', shape: [48, 32] },
      { name: 'model.layers.0.mlp.down_proj.weight', shape: [32, 48] },
      { name: 'model.norm.weight', shape: [32] },
      { name: 'lm_head.weight', shape: [96, 32] },
    ])
  })

  test('tied embeddings leave out the output projection', () => {
    const names = parameterSpecs({ ...small, tieWordEmbeddings: true }).map(({ name }) => name)
    expect(names).not.toContain('lm_head.weight')
    expect(countParameters(small) - countParameters({ ...small, tieWordEmbeddings: true })).toBe(96 * 32)
  })

  test.each([
    // 4 layers, hidden 256, 4 heads, intermediate 688, bytes: 2·256·256 + 4·(4·256² + 3·256·688 + 2·256) + 256
    [
      'the 3.3M of the benchmarks',
      { vocabularySize: 256, hiddenSize: 256, intermediateSize: 688, layers: 4, attentionHeads: 4 },
      3_295_488,
    ],
    // https://huggingface.co/meta-llama/Llama-2-7b-hf: 6.74B parameters
    [
      'Llama 2 7B',
      { vocabularySize: 32_000, hiddenSize: 4096, intermediateSize: 11_008, layers: 32, attentionHeads: 32 },
      6_738_415_616,
    ],
    // https://huggingface.co/TinyLlama/TinyLlama-1.1B-Chat-v1.0: 1.1B parameters
    [
      'TinyLlama',
      {
        vocabularySize: 32_000,
        hiddenSize: 2048,
        intermediateSize: 5632,
        layers: 22,
        attentionHeads: 32,
        keyValueHeads: 4,
      },
      1_100_048_384,
    ],
  ])('%s counts right', (_name, settings, count) => {
    expect(countParameters(llamaConfig(settings))).toBe(count)
  })
})

describe('the flat vector', () => {
  test('holds every parameter once, without gaps', () => {
    const { entries, totalSize } = layoutOf(small)
    let end = 0
    for (const { offset, size } of entries) {
      expect(offset).toBe(end)
      end += size
    }
    expect(end).toBe(totalSize)
    expect(totalSize).toBe(countParameters(small))
  })

  test('is the parameters, and the parameters are it', () => {
    const layout = layoutOf(small)
    fc.assert(
      fc.property(fc.infiniteStream(fc.float({ noNaN: true })), (values) => {
        const flat = Float32Array.from({ length: layout.totalSize }, () => values.next().value)
        expect(flatten(unflatten(flat, layout), layout)).toEqual(flat)
      }),
      { numRuns: 5 },
    )
  })

  test('refuses what does not fit', () => {
    const layout = layoutOf(small)
    const parameters = initialParameters(small, 1)
    const { 'model.norm.weight': norm, ...without } = parameters
    expect(() => unflatten(new Float32Array(7), layout)).toThrow(/7 numbers/)
    expect(() => flatten(without, layout)).toThrow(/no parameter “model.norm.weight”/)
    expect(() => flatten({ ...parameters, extra: norm! }, layout)).toThrow(/“extra”/)
    expect(() =>
      flatten({ ...parameters, 'model.norm.weight': { shape: [16, 2], data: norm!.data } }, layout),
    ).toThrow(/“model.norm.weight” with shape \[16, 2\] where the configuration says \[32\]/)
  })
})

describe('first values', () => {
  test('are normal with the configured deviation, and norms are one', () => {
    const parameters = initialParameters(llamaConfig({ ...small, hiddenSize: 128, headSize: 32 }), 7)
    expect(new Set(parameters['model.norm.weight']!.data)).toEqual(new Set([1]))
    const matrix = parameters['model.layers.1.mlp.up_proj.weight']!.data
    const mean = matrix.reduce((sum, value) => sum + value, 0) / matrix.length
    const variance = matrix.reduce((sum, value) => sum + (value - mean) ** 2, 0) / matrix.length
    expect(Math.abs(mean)).toBeLessThan(1e-3)
    expect(Math.sqrt(variance)).toBeCloseTo(0.02, 3)
  })

  test('are the same bytes on every machine', async () => {
    const flat = flatten(initialParameters(small, 1234), layoutOf(small))
    expect(await cidOf(new Uint8Array(flat.buffer))).toBe(
      'bafkreihjygiiihafdgfpib5jugajjqvug6v3uh2dgicywur6qobyqbixfy',
    )
  })

  test('are the same when others have turns in between, and are drawn no further when a turn ends it', async () => {
    const larger = llamaConfig({ ...small, vocabularySize: 2048 })
    let turns = 0
    const pause = async (): Promise<void> => void turns++
    expect(await inTurns(pause, initialParameters, larger, 1)).toEqual(initialParameters(larger, 1))
    // No part is much longer than 16,384 numbers.
    expect(turns).toBeGreaterThanOrEqual(countParameters(larger) / 16_384)
    const given = new Error('given up')
    let left = 3
    const giveUp = async (): Promise<void> => {
      if (--left === 0) throw given
    }
    await expect(inTurns(giveUp, initialParameters, larger, 1)).rejects.toBe(given)
    expect(left).toBe(0)
  })

  test('differ between seeds and between parameters, and do not depend on the depth', () => {
    const one = initialParameters(small, 1)
    const other = initialParameters(small, 2)
    const deeper = initialParameters({ ...small, layers: 3 }, 1)
    const key = 'model.layers.0.self_attn.k_proj.weight'
    expect(one[key]!.data).not.toEqual(other[key]!.data)
    expect(one[key]!.data).not.toEqual(one['model.layers.0.self_attn.v_proj.weight']!.data)
    expect(one[key]).toEqual(deeper[key])
  })
})
