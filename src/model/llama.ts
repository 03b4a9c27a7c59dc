/**
 * Llama (Touvron et al., https://arxiv.org/abs/2302.13971) for training, as `transformers` computes it: embedding,
 * layers of grouped-head attention with rotary positions and of a gated feed-forward unit, each behind a root-mean-
 * square norm and added to the residual stream, a final norm and the output matrix. Parameters are resident under
 * their Hugging Face names; `residentParameters` and `parametersOf` turn those matrices that lie there as [in, out].
 */
import type { HostTensor, Place } from '../runtime/index.ts'
import {
  add,
  causalAttention,
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
import { nextTokenLoss } from './next-token-loss.ts'
import {
  embeddingName,
  layoutOf,
  outputName,
  type Parameter,
  type Parameters,
  parameterSpecs,
  unflatten,
} from './parameters.ts'
import { type Projections, projectionsFor } from './projection.ts'
import { spareColumns } from './row-strides.ts'

/** Placeholders for the parameters as they are resident, by Hugging Face name. */
export type LlamaWeights = Readonly<Record<string, Tensor>>

export function llamaWeights(config: LlamaConfig): LlamaWeights {
  return Object.fromEntries(
    parameterSpecs(config).map(({ name, shape }) => [
      name,
      parameter(name, liesTransposed(name) ? shape.toReversed() : shape),
    ]),
  )
}

/** Whether a matrix that a checkpoint holds as [out, in] is resident as [in, out]; projection.ts says why. */
function liesTransposed(name: string): boolean {
  return name === outputName || /\.(q_proj|k_proj|v_proj|gate_proj|up_proj)\.weight$/.test(name)
}

/** Parameters as they lie on a backend. */
export function residentParameters(config: LlamaConfig, parameters: Parameters): Record<string, HostTensor> {
  return Object.fromEntries(
    parameterSpecs(config).map(({ name }) => {
      const value = parameters[name]!
      return [name, { dtype: 'float32', ...(liesTransposed(name) ? transposed(value) : value) } as const]
    }),
  )
}

/** The parameters among resident tensors as one vector, in the order of `layoutOf`: [totalSize]. */
export function flatParametersOf(
  config: LlamaConfig,
  resident: Readonly<Record<string, HostTensor>>,
): Float32Array {
  const { entries, totalSize } = layoutOf(config)
  const flat = new Float32Array(totalSize)
  for (const { name, offset, size } of entries) {
    const { shape, data } = resident[name]!
    const target = flat.subarray(offset, offset + size)
    if (liesTransposed(name)) transposeInto(target, { shape, data: data as Float32Array })
    else target.set(data)
  }
  return flat
}

/** The parameters among resident tensors, by Hugging Face name and in its shapes. */
export function parametersOf(
  config: LlamaConfig,
  resident: Readonly<Record<string, HostTensor>>,
): Parameters {
  return unflatten(flatParametersOf(config, resident), layoutOf(config))
}

function transposed(value: Parameter): Parameter {
  const data = new Float32Array(value.data.length)
  transposeInto(data, value)
  return { shape: value.shape.toReversed(), data }
}

/** Block by block, as many values as a cache holds of both: along rows alone every write would miss it. */
function transposeInto(target: Float32Array, { shape, data }: Parameter): void {
  const [rows, columns] = shape as [number, number]
  const side = 32
  for (let top = 0; top < rows; top += side) {
    const bottom = Math.min(top + side, rows)
    for (let left = 0; left < columns; left += side) {
      const right = Math.min(left + side, columns)
      for (let column = left; column < right; column++) {
        for (let row = top; row < bottom; row++) target[column * rows + row] = data[row * columns + column]!
      }
    }
  }
}

export interface LlamaForwardOptions {
  readonly config: LlamaConfig
  readonly weights: LlamaWeights
  /** int32 [batch, sequence] */
  readonly tokens: Tensor
  /** Where the graph will run; on a `device` if absent. */
  readonly place?: Place
}

/**
 * Queries per block of attention in a training step: each block meets only the keys up to its own end, so most of the
 * masked half of the scores is neither computed nor kept.
 */
const attentionBlock = 128

/** Queries per block so that all blocks are about as long: one token more than a block makes no block of its own. */
function attentionBlockFor(sequence: number): number {
  return Math.ceil(sequence / Math.max(1, Math.round(sequence / attentionBlock)))
}

/** The last layer's output, normalised: [batch · sequence, hiddenSize]. */
function llamaHidden({ config, weights, tokens, place = 'device' }: LlamaForwardOptions): Tensor {
  const [batch, sequence] = tokens.shape as [number, number]
  const rows = batch * sequence
  const { attentionHeads, keyValueHeads, headSize, ropeTheta, rmsNormEpsilon } = config
  const weight = (name: string): Tensor => weights[name]!
  const projections = projectionsFor(place)
  const apart = (x: Tensor, name: string): Tensor => projections.apart(x, weight(name))
  const back = (x: Tensor, name: string): Tensor => projections.back(x, weight(name))
  const turned = (x: Tensor): Tensor => rope(x, { theta: ropeTheta, sequenceAxis: -3 })
  const split = (x: Tensor, heads: number): Tensor => reshape(x, [batch, sequence, heads, headSize])
  const headsFirst = (x: Tensor): Tensor => transpose(x, [0, 2, 1, 3])

  const table = weight(embeddingName)
  const ids = reshape(tokens, [rows])
  let stream = gather(table, ids) // [rows, hiddenSize]
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}`
    // Before the first attention a row depends on its token alone. Where the vocabulary is smaller than the batch,
    // the table is normalised and projected once and the results are looked up, which is the same and costs less.
    const lookUpLater = layer === 0 && 2 * config.vocabularySize <= rows
    const looked = (x: Tensor): Tensor => (lookUpLater ? gather(x, ids) : x)
    const source = lookUpLater ? table : stream
    const x = rmsNorm(source, weight(`${prefix}.input_layernorm.weight`), rmsNormEpsilon)
    const attended = causalAttention({
      q: headsFirst(turned(split(looked(apart(x, `${prefix}.self_attn.q_proj.weight`)), attentionHeads))),
      k: headsFirst(turned(split(looked(apart(x, `${prefix}.self_attn.k_proj.weight`)), keyValueHeads))),
      v: headsFirst(split(looked(apart(x, `${prefix}.self_attn.v_proj.weight`)), keyValueHeads)),
      blockSize: attentionBlockFor(sequence),
    })
    const joined = reshape(headsFirst(attended), [rows, attentionHeads * headSize])
    stream = add(stream, back(joined, `${prefix}.self_attn.o_proj.weight`))
    const y = rmsNorm(stream, weight(`${prefix}.post_attention_layernorm.weight`), rmsNormEpsilon)
    const matrices = {
      gate: weight(`${prefix}.mlp.gate_proj.weight`),
      up: weight(`${prefix}.mlp.up_proj.weight`),
      down: weight(`${prefix}.mlp.down_proj.weight`),
    }
    stream = add(stream, feedForward(y, matrices, { projections, place }))
  }
  return rmsNorm(stream, weight('model.norm.weight'), rmsNormEpsilon)
}

/**
 * The gated feed-forward unit. Where rows of intermediate values would collide in the cache they have some more columns,
 * always zero and with gradients of zero, from columns of zeros beside the weights.
 */
function feedForward(
  x: Tensor,
  weights: Readonly<Record<'gate' | 'up' | 'down', Tensor>>, // each [hiddenSize, intermediateSize]
  { projections, place }: { readonly projections: Projections; readonly place: Place },
): Tensor {
  const spare = spareColumns(weights.gate.shape[1]!, place)
  const gate = projections.apart(x, weights.gate, spare)
  const up = projections.apart(x, weights.up, spare)
  return projections.back(swiglu(gate, up), weights.down, spare)
}

/** The output matrix: the embedding table, [vocabularySize, hiddenSize], or a matrix of its own, [in, out]. */
function outputOf({ config, weights }: LlamaForwardOptions): { outputWeight: Tensor; tied: boolean } {
  const tied = config.tieWordEmbeddings
  return { outputWeight: weights[tied ? embeddingName : outputName]!, tied }
}

/** Logits after every position, [batch · sequence, vocabularySize]. */
export function llamaLogits(forward: LlamaForwardOptions): Tensor {
  const { outputWeight, tied } = outputOf(forward)
  return matmul(llamaHidden(forward), outputWeight, { transposeB: tied })
}

/** The target of positions that do not count, as in PyTorch's `cross_entropy`. */
export const ignoreIndex = -100

export interface LlamaLossOptions extends LlamaForwardOptions {
  /** int32 [batch, sequence]: the token that follows each one, or `ignoreIndex`. */
  readonly targets: Tensor
}

/** Mean cross-entropy in nats over the targets that count, a scalar. */
export function llamaLoss({ targets, ...forward }: LlamaLossOptions): Tensor {
  return nextTokenLoss({
    hidden: llamaHidden(forward),
    ...outputOf(forward),
    targets: reshape(targets, [-1]),
    ignoreIndex,
  })
}
