/**
 * How a model's makers mean it to be sampled, as `generation_config.json` of `transformers` says it
 * (https://huggingface.co/docs/transformers/main_classes/text_generation).
 */
import { z } from 'zod'
import { GroundswellError } from '../core/index.ts'
import type { LlamaConfig } from './config.ts'
import type { SamplingSettings } from './sampling.ts'

export interface GenerationConfig {
  readonly bosTokenId: number | null
  /** Any of these ends a text. */
  readonly eosTokenIds: readonly number[]
  readonly padTokenId: number | null
  /** Temperature 0 where the file does not ask for sampling. */
  readonly sampling: SamplingSettings
}

const tokenId = z
  .int()
  .min(0)
  .max(2 ** 31)
const jsonSchema = z.looseObject({
  bos_token_id: tokenId.nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId).max(64)]).nullish(),
  pad_token_id: tokenId.nullish(),
  do_sample: z.boolean().nullish(),
  temperature: z.number().min(0).nullish(),
  top_k: z.int().min(0).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
})

/** What applies to a model that comes without `generation_config.json`: its special tokens, and no sampling. */
export function defaultGenerationConfig(config: LlamaConfig): GenerationConfig {
  return {
    bosTokenId: config.bosTokenId,
    eosTokenIds: [config.eosTokenId ?? []].flat(),
    padTokenId: config.padTokenId,
    sampling: { temperature: 0 },
  }
}

/**
 * Reads a parsed `generation_config.json`.
 * @throws GroundswellError `checkpoint/malformed`
 */
export function parseGenerationConfig(json: unknown, source = 'generation_config.json'): GenerationConfig {
  const parsed = jsonSchema.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    const field = issue.path.length === 0 ? 'content' : issue.path.join('.')
    throw new GroundswellError(`${source} has an unusable ${field}: ${issue.message}.`, {
      code: 'checkpoint/malformed',
      remedy: 'Correct the file, or remove it to do without.',
    })
  }
  const { do_sample, temperature, top_k, top_p, ...fields } = parsed.data
  return {
    bosTokenId: fields.bos_token_id ?? null,
    eosTokenIds: [fields.eos_token_id ?? []].flat(),
    padTokenId: fields.pad_token_id ?? null,
    sampling:
      do_sample === true
        ? {
            ...(temperature === null || temperature === undefined ? {} : { temperature }),
            // 0 is how transformers says “all”.
            ...(top_k === null || top_k === undefined || top_k === 0 ? {} : { topK: top_k }),
            ...(top_p === null || top_p === undefined ? {} : { topP: top_p }),
          }
        : { temperature: 0 },
  }
}

/** The `generation_config.json` that says this. */
export function generationConfigToJson(config: GenerationConfig): Record<string, unknown> {
  const { temperature = 1, topK = 0, topP = 1 } = config.sampling
  const [first, ...others] = config.eosTokenIds
  return {
    bos_token_id: config.bosTokenId,
    eos_token_id: others.length === 0 ? (first ?? null) : config.eosTokenIds,
    pad_token_id: config.padTokenId,
    ...(temperature === 0
      ? { do_sample: false }
      : { do_sample: true, temperature, top_k: topK, top_p: topP }),
  }
}
