/**
 * Writes the ONNX messages that a graph needs, field numbers as in
 * https://github.com/onnx/onnx/blob/v1.17.0/onnx/onnx.proto. Fields are written in ascending order and
 * nothing depends on time or machine, so equal models are equal bytes.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'

type OnnxElementType = 'float32' | 'int32' | 'int64' | 'bool'

export type OnnxAttribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly string: string }
  | { readonly ints: readonly number[] }
  | { readonly tensor: OnnxTensor }

export interface OnnxTensor {
  readonly name: string
  readonly type: OnnxElementType
  readonly shape: readonly number[]
  /** Little-endian elements. */
  readonly raw: Uint8Array
}

export interface OnnxNode {
  readonly type: string
  readonly domain: string
  readonly name: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: Readonly<Record<string, OnnxAttribute>>
}

export interface OnnxValueInfo {
  readonly name: string
  readonly type: OnnxElementType
  readonly shape: readonly number[]
}

export interface OnnxModel {
  readonly irVersion: number
  readonly producer: string
  readonly opsets: readonly { readonly domain: string; readonly version: number }[]
  readonly graphName: string
  readonly nodes: readonly OnnxNode[]
  readonly initialisers: readonly OnnxTensor[]
  readonly inputs: readonly OnnxValueInfo[]
  readonly outputs: readonly OnnxValueInfo[]
  /** Shapes of inner values that ONNX Runtime cannot infer by itself. */
  readonly valueInfo: readonly OnnxValueInfo[]
}

const elementTypeNumber: Record<OnnxElementType, number> = { float32: 1, int32: 6, int64: 7, bool: 9 }

export function encodeModel(model: OnnxModel): Uint8Array {
  const writer = new BinaryWriter()
  writer.tag(1, WireType.Varint).int64(model.irVersion)
  writer.tag(2, WireType.LengthDelimited).string(model.producer)
  message(writer, 7, () => writeGraph(writer, model))
  for (const { domain, version } of model.opsets) {
    message(writer, 8, () => {
      if (domain !== '') writer.tag(1, WireType.LengthDelimited).string(domain)
      writer.tag(2, WireType.Varint).int64(version)
    })
  }
  return writer.finish()
}

function message(writer: BinaryWriter, field: number, body: () => void): void {
  writer.tag(field, WireType.LengthDelimited).fork()
  body()
  writer.join()
}

function writeGraph(writer: BinaryWriter, model: OnnxModel): void {
  for (const node of model.nodes) message(writer, 1, () => writeNode(writer, node))
  writer.tag(2, WireType.LengthDelimited).string(model.graphName)
  for (const tensor of model.initialisers) message(writer, 5, () => writeTensor(writer, tensor))
  for (const value of model.inputs) message(writer, 11, () => writeValueInfo(writer, value))
  for (const value of model.outputs) message(writer, 12, () => writeValueInfo(writer, value))
  for (const value of model.valueInfo) message(writer, 13, () => writeValueInfo(writer, value))
}

function writeNode(writer: BinaryWriter, node: OnnxNode): void {
  for (const input of node.inputs) writer.tag(1, WireType.LengthDelimited).string(input)
  for (const output of node.outputs) writer.tag(2, WireType.LengthDelimited).string(output)
  writer.tag(3, WireType.LengthDelimited).string(node.name)
  writer.tag(4, WireType.LengthDelimited).string(node.type)
  for (const name of Object.keys(node.attributes).sort()) {
    message(writer, 5, () => writeAttribute(writer, name, node.attributes[name]!))
  }
  if (node.domain !== '') writer.tag(7, WireType.LengthDelimited).string(node.domain)
}

function writeAttribute(writer: BinaryWriter, name: string, attribute: OnnxAttribute): void {
  writer.tag(1, WireType.LengthDelimited).string(name)
  if ('float' in attribute) {
    writer.tag(2, WireType.Bit32).float(attribute.float)
    writer.tag(20, WireType.Varint).int32(1)
  } else if ('int' in attribute) {
    writer.tag(3, WireType.Varint).int64(attribute.int)
    writer.tag(20, WireType.Varint).int32(2)
  } else if ('string' in attribute) {
    writer.tag(4, WireType.LengthDelimited).string(attribute.string)
    writer.tag(20, WireType.Varint).int32(3)
  } else if ('tensor' in attribute) {
    message(writer, 5, () => writeTensor(writer, attribute.tensor))
    writer.tag(20, WireType.Varint).int32(4)
  } else {
    for (const value of attribute.ints) writer.tag(8, WireType.Varint).int64(value)
    writer.tag(20, WireType.Varint).int32(7)
  }
}

function writeTensor(writer: BinaryWriter, tensor: OnnxTensor): void {
  for (const length of tensor.shape) writer.tag(1, WireType.Varint).int64(length)
  writer.tag(2, WireType.Varint).int32(elementTypeNumber[tensor.type])
  writer.tag(8, WireType.LengthDelimited).string(tensor.name)
  writer.tag(9, WireType.LengthDelimited).bytes(tensor.raw)
}

function writeValueInfo(writer: BinaryWriter, value: OnnxValueInfo): void {
  writer.tag(1, WireType.LengthDelimited).string(value.name)
  message(writer, 2, () => {
    message(writer, 1, () => {
      writer.tag(1, WireType.Varint).int32(elementTypeNumber[value.type])
      message(writer, 2, () => {
        for (const length of value.shape) {
          message(writer, 1, () => writer.tag(1, WireType.Varint).int64(length))
        }
      })
    })
  })
}
