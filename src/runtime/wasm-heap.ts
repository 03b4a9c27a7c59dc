/**
 * An instance of ONNX Runtime's WebAssembly build and its memory: strings, tensors and errors.
 *
 * onnxruntime-web's own session layer keeps nothing in that memory between runs. It copies every input in and every
 * output out at each call (`prepareInputOutputTensor` and `run` in its lib/wasm/wasm-core-impl.ts, 1.30: only
 * `gpu-buffer` and `ml-tensor` stay put; a pre-allocated output on the CPU is never copied back), and its module
 * and thread count are one per process. So this room uses the same compiled module, which the package exports, and
 * calls its exported C functions: a tensor is a piece of the module's memory with a handle, and a run passes handles.
 * Each instance has its own memory and its own threads.
 */
import type { OnnxRuntimeWasm } from 'onnxruntime-web/ort-wasm-simd-threaded.mjs'
import { GroundswellError, messageOf } from '../core/index.ts'
import type { TensorSpec } from '../tensor/index.ts'
import { bytesPerElement, elementCount, hostBuffer } from './checks.ts'
import type { HostTensor } from './types.ts'

/** ONNX's numbers for element types. */
const elementType = { float32: 1, int32: 6, bool: 9 } as const
const onCpu = 1
const silent = 4

export interface HeapTensor {
  readonly handle: number
  readonly address: number
}

export interface WasmHeap {
  readonly module: OnnxRuntimeWasm
  /** Memory for a tensor, not cleared. */
  allocate(spec: TensorSpec): HeapTensor
  release(tensor: HeapTensor): void
  store(tensor: HeapTensor, data: HostTensor['data']): void
  copyOut(tensor: HeapTensor, spec: TensorSpec): HostTensor
  /** A copy of bytes, to be freed with `module._free`. */
  copyIn(bytes: Uint8Array): number
  /** A zero-terminated string, to be freed with `module._free`. */
  string(text: string): number
  /** Throws ONNX Runtime's own message when `status` says that a call failed. */
  check(status: number): void
}

export async function openWasmHeap(threads: number): Promise<WasmHeap> {
  let module: OnnxRuntimeWasm
  try {
    const { default: instantiate } = await import('onnxruntime-web/ort-wasm-simd-threaded.mjs')
    module = await instantiate({ numThreads: threads })
  } catch (cause) {
    throw new GroundswellError(`ONNX Runtime's WebAssembly module cannot be started: ${messageOf(cause)}`, {
      code: 'runtime/unavailable',
      remedy:
        threads > 1
          ? 'Try one thread: several need shared memory, which a page has only when it is cross-origin isolated.'
          : 'Run npm install again; a browser must support WebAssembly SIMD.',
      cause,
    })
  }
  const heap = heapOf(module)
  heap.check(module._OrtInit(threads, silent))
  return heap
}

function heapOf(module: OnnxRuntimeWasm): WasmHeap {
  /** Memory may have grown, also in another thread; reading through the module refreshes its views. */
  const bytesAt = (address: number, length: number): Uint8Array => {
    module.getValue(address, 'i8')
    return module.HEAPU8.subarray(address, address + length)
  }
  const claim = (bytes: number): number => {
    const address = module._malloc(Math.max(bytes, 4))
    if (address === 0) {
      throw new GroundswellError(
        `WebAssembly memory is full: ${bytes} more bytes were asked for, and the limit is 4 GiB in all.`,
        { code: 'runtime/memory', remedy: 'Use a smaller model or batch, or the cpu backend.' },
      )
    }
    return address
  }
  const check = (status: number): void => {
    if (status === 0) return
    const mark = module.stackSave()
    const address = module.stackAlloc(8)
    module._OrtGetLastError(address, address + 4)
    const message = module.UTF8ToString(module.getValue(address + 4, '*'))
    module.stackRestore(mark)
    throw new Error(message || `ONNX Runtime gave status ${status}`)
  }

  return {
    module,
    check,
    allocate: ({ shape, dtype }) => {
      const bytes = elementCount(shape) * bytesPerElement(dtype)
      const address = claim(bytes)
      const mark = module.stackSave()
      const dims = module.stackAlloc(Math.max(4 * shape.length, 4))
      for (const [i, size] of shape.entries()) module.setValue(dims + 4 * i, size, 'i32')
      const handle = module._OrtCreateTensor(elementType[dtype], address, bytes, dims, shape.length, onCpu)
      module.stackRestore(mark)
      if (handle === 0) {
        module._free(address)
        check(-1)
      }
      return { handle, address }
    },
    release: ({ handle, address }) => {
      module._OrtReleaseTensor(handle)
      module._free(address)
    },
    store: ({ address }, data) => {
      bytesAt(address, data.byteLength).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    },
    copyOut: ({ address }, spec) => {
      const data = hostBuffer(spec)
      new Uint8Array(data.buffer).set(bytesAt(address, data.byteLength))
      return { dtype: spec.dtype, shape: [...spec.shape], data }
    },
    copyIn: (bytes) => {
      const address = claim(bytes.byteLength)
      bytesAt(address, bytes.byteLength).set(bytes)
      return address
    },
    string: (text) => {
      const size = module.lengthBytesUTF8(text) + 1
      const address = claim(size)
      module.stringToUTF8(text, address, size)
      return address
    },
  }
}
