/**
 * What this room's tests share: random numbers for placeholders, the run of a program by ONNX Runtime and by
 * the reference interpreter, and gradients by central differences.
 */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import type * as OnnxRuntime from 'onnxruntime-common'
import { seededRandom } from '../core/index.ts'
import { topologicalOrder } from './graph.ts'
import {
  type Dialect,
  defineProgram,
  emitOnnx,
  grad,
  interpret,
  mul,
  type Numbers,
  type Program,
  parameter,
  sizeOf,
  sum,
  type Tensor,
  type TensorSpec,
} from './index.ts'

/** Standard normal float32 numbers, different for each name and the same every time. */
export function normalNumbers(shape: readonly number[], name: string, spread = 1): Numbers {
  const random = seededRandom('tensor test', name)
  return { shape, data: Float32Array.from({ length: sizeOf(shape) }, () => spread * random.nextNormal()) }
}

/** A program of outputs alone; placeholders are found by the names in `feed`. */
export function programOf(outputs: Record<string, Tensor>, inputs: readonly Tensor[]): Program {
  const named = Object.fromEntries(inputs.map((input) => [input.attributes.name as string, input]))
  return defineProgram({ name: 'test', inputs: named, state: {}, outputs, updates: {} })
}

export type Results = Record<string, { shape: readonly number[]; data: number[] }>

/** The tensor with every constant in its graph replaced by a placeholder, and those constants as the feed. */
export function asParameters(tensor: Tensor): { program: Program; feed: Record<string, Numbers> } {
  const feed: Record<string, Numbers> = {}
  const placeholders: Tensor[] = []
  const copies = new Map<Tensor, Tensor>()
  for (const node of topologicalOrder([tensor])) {
    if (node.inputs.length > 0) {
      copies.set(node, { ...node, inputs: node.inputs.map((input) => copies.get(input)!) })
      continue
    }
    const name = `x${placeholders.length}`
    feed[name] = runReference(programOf({ value: node }, []), {}).value!
    const placeholder = parameter(name, node.shape, node.dtype)
    placeholders.push(placeholder)
    copies.set(node, placeholder)
  }
  return { program: programOf({ result: copies.get(tensor)! }, placeholders), feed }
}

/** The value of each output and `next.` update according to the reference interpreter. */
export function runReference(program: Program, feed: Record<string, Numbers>): Results {
  const { outputs, updates } = interpret(program, { inputs: feed, state: feed })
  const named = Object.entries(updates).map(([name, value]) => [`next.${name}`, value] as const)
  return Object.fromEntries(
    [...Object.entries(outputs), ...named].map(([name, { shape, data }]) => [
      name,
      { shape, data: [...data] },
    ]),
  )
}

export interface RunOptions {
  readonly build?: 'native' | 'wasm'
  /** Of the native build; WebAssembly runs on one. */
  readonly threads?: number
}

/** The same according to ONNX Runtime: its CPU kernels, or those of its WebAssembly build. */
export async function runOnnx(
  program: Program,
  feed: Record<string, Numbers>,
  dialect: Dialect = 'portable',
  { build = 'native', threads = 1 }: RunOptions = {},
): Promise<Results> {
  const { InferenceSession, Tensor } = await load(build)
  const emitted = emitOnnx(program, { dialect })
  const session = await InferenceSession.create(emitted.bytes, {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  })
  const feeds: Record<string, OnnxRuntime.Tensor> = {}
  for (const [name, { dtype, shape }] of Object.entries({ ...emitted.inputs, ...emitted.state })) {
    const { data } = feed[name]!
    feeds[name] =
      dtype === 'float32'
        ? new Tensor('float32', Float32Array.from(data), shape)
        : dtype === 'int32'
          ? new Tensor('int32', Int32Array.from(data), shape)
          : new Tensor('bool', Uint8Array.from(data), shape)
  }
  const outputs = await session.run(feeds)
  await session.release()
  return Object.fromEntries(
    Object.entries(outputs).map(([name, tensor]) => [
      name,
      { shape: tensor.dims, data: Array.from(tensor.data as ArrayLike<number>, Number) },
    ]),
  )
}

async function load(
  build: 'native' | 'wasm',
): Promise<Pick<typeof OnnxRuntime, 'InferenceSession' | 'Tensor'>> {
  if (build === 'native') return import('onnxruntime-node')
  const web = await import('onnxruntime-web')
  web.env.wasm.numThreads = 1
  return web
}

/** How far two lists of numbers are apart, relative to the largest of them or to 1. */
export function distance(actual: readonly number[], expected: readonly number[]): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY
  const scale = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1)
  return actual.reduce((worst, value, i) => {
    const error = Object.is(value, expected[i]) ? 0 : Math.abs(value - expected[i]!) / scale
    return Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error)
  }, 0)
}

/** The largest distance over all outputs, and over their shapes. */
export function resultDistance(actual: Results, expected: Results): number {
  const names = Object.keys(expected)
  if (names.some((name) => actual[name]?.shape.join() !== expected[name]!.shape.join()))
    return Number.POSITIVE_INFINITY
  return Math.max(0, ...names.map((name) => distance(actual[name]!.data, expected[name]!.data)))
}

export interface GradientCase {
  /** Placeholders that the function takes; float32 ones are differentiated. */
  readonly inputs: readonly (TensorSpec & { readonly values?: ArrayLike<number> })[]
  readonly build: (...inputs: Tensor[]) => Tensor
}

/** A program of the gradients of Σ output∘random, and numbers to feed it. */
export function gradientProgram({ inputs, build }: GradientCase): {
  program: Program
  loss: Program
  feed: Record<string, Numbers>
  differentiated: string[]
} {
  const placeholders = inputs.map(({ shape, dtype }, i) => parameter(`x${i}`, shape, dtype))
  const output = build(...placeholders)
  const weights = parameter('weights', output.shape)
  const loss = sum(mul(output, weights))
  const wanted = placeholders.filter(({ dtype }) => dtype === 'float32')
  const gradients = grad(loss, wanted)
  const differentiated = wanted.map((tensor) => tensor.attributes.name as string)
  const feed: Record<string, Numbers> = { weights: normalNumbers(output.shape, 'weights') }
  for (const [i, { shape, values }] of inputs.entries()) {
    feed[`x${i}`] = values === undefined ? normalNumbers(shape, `x${i}`) : { shape, data: values }
  }
  const all = [...placeholders, weights]
  return {
    program: programOf(
      Object.fromEntries(gradients.map((tensor, i) => [`d${differentiated[i]!}`, tensor])),
      all,
    ),
    loss: programOf({ loss }, all),
    feed,
    differentiated,
  }
}

/** Largest distance between the gradients and central differences, both in float64. */
export function gradientError(gradientCase: GradientCase): number {
  const { program, loss, feed, differentiated } = gradientProgram(gradientCase)
  const gradients = runReference(program, feed)
  const step = 1e-5
  let worst = 0
  for (const name of differentiated) {
    const { shape, data } = feed[name]!
    const at = (i: number, change: number): number => {
      const moved = Float64Array.from(data)
      moved[i]! += change
      return runReference(loss, { ...feed, [name]: { shape, data: moved } }).loss!.data[0]!
    }
    const differences = Array.from(data, (_, i) => (at(i, step) - at(i, -step)) / (2 * step))
    worst = Math.max(worst, distance(gradients[`d${name}`]!.data, differences))
  }
  return worst
}

/**
 * The operators of an ONNX model, in order: graph is field 7 of a model, node field 1 of a graph, op_type
 * field 4.
 */
export function operatorsOf(model: Uint8Array): string[] {
  const graph = fieldsOf(model, 7)[0]!
  return fieldsOf(graph, 1).map((node) => new TextDecoder().decode(fieldsOf(node, 4)[0]))
}

/** The contents of a length-delimited field, each time it occurs. */
function fieldsOf(message: Uint8Array, wanted: number): Uint8Array[] {
  const reader = new BinaryReader(message)
  const found: Uint8Array[] = []
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag()
    if (field === wanted && wireType === WireType.LengthDelimited) found.push(reader.bytes())
    else reader.skip(wireType, field)
  }
  return found
}
