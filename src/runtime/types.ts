/**
 * What the rest of the house sees of a machine that computes: a `Backend` compiles emitted programs, holds resident
 * state (parameters, optimiser moments, a key-value cache) and runs the one on the other. State stays where the
 * computation is, from one run to the next; it crosses into JavaScript only through `State.read` and `State.write`.
 */
import type { Dialect, DType, EmittedProgram, TensorSpec } from '../tensor/index.ts'

/** More than any machine has. */
export const maxThreads = 1024

export type BackendName = 'cpu' | 'cuda' | 'webgpu' | 'wasm'

/** Numbers in JavaScript's memory, row-major; bool as bytes of 0 and 1. */
export interface HostTensor {
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly data: Float32Array | Int32Array | Uint8Array
}

/** The machine's own cores and caches, native or in WebAssembly; or an accelerator. */
export type Place = 'processor' | 'device'

export interface Backend extends AsyncDisposable {
  readonly name: BackendName
  readonly place: Place
  readonly dialect: Dialect
  /** Threads that one run uses; 1 where the question has no meaning. */
  readonly threads: number
  compile(program: EmittedProgram): Promise<Executable>
  /** Copies the values to where the computation is. One state serves any number of executables. An abort is heard between two tensors. */
  createState(
    values: Readonly<Record<string, HostTensor>>,
    options?: { readonly signal?: AbortSignal },
  ): Promise<State>
}

export interface Executable extends AsyncDisposable {
  readonly program: EmittedProgram
  readonly compileMs: number
  /**
   * Runs the program once. `state` must hold every name the program reads, with the same shape and dtype, and may
   * hold more. The program's updates replace those values in `state`, all of them or, if the run fails, none; but a
   * failed run of a program with `updatesInPlace` loses them, and the state is refused until they are written again.
   * Returned tensors belong to the caller.
   */
  run(state: State, inputs: Readonly<Record<string, HostTensor>>): Promise<Record<string, HostTensor>>
}

export interface State extends AsyncDisposable {
  readonly specs: Readonly<Record<string, TensorSpec>>
  /** Copies values out; all of them unless `names` are given. */
  read(names?: readonly string[]): Promise<Record<string, HostTensor>>
  /**
   * Replaces values; names, shapes and dtypes must be those of the state. If it fails they are lost, and refused until
   * they are written again.
   */
  write(values: Readonly<Record<string, HostTensor>>): Promise<void>
}
