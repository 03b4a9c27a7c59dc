/**
 * Llama (Touvron et al., https://arxiv.org/abs/2302.13971) for training, as `transformers` computes it: embedding,
 * layers of grouped-head attention with rotary positions and of a gated feed-forward unit, each behind a root-mean-
 * square norm and added to the residual stream, a final norm and the output matrix. Parameters are resident under
 * their Hugging Face names and in their layout, [out, in].
 */
import {
  add,
  causalAttention,
  crossEntropy,
  gather,
  matmul,
  parameter,
  reshape,
  rmsNorm,
  rope,
  swiglu,
  type Tensor,
  transpose,
} from '../tensor/index.ts'
import type { LlamaConfig } from './config.ts'
import { embeddingName, outputName, parameterSpecs } from './parameters.ts'

/** Placeholders for the parameters, by Hugging Face name. */
export type LlamaWeights = Readonly<Record<string, Tensor>>

export function llamaWeights(config: LlamaConfig): LlamaWeights {
  return Object.fromEntries(parameterSpecs(config).map(({ name, shape }) => [name, parameter(name, shape)]))
}

export interface LlamaForwardOptions {
  readonly config: LlamaConfig
  readonly weights: LlamaWeights
  /** int32 [batch, sequence] */
  readonly tokens: Tensor
}

/** Logits after every position, [batch · sequence, vocabularySize]. */
export function llamaLogits({ config, weights, tokens }: LlamaForwardOptions): Tensor {
  const [batch, sequence] = tokens.shape as [number, number]
  const rows = batch * sequence
  const { attentionHeads, keyValueHeads, headSize, ropeTheta, rmsNormEpsilon } = config
  const weight = (name: string): Tensor => weights[name]!
  const project = (x: Tensor, name: string): Tensor => matmul(x, weight(name), { transposeB: true })
  const turned = (x: Tensor): Tensor => rope(x, { theta: ropeTheta, sequenceAxis: -3 })
  const split = (x: Tensor, heads: number): Tensor => reshape(x, [batch, sequence, heads, headSize])
  const headsFirst = (x: Tensor): Tensor => transpose(x, [0, 2, 1, 3])

  let stream = gather(weight(embeddingName), reshape(tokens, [rows])) // [rows, hiddenSize]
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}`
    const x = rmsNorm(stream, weight(`${prefix}.input_layernorm.weight`), rmsNormEpsilon)
    const attended = causalAttention({
      q: headsFirst(turned(split(project(x, `${prefix}.self_attn.q_proj.weight`), attentionHeads))),
      k: headsFirst(turned(split(project(x, `${prefix}.self_attn.k_proj.weight`), keyValueHeads))),
      v: headsFirst(split(project(x, `${prefix}.self_attn.v_proj.weight`), keyValueHeads)),
    })
    const joined = reshape(headsFirst(attended), [rows, attentionHeads * headSize])
    stream = add(stream, project(joined, `${prefix}.self_attn.o_proj.weight`))
    const y = rmsNorm(stream, weight(`${prefix}.post_attention_layernorm.weight`), rmsNormEpsilon)
    const gate = project(y, `${prefix}.mlp.gate_proj.weight`)
    const up = project(y, `${prefix}.mlp.up_proj.weight`)
    stream = add(stream, project(swiglu(gate, up), `${prefix}.mlp.down_proj.weight`))
  }
  const last = rmsNorm(stream, weight('model.norm.weight'), rmsNormEpsilon)
  return project(last, config.tieWordEmbeddings ? embeddingName : outputName)
}

export interface LlamaLossOptions extends LlamaForwardOptions {
  /** int32 [batch, sequence]: the token that follows each one. */
  readonly targets: Tensor
  /** Targets that do not count; −100 if absent. */
  readonly ignoreIndex?: number
}

/** Mean cross-entropy in nats over the targets that count, a scalar. */
export function llamaLoss({ targets, ignoreIndex, ...forward }: LlamaLossOptions): Tensor {
  const flat = reshape(targets, [-1])
  return crossEntropy(llamaLogits(forward), flat, ignoreIndex === undefined ? {} : { ignoreIndex })
}
