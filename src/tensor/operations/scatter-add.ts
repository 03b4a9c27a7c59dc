/**
 * How rows are added to the rows of a table in ONNX. `ScatterND` with reduction "add" says exactly that, but
 * ONNX Runtime's CPU and WebAssembly kernels spread it over threads without locks, so that a row named twice may
 * lose updates (https://github.com/microsoft/onnxruntime/issues/23396; on 1.30 with two threads sums differed from
 * run to run, some by whole addends). An embedding names rows twice all the time. What is written here has one
 * answer whatever the threads do, by one of two ways:
 *
 * - few rows: a product with the one-hot matrix of the indices;
 * - many rows: blocks of indices one after the other, and in each block the product with the matrix of equal
 *   indices gives every index the sum over all its duplicates. The new rows are then set, not added:
 *   duplicates write the same bits.
 */
import type { GraphBuilder } from '../onnx/graph-builder.ts'
import { type LoweredValue, type LoweringContext, type Shape, sameShape, sizeOf } from '../tensor.ts'

/** Up to this many rows the one-hot product is the faster way. */
const fewRows = 512
/**
 * Indices per block, the power of two next to 4·√rows: a short block means many copies of the table
 * (`ScatterND` does not work in place), a long one much work on the matrix of equal indices. At 4,096 rows of
 * 384 and 2,048 indices 256 is best.
 */
function blockLengthFor(rows: number): number {
  let length = 1
  while (length * length < 16 * rows) length *= 2
  return length
}

const float = { to: { int: 1 } }
const int64 = { to: { int: 7 } }

export function lowerScatterAdd({ graph, inputs, output }: LoweringContext<unknown>): string {
  const [base, indices, updates] = inputs as [LoweredValue, LoweredValue, LoweredValue]
  const count = sizeOf(indices.shape)
  const rows = base.shape[0]!
  const width = sizeOf(base.shape.slice(1))
  const reshaped = (name: string, from: Shape, to: Shape): string =>
    sameShape(from, to) ? name : graph.node('Reshape', [name, graph.int64(to)])
  const additions = {
    graph,
    indices: reshaped(indices.name, indices.shape, [count]),
    updates: reshaped(updates.name, updates.shape, [count, width]),
    rows,
    count,
    width,
  }
  const table = reshaped(base.name, base.shape, [rows, width])
  const sum =
    rows > fewRows
      ? addByBlocks(table, additions)
      : addByOneHot(base.uniform === 0 ? undefined : table, additions) // zeros need no third operand
  return reshaped(sum, [rows, width], output.shape)
}

interface Additions {
  readonly graph: GraphBuilder
  /** int32 [count] */
  readonly indices: string
  /** float32 [count, width] */
  readonly updates: string
  readonly rows: number
  readonly count: number
  readonly width: number
}

function addByOneHot(table: string | undefined, { graph, indices, updates, rows, count }: Additions): string {
  const each = graph.constant(
    'int32',
    [rows, 1],
    Array.from({ length: rows }, (_, row) => row),
  )
  const across = graph.node('Reshape', [indices, graph.int64([1, count])])
  const oneHot = graph.node('Cast', [graph.node('Equal', [each, across])], { attributes: float })
  return graph.node('Gemm', table === undefined ? [oneHot, updates] : [oneHot, updates, table])
}

function addByBlocks(table: string, { graph, indices, updates, rows, count, width }: Additions): string {
  const blockLength = blockLengthFor(rows)
  const part = (name: string, start: number, end: number): string =>
    start === 0 && end === count
      ? name
      : graph.node('Slice', [name, graph.int64([start]), graph.int64([end]), graph.int64([0])])
  const whole = count - (count % blockLength)
  let next = table
  for (const [start, end] of [
    [0, whole],
    [whole, count],
  ] as const) {
    if (start === end) continue
    const length = Math.min(blockLength, end - start)
    const blocks = (end - start) / length
    const own = part(indices, start, end)
    const sums = sumsOverDuplicates(graph, own, part(updates, start, end), { blocks, length, width })
    for (let block = 0; block < blocks; block++) {
      const bounds = [graph.int64([block * length]), graph.int64([(block + 1) * length]), graph.int64([0])]
      const blockOf = (name: string): string => (blocks === 1 ? name : graph.node('Slice', [name, ...bounds]))
      const targets = blockOf(own)
      const updated = graph.node('Add', [graph.node('Gather', [next, targets]), blockOf(sums)])
      const positions = graph.node('Cast', [graph.node('Reshape', [targets, graph.int64([length, 1])])], {
        attributes: int64,
      })
      next = graph.node('ScatterND', [next, positions, updated])
    }
  }
  return next
}

/**
 * For each index of each block the sum of the updates of all that are equal to it in its block, bit for bit
 * the same.
 */
function sumsOverDuplicates(
  graph: GraphBuilder,
  indices: string,
  updates: string,
  { blocks, length, width }: { blocks: number; length: number; width: number },
): string {
  const reshaped = (name: string, ...shape: number[]): string =>
    graph.node('Reshape', [name, graph.int64(shape)])
  const equal = graph.node('Equal', [
    reshaped(indices, blocks, length, 1),
    reshaped(indices, blocks, 1, length),
  ])
  const weights = graph.node('Cast', [equal], { attributes: float })
  const sums = graph.node('MatMul', [weights, reshaped(updates, blocks, length, width)])
  // all duplicates take the sum that the first of them has, so that rounding cannot tell them apart
  const first = graph.node('ArgMax', [weights], { attributes: { axis: { int: 2 }, keepdims: { int: 1 } } })
  const starts = graph.constant(
    'int64',
    [blocks, 1, 1],
    Array.from({ length: blocks }, (_, block) => block * length),
  )
  const source = reshaped(graph.node('Add', [first, starts]), blocks * length)
  return graph.node('Gather', [reshaped(sums, blocks * length, width), source])
}
