/**
 * The shape of a Llama model, read from and written to the `config.json` of Hugging Face's `transformers`
 * (https://github.com/huggingface/transformers/blob/main/src/transformers/models/llama/configuration_llama.py), whose
 * defaults for absent fields apply here too. What this house does not compute (biases, other activations, stretched
 * rotary positions) is refused by name, because a checkpoint that loads and means something else is worse.
 */
import { z } from 'zod'
import { GroundswellError } from '../core/index.ts'

/** A checked Llama configuration; `parseLlamaConfig` and `llamaConfig` are the ways to get one. */
export interface LlamaConfig {
  readonly vocabularySize: number
  /** Width of the residual stream. */
  readonly hiddenSize: number
  /** Width inside the gated feed-forward block. */
  readonly intermediateSize: number
  readonly layers: number
  readonly attentionHeads: number
  /** Heads of keys and values, each shared by attentionHeads / keyValueHeads heads of queries. */
  readonly keyValueHeads: number
  /** Width of one head: hiddenSize / attentionHeads unless the checkpoint says otherwise. */
  readonly headSize: number
  readonly maxPositionEmbeddings: number
  readonly rmsNormEpsilon: number
  readonly ropeTheta: number
  /** Whether the output projection is the embedding table itself. */
  readonly tieWordEmbeddings: boolean
  /** Standard deviation of freshly drawn matrices. */
  readonly initializerRange: number
  readonly bosTokenId: number | null
  readonly eosTokenId: number | readonly number[] | null
  readonly padTokenId: number | null
}

/** What somebody who makes a model has to say, and what they may. */
export type LlamaSettings = Pick<
  LlamaConfig,
  'vocabularySize' | 'hiddenSize' | 'intermediateSize' | 'layers' | 'attentionHeads'
> &
  Partial<LlamaConfig>

/** A configuration from the few numbers that matter; the rest as `transformers` would choose, but no special tokens. */
export function llamaConfig(settings: LlamaSettings): LlamaConfig {
  return checkShape({
    keyValueHeads: settings.attentionHeads,
    headSize: settings.hiddenSize / settings.attentionHeads,
    maxPositionEmbeddings: 2048,
    rmsNormEpsilon: 1e-6,
    ropeTheta: 10_000,
    tieWordEmbeddings: false,
    initializerRange: 0.02,
    bosTokenId: null,
    eosTokenId: null,
    padTokenId: null,
    ...settings,
  })
}

// A width beyond these could only come from a broken or hostile file; they bound what is allocated on its word.
const size = z
  .int()
  .min(1)
  .max(2 ** 24)
const positive = z.number().positive()
const tokenId = z
  .int()
  .min(0)
  .max(2 ** 31)
const rope = z.looseObject({
  rope_theta: positive.nullish(),
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
})

const jsonSchema = z.looseObject({
  vocab_size: size.default(32_000),
  hidden_size: size.default(4096),
  intermediate_size: size.default(11_008),
  num_hidden_layers: z.int().min(1).max(4096).default(32),
  num_attention_heads: size.default(32),
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  hidden_act: z.string().default('silu'),
  max_position_embeddings: z
    .int()
    .min(1)
    .max(2 ** 31)
    .default(2048),
  initializer_range: z.number().min(0).max(1).default(0.02),
  rms_norm_eps: positive.default(1e-6),
  rope_theta: positive.nullish(),
  rope_scaling: rope.nullish(),
  rope_parameters: rope.nullish(),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  bos_token_id: tokenId.nullable().default(1),
  eos_token_id: z
    .union([tokenId, z.array(tokenId).max(64)])
    .nullable()
    .default(2),
  pad_token_id: tokenId.nullable().default(null),
})

/** `config.json` (Hugging Face's names) in, `LlamaConfig` out; shapes that cannot be are refused as well. */
export const llamaConfigSchema: z.ZodType<LlamaConfig> = z.unknown().transform((json, context) => {
  try {
    return parseLlamaConfig(json)
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError)) throw thrown
    context.addIssue({ code: 'custom', message: thrown.message })
    return z.NEVER
  }
})

/**
 * Reads a parsed `config.json`.
 * @param source what to call it in errors, such as its path
 * @throws GroundswellError `model/architecture` for another kind of model, `model/unsupported` for a Llama with a
 * feature that is not computed here, `model/config` for a missing, mistyped or impossible value
 */
export function parseLlamaConfig(json: unknown, source = 'config.json'): LlamaConfig {
  refuseOtherArchitectures(json, source)
  const parsed = jsonSchema.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    const field = issue.path.join('.')
    throw configError(`${source} has an unusable ${field === '' ? 'content' : field}: ${issue.message}.`)
  }
  const fields = parsed.data
  refuseUnsupported(fields, source)
  return checkShape(
    {
      vocabularySize: fields.vocab_size,
      hiddenSize: fields.hidden_size,
      intermediateSize: fields.intermediate_size,
      layers: fields.num_hidden_layers,
      attentionHeads: fields.num_attention_heads,
      keyValueHeads: fields.num_key_value_heads ?? fields.num_attention_heads,
      headSize: fields.head_dim ?? fields.hidden_size / fields.num_attention_heads,
      maxPositionEmbeddings: fields.max_position_embeddings,
      rmsNormEpsilon: fields.rms_norm_eps,
      ropeTheta: ropeOf(fields)?.rope_theta ?? fields.rope_theta ?? 10_000,
      tieWordEmbeddings: fields.tie_word_embeddings,
      initializerRange: fields.initializer_range,
      bosTokenId: fields.bos_token_id,
      eosTokenId: fields.eos_token_id,
      padTokenId: fields.pad_token_id,
    },
    source,
  )
}

/** The `config.json` of this model, which `transformers` 4 and 5 (and GGUF converters) read alike. */
export function llamaConfigToJson(config: LlamaConfig): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    attention_bias: false,
    attention_dropout: 0,
    bos_token_id: config.bosTokenId,
    eos_token_id: config.eosTokenId,
    head_dim: config.headSize,
    hidden_act: 'silu',
    hidden_size: config.hiddenSize,
    initializer_range: config.initializerRange,
    intermediate_size: config.intermediateSize,
    max_position_embeddings: config.maxPositionEmbeddings,
    mlp_bias: false,
    model_type: 'llama',
    num_attention_heads: config.attentionHeads,
    num_hidden_layers: config.layers,
    num_key_value_heads: config.keyValueHeads,
    pad_token_id: config.padTokenId,
    rms_norm_eps: config.rmsNormEpsilon,
    rope_parameters: { rope_theta: config.ropeTheta, rope_type: 'default' },
    rope_theta: config.ropeTheta,
    tie_word_embeddings: config.tieWordEmbeddings,
    torch_dtype: 'float32',
    use_cache: true,
    vocab_size: config.vocabularySize,
  }
}

/** Refuses shapes that no Llama can have, naming the fields as they stand in `config.json`. */
function checkShape(config: LlamaConfig, source?: string): LlamaConfig {
  const { hiddenSize, attentionHeads, keyValueHeads, headSize } = config
  const where = source === undefined ? '' : `${source}: `
  const counts = { hiddenSize, attentionHeads, keyValueHeads, ...pickCounts(config) }
  for (const [name, value] of Object.entries(counts)) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw configError(`${where}${name} must be a positive whole number, not ${value}.`)
    }
  }
  if (hiddenSize % attentionHeads !== 0) {
    throw configError(
      `${where}num_attention_heads ${attentionHeads} does not divide hidden_size ${hiddenSize}.`,
      'Choose a number of attention heads that divides the hidden size.',
    )
  }
  if (attentionHeads % keyValueHeads !== 0) {
    throw configError(
      `${where}num_key_value_heads ${keyValueHeads} does not divide num_attention_heads ${attentionHeads}.`,
      'Choose a number of key-value heads that divides the number of attention heads.',
    )
  }
  if (!Number.isSafeInteger(headSize) || headSize < 2 || headSize % 2 !== 0) {
    throw configError(
      `${where}the head dimension (hidden_size ${hiddenSize} / num_attention_heads ${attentionHeads}, or head_dim) ` +
        `is ${headSize}, and rotary positions need an even one.`,
      'Change the hidden size or the number of attention heads.',
    )
  }
  return config
}

function pickCounts(config: LlamaConfig): Record<string, number> {
  const { vocabularySize, intermediateSize, layers, maxPositionEmbeddings } = config
  return { vocabularySize, intermediateSize, layers, maxPositionEmbeddings }
}

const architectureSchema = z.looseObject({
  model_type: z.string().optional(),
  architectures: z.array(z.string()).nullish(),
})

function refuseOtherArchitectures(json: unknown, source: string): void {
  const parsed = architectureSchema.safeParse(json)
  if (!parsed.success) throw configError(`${source} does not describe a model.`)
  const { model_type: modelType, architectures } = parsed.data
  if (modelType === undefined && architectures === undefined) {
    throw configError(
      `${source} names no model_type.`,
      'Give the folder of a Llama checkpoint; its config.json says "model_type": "llama".',
    )
  }
  const other =
    modelType !== undefined && modelType !== 'llama'
      ? modelType
      : architectures?.find((name) => name !== 'LlamaForCausalLM')
  if (other !== undefined) {
    throw new GroundswellError(
      `${source} describes a model of architecture “${other.slice(0, 80)}”, not Llama.`,
      {
        code: 'model/architecture',
        remedy: 'Use a checkpoint whose config.json says "model_type": "llama" and "LlamaForCausalLM".',
      },
    )
  }
}

function refuseUnsupported(fields: z.infer<typeof jsonSchema>, source: string): void {
  const rotary = ropeOf(fields)
  const ropeType = rotary?.rope_type ?? rotary?.type ?? 'default'
  const unsupported =
    ropeType !== 'default'
      ? `rope_type “${ropeType.slice(0, 80)}”`
      : fields.hidden_act !== 'silu'
        ? `hidden_act “${fields.hidden_act.slice(0, 80)}”`
        : fields.attention_bias
          ? 'attention_bias'
          : fields.mlp_bias
            ? 'mlp_bias'
            : undefined
  if (unsupported === undefined) return
  throw new GroundswellError(`${source} asks for ${unsupported}, which is not supported.`, {
    code: 'model/unsupported',
    remedy: 'Use a Llama checkpoint with plain rotary positions, SiLU and no biases.',
  })
}

/**
 * The settings of the rotary positions, as transformers 5 finds them: `rope_scaling`, the older name, comes before
 * `rope_parameters` and takes its place as a whole; null and {} are as good as absent.
 */
function ropeOf(fields: z.infer<typeof jsonSchema>): z.infer<typeof rope> | undefined {
  const candidates = [fields.rope_scaling, fields.rope_parameters]
  return candidates.find((settings) => Object.keys(settings ?? {}).length > 0) ?? undefined
}

function configError(message: string, remedy?: string): GroundswellError {
  return new GroundswellError(message, {
    code: 'model/config',
    ...(remedy === undefined ? {} : { remedy }),
  })
}
