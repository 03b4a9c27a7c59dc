/**
 * A program is what a backend runs: named inputs that are fed at every run, named state that stays on the
 * device, outputs that come back, and the next values of state. Checking and ordering happen here, once.
 */
import { GroundswellError } from '../core/index.ts'
import { topologicalOrder } from './graph.ts'
import { parameterOperation } from './operations/leaves.ts'
import { type Dialect, describe, isOf, sameShape, type Tensor, type TensorSpec } from './tensor.ts'

export interface Program {
  readonly name: string
  /** Placeholders fed at every run. */
  readonly inputs: Readonly<Record<string, Tensor>>
  /** Placeholders that stay on the device between runs: parameters, moments. */
  readonly state: Readonly<Record<string, Tensor>>
  /** Returned by every run. */
  readonly outputs: Readonly<Record<string, Tensor>>
  /** The next value of a state tensor, by its name. */
  readonly updates: Readonly<Record<string, Tensor>>
  /**
   * Lets a backend write the next values over the current ones instead of beside them, which halves the memory of
   * the updated state. The author promises that every update depends on everything that reads the value it replaces;
   * so it is in a training step whose updates all depend on the norm of the whole gradient. `emitOnnx` holds the
   * author to it. The price: a run that fails may leave the state half updated, and it then counts as lost.
   */
  readonly updatesInPlace?: true
}

export interface EmittedProgram {
  readonly name: string
  readonly dialect: Dialect
  /** An ONNX model. Its inputs are the inputs and the state, its outputs the outputs and `next.<state>`. */
  readonly bytes: Uint8Array
  readonly inputs: Readonly<Record<string, TensorSpec>>
  readonly state: Readonly<Record<string, TensorSpec>>
  readonly outputs: Readonly<Record<string, TensorSpec>>
  readonly updates: Readonly<Record<string, TensorSpec>>
  /** As the program promises; the bytes are the same with and without. */
  readonly updatesInPlace?: true
}

/** The ONNX output that carries a state tensor's next value. */
export function updateName(state: string): string {
  return `next.${state}`
}

/** Program with its records sorted by name, after a check that it is whole. */
export function defineProgram(program: Program): Program {
  const { name, inputs, state, outputs, updates } = program
  const fail = (problem: string): never => {
    throw new GroundswellError(`program ${name}: ${problem}`, {
      code: 'tensor/program',
      remedy: 'Correct the record of inputs, state, outputs and updates given to defineProgram.',
    })
  }
  const placeholders = { ...inputs, ...state }
  for (const [key, tensor] of Object.entries(placeholders)) {
    if (!isOf(tensor, parameterOperation)) fail(`${key} is not a placeholder but a ${tensor.op.name}`)
    if (tensor.attributes.name !== key)
      fail(`the placeholder ${String(tensor.attributes.name)} stands under ${key}`)
    if (key === '' || key.startsWith('%')) fail(`${JSON.stringify(key)} is no name for a placeholder`)
  }
  for (const key of Object.keys(inputs)) if (key in state) fail(`${key} is both an input and state`)
  const produced = [...Object.keys(outputs), ...Object.keys(updates).map(updateName)]
  if (produced.length === 0) fail('it has neither outputs nor updates')
  for (const [i, key] of produced.entries()) {
    if (key === '' || key.startsWith('%')) fail(`${JSON.stringify(key)} is no name for an output`)
    if (produced.indexOf(key) !== i) fail(`the output ${key} is named twice`)
    if (key in placeholders) fail(`${key} is both a placeholder and an output`)
  }
  for (const [key, next] of Object.entries(updates)) {
    const current = state[key]
    if (current === undefined) return fail(`the update of ${key} has no state to update`)
    if (current.dtype !== next.dtype || !sameShape(current.shape, next.shape)) {
      fail(`the update of ${key} is ${describe(next)}, the state ${describe(current)}`)
    }
  }
  for (const node of topologicalOrder([...Object.values(outputs), ...Object.values(updates)])) {
    if (!isOf(node, parameterOperation)) continue
    const key = node.attributes.name as string
    const declared = placeholders[key]
    if (declared === undefined)
      return fail(`the placeholder ${key} is used but is neither an input nor state`)
    if (declared.dtype !== node.dtype || !sameShape(declared.shape, node.shape)) {
      fail(`the placeholder ${key} is used as ${describe(node)} and declared as ${describe(declared)}`)
    }
  }
  return {
    name,
    inputs: sorted(inputs),
    state: sorted(state),
    outputs: sorted(outputs),
    updates: sorted(updates),
    ...(program.updatesInPlace && { updatesInPlace: true }),
  }
}

/** By code units, so that the order is the same in every locale. */
function sorted<T>(record: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
}

function specOf({ shape, dtype }: TensorSpec): TensorSpec {
  return { shape, dtype }
}

export function specsOf(record: Readonly<Record<string, Tensor>>): Record<string, TensorSpec> {
  return Object.fromEntries(Object.entries(record).map(([name, tensor]) => [name, specOf(tensor)]))
}
