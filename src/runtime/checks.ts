/**
 * Names, shapes and dtypes are compared before anything runs, so that a mistake is reported as “the input ‘tokens’
 * of ‘train-step’ has shape [4, 128], expected [4, 129]” and not as an engine's message about node 713.
 */
import { GroundswellError } from '../core/index.ts'
import type { TensorSpec } from '../tensor/index.ts'
import type { HostTensor } from './types.ts'

export type Specs = Readonly<Record<string, TensorSpec>>

export const elementCount = (shape: readonly number[]): number => shape.reduce((n, size) => n * size, 1)

export const bytesPerElement = (dtype: TensorSpec['dtype']): number => (dtype === 'bool' ? 1 : 4)

/** Zeroed memory in JavaScript for one tensor. */
export function hostBuffer(spec: TensorSpec): HostTensor['data'] {
  const length = elementCount(spec.shape)
  switch (spec.dtype) {
    case 'float32':
      return new Float32Array(length)
    case 'int32':
      return new Int32Array(length)
    case 'bool':
      return new Uint8Array(length)
    default:
      return spec.dtype satisfies never
  }
}

export const describeSpec = (spec: TensorSpec): string => `${spec.dtype} [${spec.shape.join(', ')}]`

const sameSpec = (a: TensorSpec, b: TensorSpec): boolean =>
  a.dtype === b.dtype && a.shape.length === b.shape.length && a.shape.every((size, i) => size === b.shape[i])

/** A tensor's data must be what its own dtype and shape say. */
function checkData(what: string, tensor: HostTensor): void {
  const kind = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }[tensor.dtype]
  if (!(tensor.data instanceof kind)) {
    throw new GroundswellError(`${what} is ${tensor.dtype} but its data is not a ${kind.name}.`, {
      code: 'runtime/data',
    })
  }
  const expected = elementCount(tensor.shape)
  if (tensor.data.length !== expected) {
    throw new GroundswellError(
      `${what} has shape [${tensor.shape.join(', ')}], which is ${expected} numbers, but holds ${tensor.data.length}.`,
      { code: 'runtime/data' },
    )
  }
}

const list = (names: readonly string[]): string => names.map((name) => `“${name}”`).join(', ')

/** Every expected input is there, nothing else is, and each fits. */
export function checkInputs(
  program: { readonly name: string; readonly inputs: Specs },
  inputs: Readonly<Record<string, HostTensor>>,
): void {
  const missing = Object.keys(program.inputs).filter((name) => inputs[name] === undefined)
  const unknown = Object.keys(inputs).filter((name) => program.inputs[name] === undefined)
  if (missing.length > 0 || unknown.length > 0) {
    const parts = [
      ...(missing.length > 0 ? [`lacks ${list(missing)}`] : []),
      ...(unknown.length > 0 ? [`does not know ${list(unknown)}`] : []),
    ]
    throw new GroundswellError(`The inputs given to program “${program.name}”: it ${parts.join(' and ')}.`, {
      code: 'runtime/inputs',
      remedy: `Give exactly ${list(Object.keys(program.inputs)) || 'no inputs'}.`,
    })
  }
  for (const [name, spec] of Object.entries(program.inputs)) {
    const tensor = inputs[name]!
    const what = `The input “${name}” of program “${program.name}”`
    if (!sameSpec(spec, tensor)) {
      throw new GroundswellError(`${what} is ${describeSpec(tensor)}, expected ${describeSpec(spec)}.`, {
        code: 'runtime/inputs',
      })
    }
    checkData(what, tensor)
  }
}

/** The state holds everything that the program reads or updates. */
export function checkState(
  program: { readonly name: string; readonly state: Specs; readonly updates: Specs },
  held: Specs,
): void {
  const missing = Object.keys(program.state).filter((name) => held[name] === undefined)
  if (missing.length > 0) {
    throw new GroundswellError(`The state given to program “${program.name}” lacks ${list(missing)}.`, {
      code: 'runtime/state',
      remedy: 'Create the state with every tensor that the program names.',
    })
  }
  for (const [name, spec] of Object.entries(program.state)) {
    if (!sameSpec(spec, held[name]!)) {
      throw new GroundswellError(
        `The state's “${name}” is ${describeSpec(held[name]!)}, but program “${program.name}” expects ${describeSpec(spec)}.`,
        { code: 'runtime/state' },
      )
    }
  }
}

/** Values for a state that exists (`held`), or for a new one. */
export function checkValues(values: Readonly<Record<string, HostTensor>>, held?: Specs): void {
  for (const [name, tensor] of Object.entries(values)) {
    const what = `The state's value “${name}”`
    const spec = held === undefined ? tensor : held[name]
    if (spec === undefined) {
      throw new GroundswellError(`The state has no tensor “${name}”.`, {
        code: 'runtime/state',
        remedy: `It has ${list(Object.keys(held ?? {}))}.`,
      })
    }
    if (!sameSpec(spec, tensor)) {
      throw new GroundswellError(`${what} is ${describeSpec(tensor)}, expected ${describeSpec(spec)}.`, {
        code: 'runtime/state',
      })
    }
    checkData(what, tensor)
  }
}
