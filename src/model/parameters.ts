/**
 * The parameters of a Llama model: their Hugging Face names and shapes in one fixed order, their place in a flat
 * vector (what peers average and exchange), and their first values.
 */
import { GroundswellError, inParts, seededRandom } from '../core/index.ts'
import { sizeOf } from '../tensor/index.ts'
import type { LlamaConfig } from './config.ts'

export interface ParameterSpec {
  /** As in Hugging Face's checkpoints, such as `model.layers.0.self_attn.q_proj.weight`. */
  readonly name: string
  readonly shape: readonly number[]
}

export interface Parameter {
  readonly shape: readonly number[]
  readonly data: Float32Array
}

/** Parameters by Hugging Face name. */
export type Parameters = Record<string, Parameter>

/**
 * Names and shapes, from the input to the output. Matrices are [out, in], as PyTorch's Linear stores them. With
 * tied embeddings there is no `lm_head.weight`.
 */
export function parameterSpecs(config: LlamaConfig): ParameterSpec[] {
  const { hiddenSize, intermediateSize, vocabularySize } = config
  const queryWidth = config.attentionHeads * config.headSize
  const keyValueWidth = config.keyValueHeads * config.headSize
  const specs: ParameterSpec[] = [{ name: embeddingName, shape: [vocabularySize, hiddenSize] }]
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}`
    specs.push(
      { name: `${prefix}.input_layernorm.weight`, shape: [hiddenSize] },
      { name: `${prefix}.self_attn.q_proj.weight`, shape: [queryWidth, hiddenSize] },
      { name: `${prefix}.self_attn.k_proj.weight`, shape: [keyValueWidth, hiddenSize] },
      { name: `${prefix}.self_attn.v_proj.weight`, shape: [keyValueWidth, hiddenSize] },
      { name: `${prefix}.self_attn.o_proj.weight`, shape: [hiddenSize, queryWidth] },
      { name: `${prefix}.post_attention_layernorm.weight`, shape: [hiddenSize] },
      { name: `${prefix}.mlp.gate_proj.weight`, shape: [intermediateSize, hiddenSize] },
      { name: `${prefix}.mlp.up_proj.weight`, shape: [intermediateSize, hiddenSize] },
      { name: `${prefix}.mlp.down_proj.weight`, shape: [hiddenSize, intermediateSize] },
    )
  }
  specs.push({ name: 'model.norm.weight', shape: [hiddenSize] })
  if (!config.tieWordEmbeddings) specs.push({ name: outputName, shape: [vocabularySize, hiddenSize] })
  return specs
}

/** The embedding table. */
export const embeddingName = 'model.embed_tokens.weight'
/** The output projection, absent when tied. */
export const outputName = 'lm_head.weight'

/** Whether `name` is the weight of an RMSNorm, which starts at one and is usually not decayed. */
export function isNormalization(name: string): boolean {
  return name.endsWith('norm.weight')
}

/** How many numbers the model holds. */
export function countParameters(config: LlamaConfig): number {
  return parameterSpecs(config).reduce((total, spec) => total + sizeOf(spec.shape), 0)
}

/** Where a parameter lies in the flat vector. */
export interface LayoutEntry extends ParameterSpec {
  /** First element. */
  readonly offset: number
  /** Number of elements. */
  readonly size: number
}

/** How named parameters lie in one flat vector: without gaps, in the order of `parameterSpecs`. */
export interface ParameterLayout {
  readonly entries: readonly LayoutEntry[]
  readonly totalSize: number
}

export function layoutOf(config: LlamaConfig): ParameterLayout {
  let totalSize = 0
  const entries = parameterSpecs(config).map((spec) => {
    const entry = { ...spec, offset: totalSize, size: sizeOf(spec.shape) }
    totalSize += entry.size
    return entry
  })
  return { entries, totalSize }
}

/**
 * All parameters as one vector.
 * @throws GroundswellError `model/parameters` when one is missing, has another shape, or there is one too many
 */
export function flatten(parameters: Parameters, layout: ParameterLayout): Float32Array {
  checkParameters(parameters, layout.entries)
  const flat = new Float32Array(layout.totalSize)
  for (const { name, offset } of layout.entries) flat.set(parameters[name]!.data, offset)
  return flat
}

/**
 * The named parameters that a flat vector holds, as views of it: for a model that nearly fills a machine's memory a copy
 * is one too many.
 * @throws GroundswellError `model/parameters` when the vector has another length than the layout
 */
export function unflatten(flat: Float32Array, layout: ParameterLayout): Parameters {
  if (flat.length !== layout.totalSize) {
    throw parametersError(`A vector of ${flat.length} numbers does not hold the model's ${layout.totalSize}.`)
  }
  return Object.fromEntries(
    layout.entries.map(({ name, shape, offset, size }) => [
      name,
      { shape, data: flat.subarray(offset, offset + size) },
    ]),
  )
}

/** Numbers drawn before others may have their turn: a few milliseconds. */
const drawnInOneGo = 16_384

/**
 * First values as `transformers` draws them: matrices and embeddings from a normal distribution with mean 0 and
 * standard deviation `initializerRange` (0.02 unless configured), norms at one. GPT-2's smaller values for the
 * projections that end in the residual stream are left out, as they are in Llama.
 *
 * Every parameter has its own stream, seeded by its name, so a deeper model starts with the same lower layers. The
 * same seed gives the same values wherever `Math.log` does, which holds for V8 on every machine (fdlibm); a run
 * pins the CID of its first checkpoint besides. `inTurns` draws a large model part by part.
 */
export const initialParameters: (config: LlamaConfig, seed: number | string) => Parameters = inParts(
  function* (config, seed) {
    const parameters: Parameters = {}
    for (const { name, shape } of parameterSpecs(config)) {
      const data = new Float32Array(sizeOf(shape))
      if (isNormalization(name)) {
        data.fill(1)
      } else {
        const random = seededRandom('initial-parameters', seed, name)
        for (let i = 0; i < data.length; i++) {
          if (i % drawnInOneGo === 0) yield
          data[i] = random.nextNormal() * config.initializerRange
        }
      }
      parameters[name] = { shape, data }
    }
    return parameters
  },
)

/**
 * Checks that these names and shapes are exactly those that `specs` describe.
 * @param source what to call their place in errors, such as a checkpoint's path
 * @throws GroundswellError `model/parameters` that names the first parameter at fault
 */
export function checkShapes(
  found: ReadonlyMap<string, readonly number[]>,
  specs: readonly ParameterSpec[],
  source: string,
): void {
  for (const { name, shape } of specs) {
    const given = found.get(name)
    if (given === undefined) throw parametersError(`${source} has no parameter “${name}”.`)
    if (given.length !== shape.length || !given.every((dimension, axis) => dimension === shape[axis])) {
      throw parametersError(
        `${source} has parameter “${name}” with shape [${given.join(', ')}] where the configuration says ` +
          `[${shape.join(', ')}].`,
      )
    }
  }
  const known = new Set(specs.map(({ name }) => name))
  const unexpected = [...found.keys()].find((name) => !known.has(name))
  if (unexpected !== undefined) {
    throw parametersError(
      `${source} has a parameter “${unexpected.slice(0, 120)}” that its configuration does not call for.`,
    )
  }
}

/**
 * Checks that `parameters` are exactly those that `specs` describe, and hold as many numbers as they say.
 * @throws GroundswellError `model/parameters` that names the first parameter at fault
 */
export function checkParameters(
  parameters: Parameters,
  specs: readonly ParameterSpec[],
  source = 'The model',
): void {
  checkShapes(new Map(Object.entries(parameters).map(([name, { shape }]) => [name, shape])), specs, source)
  for (const { name, shape } of specs) {
    const { length } = parameters[name]!.data
    if (length !== sizeOf(shape)) {
      throw parametersError(
        `${source} has parameter “${name}” with ${length} numbers in shape [${shape.join(', ')}].`,
      )
    }
  }
}

function parametersError(message: string): GroundswellError {
  return new GroundswellError(message, {
    code: 'model/parameters',
    remedy: 'Use parameters and a configuration that belong together.',
  })
}
