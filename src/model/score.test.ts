import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GroundswellError, memoryFiles, seededRandom } from '../core/index.ts'
import { type Backend, openBackend } from '../runtime/index.ts'
import { defineProgram, interpret, parameter } from '../tensor/index.ts'
import { type Model, readModel } from './checkpoint.ts'
import { llamaConfig } from './config.ts'
import { generate } from './generate.ts'
import { llamaLogits, llamaLoss, llamaWeights, residentParameters } from './llama.ts'
import { initialParameters } from './parameters.ts'
import { mostLikely } from './sampling.ts'
import { score, scoreText, scoringWindows } from './score.ts'
import { byteTokenizer } from './tokenizer/index.ts'

/** What transformers computed from the checkpoints that it wrote: test/vectors/make-llama-checkpoints.py. */
interface Case {
  folder: string
  tokens: number[]
  logprobs: (number | null)[]
  nextLogits: number[]
}
const vectors = join(import.meta.dirname, '../../test/vectors')
const cases: Case[] = JSON.parse(readFileSync(join(vectors, 'llama-checkpoints.json'), 'utf8'))

async function readVector(folder: string): Promise<Model> {
  const names = readdirSync(join(vectors, folder))
  const held = names.map((name) => [`${folder}/${name}`, readFileSync(join(vectors, folder, name))])
  return readModel(memoryFiles(Object.fromEntries(held)), folder)
}

let backend: Backend
beforeAll(async () => {
  backend = await openBackend({ name: 'cpu', threads: 1 })
})
afterAll(() => backend[Symbol.asyncDispose]())

/** A model of the right width for bytes, whose untrained logits are far apart. */
const config = llamaConfig({
  vocabularySize: 256,
  hiddenSize: 16,
  intermediateSize: 24,
  layers: 2,
  attentionHeads: 4,
  keyValueHeads: 2,
  maxPositionEmbeddings: 64,
  initializerRange: 0.5,
})
const model = { config, parameters: initialParameters(config, 1) }

const largestDifference = (found: (number | null)[], expected: (number | null)[]): number => {
  expect(found).toHaveLength(expected.length)
  return Math.max(...expected.map((value, i) => (value === null ? 0 : Math.abs(value - found[i]!))))
}

describe('scores', () => {
  test.each(cases)('of $folder are those of transformers', async ({ folder, tokens, logprobs }) => {
    const found = await score({ backend, model: await readVector(folder), tokens })
    expect(found[0]).toBe(null)
    expect(largestDifference(found, logprobs)).toBeLessThan(1e-5)
  })

  test('average to the loss that training computes', async () => {
    const { folder, tokens, logprobs } = cases[1]!
    const { config, parameters } = await readVector(folder)
    const shape = [1, tokens.length - 1]
    const inputs = {
      tokens: parameter('tokens', shape, 'int32'),
      targets: parameter('targets', shape, 'int32'),
    }
    const weights = llamaWeights(config)
    const loss = llamaLoss({ config, weights, ...inputs })
    const program = { name: 'loss', inputs, state: weights, outputs: { loss }, updates: {} }
    const { outputs } = interpret(defineProgram(program), {
      inputs: { tokens: { shape, data: tokens.slice(0, -1) }, targets: { shape, data: tokens.slice(1) } },
      state: residentParameters(config, parameters),
    })
    const sum = logprobs.reduce<number>((total, logprob) => total + (logprob ?? 0), 0)
    expect(outputs.loss!.data[0]).toBeCloseTo(-sum / (tokens.length - 1), 5)
  })

  test('follow from the logits of the graph that training differentiates', async () => {
    const { folder, tokens, nextLogits } = cases[1]!
    const { config, parameters } = await readVector(folder)
    const shape = [1, tokens.length]
    const inputs = { tokens: parameter('tokens', shape, 'int32') }
    const weights = llamaWeights(config)
    const logits = llamaLogits({ config, weights, ...inputs })
    const program = { name: 'logits', inputs, state: weights, outputs: { logits }, updates: {} }
    const { outputs } = interpret(defineProgram(program), {
      inputs: { tokens: { shape, data: tokens } },
      state: residentParameters(config, parameters),
    })
    const last = Array.from(outputs.logits!.data.slice(-config.vocabularySize))
    for (const [i, logit] of nextLogits.entries()) expect(last[i]).toBeCloseTo(logit, 4)
  })

  test('are the same on WASM', async () => {
    const wasm = await openBackend({ name: 'wasm', threads: 1 })
    try {
      const { folder, tokens, logprobs } = cases[0]!
      const found = await score({ backend: wasm, model: await readVector(folder), tokens })
      expect(largestDifference(found, logprobs)).toBeLessThan(1e-5)
    } finally {
      await wasm[Symbol.asyncDispose]()
    }
  })

  test('are the same where rows are longer for the sake of the cache', async () => {
    const shape = {
      vocabularySize: 64,
      hiddenSize: 1024,
      intermediateSize: 2048,
      layers: 1,
      attentionHeads: 8,
    }
    const config = llamaConfig({ ...shape, keyValueHeads: 2, maxPositionEmbeddings: 1024 })
    const model = { config, parameters: initialParameters(config, 1) }
    const random = seededRandom('rows')
    const tokens = Array.from({ length: 1025 }, () => random.nextInt(64))
    const longer = await score({ backend, model, tokens, windowLength: 1025 })
    const plain = await score({ backend: { ...backend, place: 'device' }, model, tokens, windowLength: 1025 })
    expect(largestDifference(longer, plain)).toBeLessThan(1e-5)
  })

  test('do not depend on how a text is cut into blocks', async () => {
    const random = seededRandom('score')
    const tokens = Array.from({ length: 300 }, () => random.nextInt(256))
    const long = { ...model, config: { ...config, maxPositionEmbeddings: 512 } }
    const whole = await score({ backend, model: long, tokens })
    // The 257th token and those behind it were read in a second block, against the cache of the first.
    const alone = await score({ backend, model: long, tokens: tokens.slice(0, 200) })
    expect(largestDifference(alone, whole.slice(0, 200))).toBeLessThan(1e-5)
    const window = await score({ backend, model: long, tokens: tokens.slice(40, 300), windowLength: 260 })
    const windowed = await score({ backend, model: long, tokens, windowLength: 260, stride: 40 })
    expect(largestDifference(windowed.slice(260), window.slice(220))).toBeLessThan(1e-5)
  })

  test('of a text longer than the context are each given by the window that sees most', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 400 }),
        fc.integer({ min: 2, max: 64 }),
        fc.nat(),
        (length, window, any) => {
          const stride = 1 + (any % (window - 1))
          const scored: number[] = []
          for (const { start, scoredFrom, end } of scoringWindows(length, window, stride)) {
            expect(end - start).toBeLessThanOrEqual(window)
            for (let token = scoredFrom; token < end; token++) {
              scored.push(token)
              expect(token - start).toBeGreaterThanOrEqual(Math.min(token, window - stride))
            }
          }
          expect(scored).toEqual(Array.from({ length: length - 1 }, (_, i) => i + 1))
        },
      ),
    )
  })

  test('in bits per byte leave out the first token on both sides', async () => {
    const { tokens, logprobs, bitsPerByte, bytes } = await scoreText({
      ...{ backend, model, tokenizer: byteTokenizer(), text: 'grün ist es' },
    })
    expect(tokens).toEqual([...new TextEncoder().encode('grün ist es')])
    expect(bytes).toBe(11)
    const bits = logprobs.slice(1).reduce<number>((sum, logprob) => sum - logprob! / Math.LN2, 0)
    expect(bitsPerByte).toBeCloseTo(bits / 11, 10)
  })

  test('of one token are none, and of nothing an error', async () => {
    const tokenizer = byteTokenizer()
    expect(await scoreText({ backend, model, tokenizer, text: 'a' })).toEqual({
      ...{ tokens: [97], logprobs: [null], bitsPerByte: null, bytes: 0 },
    })
    await expect(scoreText({ backend, model, tokenizer, text: '' })).rejects.toThrow(/text is empty/)
    await expect(score({ backend, model, tokens: [1, 256] })).rejects.toThrow(/Token 256/)
    await expect(score({ backend, model, tokens: [1, 2], windowLength: 8, stride: 8 })).rejects.toThrow(
      /advance by 8/,
    )
  })

  test('can be stopped', async () => {
    const aborted = AbortSignal.abort(new Error('enough'))
    await expect(score({ backend, model, tokens: [1, 2], signal: aborted })).rejects.toThrow('enough')
  })
})

describe('generation', () => {
  const draw = async (options: Partial<Parameters<typeof generate>[0]>): Promise<number[]> => {
    const tokens: number[] = []
    const defaults = { backend, model, prompt: [1, 2, 3], maxTokens: 12, random: seededRandom('draw', 1) }
    for await (const { token } of generate({ ...defaults, ...options })) tokens.push(token)
    return tokens
  }
  const greedy = { sampling: { temperature: 0 } }

  test.each(cases)(
    'begins as the logits of transformers say for $folder',
    async ({ folder, tokens, nextLogits }) => {
      const expected = mostLikely(Float32Array.from(nextLogits))
      const total = Math.log(nextLogits.reduce((sum, logit) => sum + Math.exp(logit), 0))
      const generation = generate({
        ...{
          backend,
          model: await readVector(folder),
          prompt: tokens,
          maxTokens: 1,
          random: seededRandom(1),
        },
        ...greedy,
      })
      for await (const { token, logprob } of generation) {
        expect(token).toBe(expected)
        expect(logprob).toBeCloseTo(nextLogits[expected]! - total, 5)
      }
    },
  )

  test('step by step gives what scoring the whole gives', async () => {
    const logprobs: number[] = []
    const tokens = [
      ...new TextEncoder().encode('A prompt of more than one block, for it has sixty-five bytes, or so.'),
    ]
    const long = { ...model, config: { ...config, maxPositionEmbeddings: 128 } }
    const prompt = tokens.length
    expect(prompt).toBeGreaterThan(64)
    const random = seededRandom(3)
    for await (const { token, logprob } of generate({
      backend,
      model: long,
      prompt: [...tokens],
      maxTokens: 20,
      random,
    })) {
      tokens.push(token)
      logprobs.push(logprob)
    }
    const whole = await score({ backend, model: long, tokens })
    expect(largestDifference(logprobs, whole.slice(prompt))).toBeLessThan(1e-4)
  })

  test('is the same for the same seed, and another for another', async () => {
    const first = await draw({})
    expect(await draw({})).toEqual(first)
    expect(await draw({ random: seededRandom('draw', 2) })).not.toEqual(first)
  })

  test('goes on where the context is full, from its newer half', async () => {
    const tokens = await draw({ ...greedy, contextLength: 8, maxTokens: 30 })
    expect(tokens).toHaveLength(30)
    // After 3 + 5 tokens the context is full; the ninth is the first that sees only the last four.
    const history = [1, 2, 3, ...tokens]
    const [next] = await draw({ ...greedy, prompt: history.slice(5, 9), maxTokens: 1 })
    expect(history[9]).toBe(next)
  })

  test('of a prompt longer than the context uses its end', async () => {
    const prompt = Array.from({ length: 200 }, (_, i) => (i * 7) % 256)
    expect(await draw({ ...greedy, prompt, maxTokens: 1 })).toEqual(
      await draw({ ...greedy, prompt: prompt.slice(-64), maxTokens: 1 }),
    )
  })

  test('ends at a stop token, which is not part of it', async () => {
    const tokens = await draw(greedy)
    const stop = tokens[4]!
    expect(await draw({ ...greedy, stopTokens: [stop] })).toEqual(tokens.slice(0, tokens.indexOf(stop)))
  })

  test('of nothing, or of strange tokens, is refused', async () => {
    await expect(draw({ prompt: [] })).rejects.toThrow(/prompt has no tokens/)
    await expect(draw({ prompt: [-1] })).rejects.toThrow(/Token -1/)
    await expect(draw({ contextLength: 1 })).rejects.toThrow(GroundswellError)
    await expect(draw({ sampling: { temperature: -1 } })).rejects.toThrow(/Temperature/)
  })
})
