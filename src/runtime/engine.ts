/**
 * What differs between the ways to run an ONNX graph, and nothing else: where buffers live and how a session is
 * called. Everything that all backends must do alike (checking, double buffering, sharing a state, disposal) stands
 * once, in `backend.ts`, over this interface.
 */
import type { Dialect, EmittedProgram, TensorSpec } from '../tensor/index.ts'
import type { BackendName, HostTensor } from './types.ts'

export interface Engine<Buffer> {
  readonly name: BackendName
  readonly dialect: Dialect
  readonly threads: number
  /**
   * True where a run writes into memory it is given, so that a replaced buffer is worth keeping for the next run;
   * false where the runtime hands out new memory for each result, and a replaced buffer is released at once.
   */
  readonly writesWhereTold: boolean
  /**
   * True where a run may be told to write a next value over the very buffer that it reads the current value from, for
   * programs that promise `updatesInPlace`. Other engines ignore the promise.
   */
  readonly overwritesState: boolean
  /** A resident copy of a host tensor. */
  upload(value: HostTensor): Promise<Buffer>
  /** A copy of a resident tensor for the caller to keep. */
  download(buffer: Buffer, spec: TensorSpec): Promise<HostTensor>
  release(buffer: Buffer): void | Promise<void>
  load(program: EmittedProgram): Promise<Session<Buffer>>
  close(): Promise<void>
}

export interface Session<Buffer> {
  /** One run: the program's outputs, and a buffer with the next value of each tensor that it updates. */
  run(call: RunCall<Buffer>): Promise<RunResult<Buffer>>
  close(): Promise<void>
}

interface RunCall<Buffer> {
  readonly inputs: Readonly<Record<string, HostTensor>>
  readonly state: ReadonlyMap<string, Buffer>
  /**
   * By state name, buffers of the right size to write next values into: ones that nothing reads any more or, with
   * `overwritesState`, those of `state`. Always empty unless `writesWhereTold`.
   */
  readonly spare: ReadonlyMap<string, Buffer>
}

interface RunResult<Buffer> {
  readonly outputs: Record<string, HostTensor>
  readonly updated: ReadonlyMap<string, Buffer>
}

/**
 * ONNX Runtime's names of optimisers that turn a copied transpose back into a flag of the product that reads it. On the CPU the copy
 * is the faster of the two, and model/projection.ts makes it on purpose.
 */
export const undoingOptimisers = 'MatmulTransposeFusion;GemmTransposeFusion'
