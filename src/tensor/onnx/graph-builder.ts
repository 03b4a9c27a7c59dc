/**
 * The ONNX graph under construction. Operations add nodes and constants here; two requests for the same thing
 * answer with the same value, so a cast or a shape constant that many operations need exists once.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { DType, TensorSpec } from '../tensor.ts'
import type { OnnxAttribute, OnnxNode, OnnxTensor, OnnxValueInfo } from './protobuf.ts'

export interface NodeOptions {
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>
  /** Empty for the standard operators; `com.microsoft` for ONNX Runtime's own. */
  readonly domain?: '' | 'com.microsoft'
}

export interface GraphBuilder {
  /**
   * Adds a node with one output and gives that output's name. An empty input name leaves an optional input
   * out.
   */
  node(type: string, inputs: readonly string[], options?: NodeOptions): string
  /** Adds a node with several outputs. */
  nodes(type: string, inputs: readonly string[], outputs: number, options?: NodeOptions): readonly string[]
  /** A tensor of known numbers. */
  constant(dtype: DType | 'int64', shape: readonly number[], values: ArrayLike<number>): string
  /** A vector of int64, as shapes and axes are given to ONNX operators. */
  int64(values: readonly number[]): string
  /** States the shape of a value where ONNX Runtime cannot infer it. */
  declare(name: string, spec: TensorSpec): void
}

/** What the results need, in the order in which it was added. */
export interface BuiltGraph {
  readonly nodes: readonly OnnxNode[]
  readonly initialisers: readonly OnnxTensor[]
  readonly valueInfo: readonly OnnxValueInfo[]
}

export function createGraphBuilder(): GraphBuilder & { build(results: readonly string[]): BuiltGraph } {
  const nodes: OnnxNode[] = []
  const initialisers: OnnxTensor[] = []
  const valueInfo = new Map<string, OnnxValueInfo>()
  const nodesByKey = new Map<string, readonly string[]>()
  const constantsByKey = new Map<string, string>()

  const addNode: GraphBuilder['nodes'] = (type, inputs, outputCount, options = {}) => {
    const { attributes = {}, domain = '' } = options
    const sorted = Object.keys(attributes).sort()
    const key = JSON.stringify([
      type,
      domain,
      inputs,
      outputCount,
      sorted.map((name) => [name, attributes[name]]),
    ])
    const known = nodesByKey.get(key)
    if (known !== undefined) return known
    const name = `${type}_${nodes.length}`
    const outputs = Array.from({ length: outputCount }, (_, i) => (i === 0 ? `%${name}` : `%${name}.${i}`))
    nodes.push({ type, domain, name, inputs, outputs, attributes })
    nodesByKey.set(key, outputs)
    return outputs
  }

  const addConstant: GraphBuilder['constant'] = (type, shape, values) => {
    const raw = rawElements(type, values)
    const key = `${type}[${shape.join(',')}]${bytesToHex(raw.length > 64 ? sha256(raw) : raw)}`
    const known = constantsByKey.get(key)
    if (known !== undefined) return known
    const name = `%constant_${initialisers.length}`
    initialisers.push({ name, type, shape, raw })
    constantsByKey.set(key, name)
    return name
  }

  return {
    node: (type, inputs, options) => addNode(type, inputs, 1, options)[0]!,
    nodes: addNode,
    constant: addConstant,
    int64: (values) => addConstant('int64', [values.length], values),
    declare: (name, { shape, dtype }) => {
      valueInfo.set(name, { name, type: dtype, shape })
    },
    build: (results) => {
      const needed = new Set(results)
      const live = nodes.toReversed().filter(({ inputs, outputs }) => {
        if (!outputs.some((output) => needed.has(output))) return false
        for (const input of inputs) needed.add(input)
        return true
      })
      return {
        nodes: live.reverse(),
        initialisers: initialisers.filter(({ name }) => needed.has(name)),
        valueInfo: [...valueInfo.values()].filter(({ name }) => needed.has(name)),
      }
    },
  }
}

/** Elements as ONNX stores them: little-endian, bool in one byte. */
function rawElements(type: DType | 'int64', values: ArrayLike<number>): Uint8Array {
  const width = type === 'int64' ? 8 : type === 'bool' ? 1 : 4
  const raw = new Uint8Array(values.length * width)
  const view = new DataView(raw.buffer)
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    if (type === 'float32') view.setFloat32(i * 4, value, true)
    else if (type === 'int32') view.setInt32(i * 4, value, true)
    else if (type === 'int64') view.setBigInt64(i * 8, BigInt(value), true)
    else view.setUint8(i, value === 0 ? 0 : 1)
  }
  return raw
}
