/**
 * The CPU through ONNX Runtime's C interface. Tensors lie in memory that ONNX Runtime allocates, so it is aligned as
 * its kernels like it and freed at once when released; a run passes handles and works on another thread, so that
 * sockets are served meanwhile.
 *
 * Settings by measurement (a 3.3M-parameter Llama step with AdamW, two cores, sessions alternated step by step):
 * - memory arena on, memory pattern off: 0.88-0.94 of the time without the arena. Runs take turns on libuv's
 *   threads, and without ONNX Runtime's own arena each of those threads grows one of its own in the C library: peak
 *   memory 1,300 MB against 552 MB. With the memory pattern as well it was 831 MB.
 * - all graph optimisations: no different from `extended` within noise. Those that turn a copied transpose back into a flag of the
 *   product that reads it are off: 1.02-1.07 times as fast at 3.3M and 1.09 at 13M, where no rows collide in the cache.
 * - threads that spin while they wait for work save 10 % of a step at 16×128 tokens and 30 % at 4×128 on a quiet
 *   machine; where other processes want the cores they cost 30-50 %. Hence the option.
 * - denormals are computed as they are. ONNX Runtime could flush them to zero, but sets that on some of the threads only, of which the
 *   one that runs JavaScript is one: results hung on the thread, and merges on what else the process had done.
 */
import { type EmittedProgram, type TensorSpec, updateName } from '../tensor/index.ts'
import { bytesPerElement, elementCount, hostBuffer } from './checks.ts'
import { type Engine, type Session, undoingOptimisers } from './engine.ts'
import type { Handle, NativeLibrary } from './native-library.ts'
import type { HostTensor } from './types.ts'

interface NativeTensor {
  readonly handle: Handle
  readonly bytes: Uint8Array
}

/** ONNX's numbers for element types. */
const elementType = { float32: 1, int32: 6, bool: 9 } as const
const silent = 4
const allOptimisations = 99

export interface NativeEngineOptions {
  readonly threads: number
  readonly spin: boolean
}

export interface NativeEngine extends Engine<NativeTensor> {
  /** Memory of the tensors that exist: state, and what programs exchange with JavaScript. */
  heldBytes(): number
}

export function nativeEngine(library: NativeLibrary, { threads, spin }: NativeEngineOptions): NativeEngine {
  let heldBytes = 0
  const environment = library.call('CreateEnv', silent, 'groundswell')
  const allocator = library.call('GetAllocatorWithDefaultOptions')
  const allocate = (spec: TensorSpec): NativeTensor => {
    const handle = library.call(
      'CreateTensorAsOrtValue',
      allocator,
      spec.shape,
      spec.shape.length,
      elementType[spec.dtype],
    )
    const length = elementCount(spec.shape) * bytesPerElement(spec.dtype)
    const bytes =
      length === 0 ? new Uint8Array(0) : library.view(library.call('GetTensorMutableData', handle), length)
    heldBytes += length
    return { handle, bytes }
  }
  const release = ({ handle, bytes }: NativeTensor): void => {
    heldBytes -= bytes.byteLength
    library.release('ReleaseValue', handle)
  }

  return {
    name: 'cpu',
    dialect: 'cpu',
    threads,
    writesWhereTold: true,
    overwritesState: true,
    upload: async (value) => {
      const tensor = allocate(value)
      store(tensor, value)
      return tensor
    },
    download: async (tensor, spec) => copyOut(tensor, spec),
    release,
    load: async (program) => {
      const options = library.call('CreateSessionOptions')
      try {
        library.call('SetSessionLogSeverityLevel', options, silent)
        library.call('SetSessionGraphOptimizationLevel', options, allOptimisations)
        library.call('SetIntraOpNumThreads', options, threads)
        library.call('DisableMemPattern', options)
        const unwanted = 'optimization.disable_specified_optimizers'
        library.call('AddSessionConfigEntry', options, unwanted, undoingOptimisers)
        library.call('AddSessionConfigEntry', options, 'session.intra_op.allow_spinning', spin ? '1' : '0')
        const { bytes } = program
        const session = library.call('CreateSessionFromArray', environment, bytes, bytes.byteLength, options)
        return sessionOver(library, session, program, allocate, release)
      } finally {
        library.release('ReleaseSessionOptions', options)
      }
    },
    // The environment is one per process and stays: other backends may use it.
    close: async () => {},
    heldBytes: () => heldBytes,
  }
}

function store(tensor: NativeTensor, { data }: HostTensor): void {
  tensor.bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
}

function copyOut(tensor: NativeTensor, spec: TensorSpec): HostTensor {
  const data = hostBuffer(spec)
  new Uint8Array(data.buffer).set(tensor.bytes)
  return { dtype: spec.dtype, shape: [...spec.shape], data }
}

function sessionOver(
  library: NativeLibrary,
  session: Handle,
  program: EmittedProgram,
  allocate: (spec: TensorSpec) => NativeTensor,
  release: (tensor: NativeTensor) => void,
): Session<NativeTensor> {
  const inputs = Object.entries(program.inputs)
  const outputs = Object.entries(program.outputs)
  const state = Object.keys(program.state)
  const updates = Object.entries(program.updates)
  const inputNames = [...inputs.map(([name]) => name), ...state]
  const outputNames = [...outputs.map(([name]) => name), ...updates.map(([name]) => updateName(name))]
  const stagedInputs = inputs.map(([, spec]) => allocate(spec))
  const stagedOutputs = outputs.map(([, spec]) => allocate(spec))

  return {
    run: async (call) => {
      for (const [i, [name]] of inputs.entries()) store(stagedInputs[i]!, call.inputs[name]!)
      const updated = new Map<string, NativeTensor>()
      for (const [name, spec] of updates) updated.set(name, call.spare.get(name) ?? allocate(spec))
      const handles = (tensors: Iterable<NativeTensor>): Handle[] => Array.from(tensors, (t) => t.handle)
      try {
        await library.callAsync(
          'Run',
          session,
          null,
          inputNames,
          [...handles(stagedInputs), ...state.map((name) => call.state.get(name)!.handle)],
          inputNames.length,
          outputNames,
          outputNames.length,
          [...handles(stagedOutputs), ...handles(updated.values())],
        )
      } catch (failure) {
        for (const [name, tensor] of updated) if (!call.spare.has(name)) release(tensor)
        throw failure
      }
      const results: Record<string, HostTensor> = {}
      for (const [i, [name, spec]] of outputs.entries()) results[name] = copyOut(stagedOutputs[i]!, spec)
      return { outputs: results, updated }
    },
    close: async () => {
      for (const tensor of [...stagedInputs, ...stagedOutputs]) release(tensor)
      library.release('ReleaseSession', session)
    },
  }
}
