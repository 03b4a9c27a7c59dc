/**
 * Which backends work on this machine, and of the others why not and what to do: the material of `doctor`.
 */
import { GroundswellError, messageOf } from '../core/index.ts'
import { loadNativeLibrary } from './native-library.ts'
import { type BackendReport, backendNames, openBackend } from './open.ts'
import { selfTest } from './self-test.ts'
import type { BackendName } from './types.ts'

export interface ProbeOptions {
  readonly names?: readonly BackendName[]
  readonly threads?: number
}

/** Opens each backend in turn and runs the self-test. */
export async function probeBackends({
  names = backendNames,
  threads,
}: ProbeOptions = {}): Promise<BackendReport[]> {
  const reports: BackendReport[] = []
  for (const name of names) reports.push(await probe(name, threads))
  return reports
}

async function probe(name: BackendName, threads: number | undefined): Promise<BackendReport> {
  try {
    await using backend = await openBackend({ name, ...(threads === undefined ? {} : { threads }) })
    // A software adapter needs seconds for what others do in milliseconds; there is no point in timing it closely.
    const { selfTestMs } = await selfTest(backend, 500)
    return { name, available: true, detail: await describe(name, backend.threads, selfTestMs), selfTestMs }
  } catch (failure) {
    return { name, available: false, ...explain(name, failure) }
  }
}

async function describe(name: BackendName, threads: number, selfTestMs: number): Promise<string> {
  const threadCount = `${threads} thread${threads === 1 ? '' : 's'}`
  switch (name) {
    case 'cpu':
      return (await loadNativeLibrary()) === undefined
        ? `${threadCount}; koffi does not load here, so each step copies its state`
        : threadCount
    case 'wasm':
      return `${threadCount}; the same bits on every machine`
    case 'cuda':
      return 'state crosses the bus at each step'
    case 'webgpu':
      return selfTestMs > 500
        ? 'a software adapter: correct, but far slower than the CPU'
        : 'a graphics adapter'
    default:
      return name satisfies never
  }
}

function explain(name: BackendName, failure: unknown): { reason: string; detail: string } {
  // The first line holds the cause; what follows is source positions in ONNX Runtime.
  const message = messageOf(failure)
  if (name === 'webgpu' && /adapter/i.test(message)) {
    return {
      reason: 'No graphics adapter that WebGPU can use.',
      detail:
        'On Linux, install libvulkan1 and the Vulkan driver of the graphics card; elsewhere, update the driver.',
    }
  }
  if (name === 'cuda' && /shared library|unsupported|not supported|CUDA/i.test(message)) {
    return {
      reason: 'ONNX Runtime’s CUDA libraries are not installed, or the NVIDIA driver is missing.',
      detail:
        'On Linux x64 with CUDA 12 and cuDNN 9: set ONNXRUNTIME_NODE_INSTALL=true in the environment and run ' +
        'node node_modules/onnxruntime-node/script/install.js',
    }
  }
  const remedy = failure instanceof GroundswellError ? failure.remedy : undefined
  return { reason: message.split('\n')[0]!, detail: remedy ?? 'Run npm install again on this machine.' }
}
