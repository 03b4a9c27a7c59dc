/**
 * CPU and CUDA through onnxruntime-node's JavaScript interface, over typed arrays that ONNX Runtime reads and writes
 * in place: two sets, handed to `session.run(feeds, fetches)` in turn.
 *
 * For the CPU this is the second choice, for machines where koffi does not load (see `native-library.ts`): the
 * binding copies each output into new memory after the run, and a run holds up the event loop. Measured for the
 * 40 MB of state of a 3.3M-parameter model: 55-80 ms a step against 13 ms.
 *
 * For CUDA the binding (1.30) has no tensors that stay on the device: `gpu-buffer` outputs are tied to WebGPU's
 * allocator. State therefore crosses the bus at each run, by ONNX Runtime's own copies, and the self-test's timing
 * includes that, so `auto` takes CUDA only where it still wins.
 */
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { type EmittedProgram, type TensorSpec, updateName } from '../tensor/index.ts'
import { hostBuffer } from './checks.ts'
import { type Engine, type Session, undoingOptimisers } from './engine.ts'
import { loadOnnxRuntimeNode, type OnnxRuntimeNode } from './onnxruntime-node.ts'
import type { HostTensor } from './types.ts'

export async function nodeEngine(
  name: 'cpu' | 'cuda',
  { threads, spin }: { readonly threads: number; readonly spin: boolean },
): Promise<Engine<Tensor>> {
  const ort = await loadOnnxRuntimeNode()
  return {
    name,
    dialect: name === 'cpu' ? 'cpu' : 'portable',
    threads,
    writesWhereTold: true,
    // Typed arrays are copied in and out anyway, which costs more than a second set of them.
    overwritesState: false,
    upload: async (value) => new ort.Tensor(value.dtype, value.data.slice(), value.shape),
    download: async (buffer, { dtype, shape }) => ({
      dtype,
      shape: [...shape],
      data: (buffer.data as HostTensor['data']).slice(),
    }),
    release: () => {},
    load: async (program) => {
      const session = await ort.InferenceSession.create(program.bytes, {
        executionProviders: [name],
        intraOpNumThreads: threads,
        executionMode: 'sequential',
        graphOptimizationLevel: 'all',
        // Runs happen on one thread here, where the C library's allocator reuses memory better than the arena:
        // peak 483-535 MB against 780-815 MB for a 3.3M-parameter step.
        enableCpuMemArena: false,
        enableMemPattern: false,
        logSeverityLevel: 4,
        extra: {
          session: { intra_op: { allow_spinning: spin ? '1' : '0' } },
          ...(name === 'cpu' && { optimization: { disable_specified_optimizers: undoingOptimisers } }),
        },
      })
      return sessionOver(ort, session, program)
    },
    close: async () => {},
  }
}

function sessionOver(
  ort: OnnxRuntimeNode,
  session: InferenceSession,
  program: EmittedProgram,
): Session<Tensor> {
  const empty = (spec: TensorSpec): Tensor => new ort.Tensor(spec.dtype, hostBuffer(spec), spec.shape)
  return {
    run: async ({ inputs, state, spare }) => {
      const feeds: Record<string, Tensor> = {}
      for (const [name, { dtype, data, shape }] of Object.entries(inputs)) {
        feeds[name] = new ort.Tensor(dtype, data, shape)
      }
      for (const name of Object.keys(program.state)) feeds[name] = state.get(name)!
      const outputs: Record<string, HostTensor> = {}
      const updated = new Map<string, Tensor>()
      const fetches: Record<string, Tensor> = {}
      for (const [name, spec] of Object.entries(program.outputs)) {
        const data = hostBuffer(spec)
        outputs[name] = { dtype: spec.dtype, shape: spec.shape, data }
        fetches[name] = new ort.Tensor(spec.dtype, data, spec.shape)
      }
      for (const [name, spec] of Object.entries(program.updates)) {
        const next = spare.get(name) ?? empty(spec)
        updated.set(name, next)
        fetches[updateName(name)] = next
      }
      await session.run(feeds, fetches)
      return { outputs, updated }
    },
    close: () => session.release(),
  }
}
