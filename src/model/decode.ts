/**
 * Llama with a cache of keys and values: a program that reads a block of tokens at a position, without computing
 * anything again for the tokens before. One with a long block takes in a prompt, one with a block of a single token
 * continues it, and one that is told what comes next scores a text; all work on the same resident state.
 *
 * Parameters are resident under their Hugging Face names; matrices whose rows would collide in a processor's cache have a few
 * columns of zeros behind their own (row-strides.ts). The cache of each layer is two tensors of fixed shape
 * [keyValueHeads, contextLength, headSize] whose rows behind the newest position are never looked at, so a block may
 * be padded: the next one overwrites the padding.
 */
import { GroundswellError } from '../core/index.ts'
import type { HostTensor, Place } from '../runtime/index.ts'
import {
  add,
  broadcastTo,
  defineProgram,
  gather,
  greaterOrEqual,
  iota,
  less,
  lessOrEqual,
  logicalAnd,
  matmul,
  type Program,
  pad,
  parameter,
  reshape,
  rmsNorm,
  rope,
  slice,
  softmax,
  sub,
  swiglu,
  type Tensor,
  tokenLogProbabilities,
  transpose,
  where,
} from '../tensor/index.ts'
import type { LlamaConfig } from './config.ts'
import { embeddingName, outputName, type Parameter, type Parameters, parameterSpecs } from './parameters.ts'
import { spareColumns } from './row-strides.ts'

export interface DecodeOptions {
  readonly config: LlamaConfig
  /** Positions that the cache holds. */
  readonly contextLength: number
  /** Tokens that one run takes in. */
  readonly blockLength: number
  /**
   * What comes out. `logits`: [1, vocabularySize], those after one token of the block, whose index is the input `last`,
   * int32 [1]. `logprobs`: [blockLength], the log-probability after each token of the one that the input `targets`,
   * int32 [blockLength], says came next.
   */
  readonly output: 'logits' | 'logprobs'
  /** Where the program will run. */
  readonly place: Place
}

/** Inputs, beside that for the output: `tokens` int32 [blockLength]; `position` int32 [], that of the first of them. */
export function decodeProgram(options: DecodeOptions): Program {
  const { config, contextLength, blockLength, output, place } = options
  const state: Record<string, Tensor> = {}
  for (const { name, shape } of parameterSpecs(config))
    state[name] = parameter(name, lyingShape(shape, place))
  for (const name of cacheNames(config)) state[name] = parameter(name, cacheShape(config, contextLength))
  const tokens = parameter('tokens', [blockLength], 'int32')
  const position = parameter('position', [], 'int32')

  const block = blockAt(position, contextLength, blockLength)
  const updates: Record<string, Tensor> = {}
  const normalised = (x: Tensor, name: string): Tensor => rmsNorm(x, state[name]!, config.rmsNormEpsilon)
  const project = (x: Tensor, name: string): Tensor => {
    const longer = pad(x, { axis: 1, after: spareColumns(x.shape[1]!, place) })
    return matmul(longer, state[name]!, { transposeB: true })
  }

  const embedded = gather(state[embeddingName]!, tokens)
  let stream = slice(embedded, { axis: 1, end: config.hiddenSize }) // [blockLength, hiddenSize]
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}`
    const x = normalised(stream, `${prefix}.input_layernorm.weight`)
    const attended = attend({
      config,
      block,
      queries: project(x, `${prefix}.self_attn.q_proj.weight`),
      keys: project(x, `${prefix}.self_attn.k_proj.weight`),
      values: project(x, `${prefix}.self_attn.v_proj.weight`),
      cache: { keys: state[keysName(layer)]!, values: state[valuesName(layer)]! },
    })
    updates[keysName(layer)] = attended.cache.keys
    updates[valuesName(layer)] = attended.cache.values
    stream = add(stream, project(attended.output, `${prefix}.self_attn.o_proj.weight`))
    const y = normalised(stream, `${prefix}.post_attention_layernorm.weight`)
    const gated = swiglu(
      project(y, `${prefix}.mlp.gate_proj.weight`),
      project(y, `${prefix}.mlp.up_proj.weight`),
    )
    stream = add(stream, project(gated, `${prefix}.mlp.down_proj.weight`))
  }
  const logitsAfter = (x: Tensor): Tensor =>
    project(normalised(x, 'model.norm.weight'), config.tieWordEmbeddings ? embeddingName : outputName)
  const common = { name: `llama-${output}-${blockLength}-of-${contextLength}`, state, updates }
  if (output === 'logits') {
    const last = parameter('last', [1], 'int32')
    const logits = logitsAfter(gather(stream, last))
    return defineProgram({ ...common, inputs: { tokens, position, last }, outputs: { logits } })
  }
  const targets = parameter('targets', [blockLength], 'int32')
  const logprobs = tokenLogProbabilities(logitsAfter(stream), targets)
  return defineProgram({
    ...common,
    inputs: { tokens, position, targets },
    outputs: { logprobs },
  })
}

/** Parameters and an empty cache, as the programs expect them in resident state. */
export function decodeState(
  config: LlamaConfig,
  parameters: Parameters,
  { contextLength, place }: Pick<DecodeOptions, 'contextLength' | 'place'>,
): Record<string, HostTensor> {
  const shape = cacheShape(config, contextLength)
  const size = shape.reduce((product, length) => product * length, 1)
  return Object.fromEntries([
    ...parameterSpecs(config).map(({ name }) => [name, lying(parameters[name]!, place)] as const),
    ...cacheNames(config).map(
      (name) => [name, { dtype: 'float32', shape, data: new Float32Array(size) }] as const,
    ),
  ])
}

/** The shape of a parameter as it is resident. */
function lyingShape(shape: readonly number[], place: Place): readonly number[] {
  const [rows, columns] = shape
  return shape.length === 2 ? [rows!, columns! + spareColumns(columns!, place)] : shape
}

function lying(parameter: Parameter, place: Place): HostTensor {
  const shape = lyingShape(parameter.shape, place)
  const [rows, width] = shape
  const columns = parameter.shape[1]
  if (width === columns) return { dtype: 'float32', ...parameter }
  const data = new Float32Array(rows! * width!)
  for (let row = 0; row < rows!; row++) {
    data.set(parameter.data.subarray(row * columns!, (row + 1) * columns!), row * width!)
  }
  return { dtype: 'float32', shape, data }
}

/**
 * Checks token ids before they reach a table.
 * @throws GroundswellError `model/token`
 */
export function checkTokens(tokens: ArrayLike<number>, { vocabularySize }: LlamaConfig): Int32Array {
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!
    if (Number.isInteger(token) && token >= 0 && token < vocabularySize) continue
    throw new GroundswellError(`Token ${token} is not in the model's vocabulary of ${vocabularySize}.`, {
      code: 'model/token',
      remedy: 'Use the tokenizer that belongs to the model.',
    })
  }
  return Int32Array.from(tokens)
}

/** What all layers share about where the block lies in the context. */
interface Block {
  /** int32 [blockLength] */
  readonly positions: Tensor
  /** bool [contextLength, 1]: whether a token of the block takes this row of the cache. */
  readonly taken: Tensor
  /** int32 [contextLength]: which token that is; 0 where none. */
  readonly source: Tensor
  /** float32 [blockLength, contextLength]: 0 where a token may look, else far below every score. */
  readonly mask: Tensor
}

function blockAt(position: Tensor, contextLength: number, blockLength: number): Block {
  const positions = add(iota(blockLength), position)
  const row = iota(contextLength)
  const taken = logicalAnd(greaterOrEqual(row, position), less(row, add(position, blockLength)))
  return {
    positions,
    taken: reshape(taken, [contextLength, 1]),
    source: where(taken, sub(row, position), 0),
    mask: where(
      lessOrEqual(reshape(row, [1, contextLength]), reshape(positions, [blockLength, 1])),
      0,
      -1e30, // finite, because WGSL promises nothing about infinities
    ),
  }
}

interface Attention {
  readonly config: LlamaConfig
  readonly block: Block
  /** [blockLength, attentionHeads·headSize] */
  readonly queries: Tensor
  /** [blockLength, keyValueHeads·headSize] */
  readonly keys: Tensor
  readonly values: Tensor
  readonly cache: { readonly keys: Tensor; readonly values: Tensor }
}

/** Attention of the block to the cache, itself included, and the cache with the block in it. */
function attend({ config, block, queries, keys, values, cache }: Attention): {
  output: Tensor
  cache: { keys: Tensor; values: Tensor }
} {
  const { attentionHeads, keyValueHeads, headSize, ropeTheta } = config
  const { positions, taken, source, mask } = block
  const [blockLength, contextLength] = mask.shape as [number, number]
  const groups = attentionHeads / keyValueHeads
  const heads = (x: Tensor, count: number): Tensor => reshape(x, [blockLength, count, headSize])
  const turned = (x: Tensor): Tensor => rope(x, { theta: ropeTheta, positions, sequenceAxis: -3 })
  const headsFirst = (x: Tensor): Tensor => transpose(x, [1, 0, 2])
  // Both [keyValueHeads, contextLength, headSize]; a row that no token takes is gathered for nothing.
  const placed = (fresh: Tensor, old: Tensor): Tensor =>
    where(broadcastTo(taken, old.shape), headsFirst(gather(fresh, source)), old)

  const next = {
    keys: placed(turned(heads(keys, keyValueHeads)), cache.keys),
    values: placed(heads(values, keyValueHeads), cache.values),
  }
  // The queries that share a head of keys are stacked, so keys and values are never repeated.
  const stacked = reshape(headsFirst(turned(heads(queries, attentionHeads))), [
    keyValueHeads,
    groups * blockLength,
    headSize,
  ])
  const scores = matmul(stacked, next.keys, { transposeB: true, alpha: 1 / Math.sqrt(headSize) })
  const masked = add(reshape(scores, [keyValueHeads, groups, blockLength, contextLength]), mask)
  const probabilities = reshape(softmax(masked), scores.shape)
  const perHead = reshape(matmul(probabilities, next.values), [attentionHeads, blockLength, headSize])
  const output = reshape(transpose(perHead, [1, 0, 2]), [blockLength, attentionHeads * headSize])
  return { output, cache: next }
}

function cacheNames(config: LlamaConfig): string[] {
  return Array.from({ length: config.layers }, (_, layer) => [keysName(layer), valuesName(layer)]).flat()
}

function cacheShape({ keyValueHeads, headSize }: LlamaConfig, contextLength: number): number[] {
  return [keyValueHeads, contextLength, headSize]
}

function keysName(layer: number): string {
  return `cache.${layer}.keys`
}

function valuesName(layer: number): string {
  return `cache.${layer}.values`
}
