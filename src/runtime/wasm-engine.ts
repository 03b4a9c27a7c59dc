/**
 * WebAssembly: the backend that gives the same bits on every machine, in Node and in tabs, with any number of
 * threads; the price is about a fifth of the speed of native code. State lies in the module's memory; a run passes
 * handles, and only a program's inputs and outputs are copied.
 */
import { type EmittedProgram, type TensorSpec, updateName } from '../tensor/index.ts'
import type { Engine, Session } from './engine.ts'
import type { HostTensor } from './types.ts'
import { type HeapTensor, openWasmHeap, type WasmHeap } from './wasm-heap.ts'

const allOptimisations = 99
const sequential = 0
const silent = 4

export interface WasmEngine extends Engine<HeapTensor> {
  /** All of the module's memory: tensors, sessions and what ONNX Runtime needs while it runs. */
  heldBytes(): number
}

export async function wasmEngine(threads: number): Promise<WasmEngine> {
  const heap = await openWasmHeap(threads)
  return {
    name: 'wasm',
    dialect: 'portable',
    threads,
    writesWhereTold: true,
    overwritesState: true,
    upload: async (value) => {
      const tensor = heap.allocate(value)
      heap.store(tensor, value.data)
      return tensor
    },
    download: async (tensor, spec) => heap.copyOut(tensor, spec),
    release: (tensor) => heap.release(tensor),
    load: async (program) => sessionOver(heap, createSession(heap, program.bytes), program),
    // ONNX Runtime's module has no way to stop its threads: they stay parked, without using a core, until the
    // process or tab ends. Everything else has been released by now.
    close: async () => {},
    heldBytes: () => heap.module.HEAPU8.byteLength,
  }
}

function createSession(heap: WasmHeap, bytes: Uint8Array): number {
  const { module } = heap
  // With the memory pattern a 3.3M-parameter step peaks at 900-920 MB instead of 850, and is no faster.
  const memoryArena = true
  const memoryPattern = false
  const options = module._OrtCreateSessionOptions(
    allOptimisations,
    memoryArena,
    memoryPattern,
    sequential,
    false,
    0,
    0,
    silent,
    0,
    0,
  )
  if (options === 0) heap.check(-1)
  const model = heap.copyIn(bytes)
  try {
    const session = module._OrtCreateSession(model, bytes.byteLength, options)
    if (session === 0) heap.check(-1)
    return session
  } finally {
    module._free(model)
    module._OrtReleaseSessionOptions(options)
  }
}

/** An array of addresses in the module's memory. */
function addresses(heap: WasmHeap, values: readonly number[]): number {
  return heap.copyIn(new Uint8Array(new Uint32Array(values).buffer))
}

function sessionOver(heap: WasmHeap, session: number, program: EmittedProgram): Session<HeapTensor> {
  const { module } = heap
  const inputs = Object.entries(program.inputs)
  const outputs = Object.entries(program.outputs)
  const state = Object.keys(program.state)
  const updates = Object.entries(program.updates)

  // Made once: names, staging memory for what crosses into JavaScript, and the two argument lists, in which a run
  // only fills in the handles of its state.
  const inputNameList = [...inputs.map(([name]) => name), ...state]
  const outputNameList = [...outputs.map(([name]) => name), ...updates.map(([name]) => updateName(name))]
  const names = [...inputNameList, ...outputNameList].map((name) => heap.string(name))
  const inputCount = inputNameList.length
  const outputCount = outputNameList.length
  const inputNames = addresses(heap, names.slice(0, inputCount))
  const outputNames = addresses(heap, names.slice(inputCount))
  const stage = ([, spec]: [string, TensorSpec]): HeapTensor => heap.allocate(spec)
  const stagedInputs = inputs.map(stage)
  const stagedOutputs = outputs.map(stage)
  const inputHandles = addresses(heap, [...stagedInputs.map((t) => t.handle), ...state.map(() => 0)])
  const outputHandles = addresses(heap, [...stagedOutputs.map((t) => t.handle), ...updates.map(() => 0)])
  const runOptions = module._OrtCreateRunOptions(silent, 0, false, 0)

  return {
    run: async (call) => {
      for (const [i, [name]] of inputs.entries()) heap.store(stagedInputs[i]!, call.inputs[name]!.data)
      for (const [i, name] of state.entries()) {
        module.setValue(inputHandles + 4 * (inputs.length + i), call.state.get(name)!.handle, '*')
      }
      const updated = new Map<string, HeapTensor>()
      const fresh: HeapTensor[] = []
      for (const [i, [name, spec]] of updates.entries()) {
        let tensor = call.spare.get(name)
        if (tensor === undefined) {
          tensor = heap.allocate(spec)
          fresh.push(tensor)
        }
        updated.set(name, tensor)
        module.setValue(outputHandles + 4 * (outputs.length + i), tensor.handle, '*')
      }
      try {
        heap.check(
          module._OrtRun(
            session,
            inputNames,
            inputHandles,
            inputCount,
            outputNames,
            outputCount,
            outputHandles,
            runOptions,
          ),
        )
      } catch (failure) {
        for (const tensor of fresh) heap.release(tensor)
        throw failure
      }
      const results: Record<string, HostTensor> = {}
      for (const [i, [name, spec]] of outputs.entries()) results[name] = heap.copyOut(stagedOutputs[i]!, spec)
      return { outputs: results, updated }
    },
    close: async () => {
      for (const tensor of [...stagedInputs, ...stagedOutputs]) heap.release(tensor)
      for (const address of [...names, inputNames, outputNames, inputHandles, outputHandles]) {
        module._free(address)
      }
      module._OrtReleaseRunOptions(runOptions)
      module._OrtReleaseSession(session)
    },
  }
}
