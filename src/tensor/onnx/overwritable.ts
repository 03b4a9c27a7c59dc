/**
 * Whether the next values of state may be written over the current ones. A node's output is written when the node
 * runs, so the old value must have been read by then, whatever order the runtime picks: each node that reads it must
 * come before the node that computes the next value in every order, that is, be among what this node depends on. This
 * is checked on the nodes as they are emitted, after all rewrites.
 */
import { GroundswellError } from '../../core/index.ts'
import { updateName } from '../program.ts'
import type { OnnxNode } from './protobuf.ts'

/** Their output may be the memory of their first input under another shape. */
const views: ReadonlySet<string> = new Set(['Reshape', 'Identity'])

/**
 * May read the value that they overwrite: element i of the result needs no other element of it. Kept to the
 * operators that updates end with, of which ONNX Runtime fuses none into something that reads its input twice.
 */
const elementwise: ReadonlySet<string> = new Set(['Add', 'Sub', 'Identity'])

/**
 * @param nodes in an order in which they can run
 * @param updated names of state
 */
export function requireOverwritable(
  program: string,
  nodes: readonly OnnxNode[],
  updated: readonly string[],
): void {
  const producers = new Map<string, number>()
  const readers = new Map<string, number[]>()
  for (const [i, { inputs, outputs }] of nodes.entries()) {
    for (const output of outputs) producers.set(output, i)
    for (const input of new Set(inputs)) {
      const known = readers.get(input)
      if (known === undefined) readers.set(input, [i])
      else known.push(i)
    }
  }
  const readersOf = (value: string): number[] =>
    (readers.get(value) ?? []).flatMap((i) => {
      const { type, inputs, outputs } = nodes[i]!
      return views.has(type) && inputs[0] === value ? [i, ...readersOf(outputs[0]!)] : [i]
    })

  for (const name of updated) {
    const fail = (problem: string): never => {
      throw new GroundswellError(
        `program ${program}: ${name} cannot be updated in place, because ${problem}`,
        {
          code: 'tensor/program',
          remedy:
            'Leave updatesInPlace out, or let every update depend on everything that reads the old value.',
        },
      )
    }
    const writer = producers.get(updateName(name))!
    const mine = readersOf(name)
    const before = dependencies(nodes, producers, writer, Math.min(...mine))
    for (const reader of mine) {
      const { type, name: node } = nodes[reader]!
      if (reader === writer) {
        if (!elementwise.has(type)) fail(`its next value is computed by ${type} from the old one directly`)
      } else if (!before.has(reader)) fail(`${node} might read the old value after the update`)
    }
  }
}

/** What a node depends on, itself included, as far back as the node numbered `first`. */
function dependencies(
  nodes: readonly OnnxNode[],
  producers: ReadonlyMap<string, number>,
  node: number,
  first: number,
): Set<number> {
  const found = new Set([node])
  for (const i of found) {
    for (const input of nodes[i]!.inputs) {
      const producer = producers.get(input)
      if (producer !== undefined && producer >= first) found.add(producer)
    }
  }
  return found
}
