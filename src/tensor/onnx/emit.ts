/**
 * From a program to an ONNX model. The graph is simplified, its nodes are written in an order that depends
 * only on the program's names and structure, and the protobuf has no field that varies: one program, one
 * sequence of bytes.
 */

import { topologicalOrder } from '../graph.ts'
import { uniformValue } from '../operations/leaves.ts'
import { defineProgram, type EmittedProgram, type Program, specsOf, updateName } from '../program.ts'
import { simplify } from '../simplify.ts'
import type { Dialect, LoweredValue, Tensor, TensorSpec } from '../tensor.ts'
import { createGraphBuilder } from './graph-builder.ts'
import { requireOverwritable } from './overwritable.ts'
import { encodeModel, type OnnxNode, type OnnxValueInfo } from './protobuf.ts'

/** Known good on ONNX Runtime's CPU, WebGPU and WASM backends alike. */
const opsetVersion = 17
const irVersion = 8

export interface EmitOptions {
  readonly dialect: Dialect
}

export function emitOnnx(program: Program, { dialect }: EmitOptions): EmittedProgram {
  const checked = defineProgram(program)
  const produced: [string, Tensor][] = [
    ...Object.entries(checked.outputs),
    ...Object.entries(checked.updates).map(([name, tensor]): [string, Tensor] => [updateName(name), tensor]),
  ]
  const roots = simplify(produced.map(([, tensor]) => tensor))
  const builder = createGraphBuilder()
  const names = new Map<Tensor, string>()
  for (const node of topologicalOrder(roots)) {
    const inputs = node.inputs.map((input): LoweredValue => {
      return { name: names.get(input)!, shape: input.shape, dtype: input.dtype, uniform: uniformValue(input) }
    })
    const { op, attributes } = node
    names.set(node, op.lower({ dialect, graph: builder, inputs, attributes, output: node }))
  }

  const graph = builder.build(roots.map((root) => names.get(root)!))
  const { renamed, copies } = nameOutputs(
    produced.map(([name], i) => [name, names.get(roots[i]!)!]),
    new Set(graph.nodes.flatMap(({ outputs }) => outputs)),
  )
  const rename = (name: string): string => renamed.get(name) ?? name
  const nodes = graph.nodes.map((node): OnnxNode => {
    return { ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) }
  })
  if (checked.updatesInPlace) {
    requireOverwritable(checked.name, [...nodes, ...copies], Object.keys(checked.updates))
  }
  const bytes = encodeModel({
    irVersion,
    producer: 'groundswell',
    opsets: [
      { domain: '', version: opsetVersion },
      ...(nodes.some(({ domain }) => domain === 'com.microsoft')
        ? [{ domain: 'com.microsoft', version: 1 }]
        : []),
    ],
    graphName: checked.name,
    nodes: [...nodes, ...copies],
    initialisers: graph.initialisers,
    inputs: Object.entries({ ...checked.inputs, ...checked.state }).map(valueInfo),
    outputs: produced.map(valueInfo),
    valueInfo: graph.valueInfo.map((info) => ({ ...info, name: rename(info.name) })),
  })
  return {
    name: checked.name,
    dialect,
    bytes,
    inputs: specsOf(checked.inputs),
    state: specsOf(checked.state),
    outputs: specsOf(checked.outputs),
    updates: specsOf(checked.updates),
    ...(checked.updatesInPlace && { updatesInPlace: true }),
  }
}

function valueInfo([name, { dtype, shape }]: [string, TensorSpec]): OnnxValueInfo {
  return { name, type: dtype, shape }
}

/**
 * A value that a node computes takes the name of the output it is. A placeholder, a constant or a value that
 * has a name already reaches its output through a copy.
 */
function nameOutputs(
  outputs: readonly (readonly [name: string, value: string])[],
  computed: ReadonlySet<string>,
): { renamed: Map<string, string>; copies: OnnxNode[] } {
  const renamed = new Map<string, string>()
  const copies: OnnxNode[] = []
  for (const [name, value] of outputs) {
    if (computed.has(value) && !renamed.has(value)) renamed.set(value, name)
    else
      copies.push({
        type: 'Identity',
        domain: '',
        name: `copy ${name}`,
        inputs: [value],
        outputs: [name],
        attributes: {},
      })
  }
  return {
    renamed,
    copies: copies.map((copy) => ({
      ...copy,
      inputs: copy.inputs.map((input) => renamed.get(input) ?? input),
    })),
  }
}
