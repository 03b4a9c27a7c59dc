/**
 * Opening a backend by name, or the fastest one that passes its self-test, and saying which ones work here and why
 * the others do not.
 */
import { GroundswellError, messageOf } from '../core/index.ts'
import { backendOver } from './backend.ts'
import { nativeEngine } from './native-engine.ts'
import { loadNativeLibrary } from './native-library.ts'
import { nodeEngine } from './node-engine.ts'
import { selfTest } from './self-test.ts'
import { type Backend, type BackendName, maxThreads } from './types.ts'
import { wasmEngine } from './wasm-engine.ts'
import { webgpuEngine } from './webgpu-engine.ts'

export interface OpenBackendOptions {
  readonly name: BackendName | 'auto'
  /** For `cpu` and `wasm`; as many as there are processors unless given. */
  readonly threads?: number
  /**
   * Whether threads of `cpu` and `cuda` spin while they wait for work: 10-30 % faster on a machine that does nothing
   * else, and much slower where several processes share its cores. True unless given.
   */
  readonly spin?: boolean
  /**
   * Tests a backend somewhere else, in a child process for instance: a broken graphics driver can end the process
   * that touches it, and Vulkan's loader writes to its stderr. Where it is given, a graphics backend is opened only
   * after it has passed there.
   */
  readonly probe?: (name: BackendName) => Promise<BackendReport>
}

export interface BackendReport {
  readonly name: BackendName
  readonly available: boolean
  /** Why not, in one line. */
  readonly reason?: string
  /** What to do about it, or what is known of the backend. */
  readonly detail: string
  readonly selfTestMs?: number
}

/** In the order of their expected speed. */
export const backendNames: readonly BackendName[] = ['cuda', 'webgpu', 'cpu', 'wasm']

/** @throws GroundswellError `runtime/unavailable`, `runtime/threads` */
export async function openBackend(options: OpenBackendOptions): Promise<Backend> {
  const { name, probe } = options
  if (name === 'auto') return openFastest(options)
  const settings = settingsOf(options)
  if (probe !== undefined && isGraphics(name)) {
    const { available, reason = 'Not available.', detail } = await probe(name)
    if (!available) {
      throw new GroundswellError(`The ${name} backend does not work here: ${reason}`, {
        code: 'runtime/unavailable',
        remedy: [detail.replace(/\.?$/, '.'), 'Or choose “auto”, which takes what works.'].join(' '),
      })
    }
  }
  return openNamed(name, settings)
}

/** Whether it computes on a device of its own, with a driver that may be broken. */
export function isGraphics(name: BackendName): boolean {
  return name === 'cuda' || name === 'webgpu'
}

interface Settings {
  readonly threads: number
  readonly spin: boolean
}

function settingsOf({ threads, spin = true }: Omit<OpenBackendOptions, 'name'>): Settings {
  if (threads === undefined) {
    return { threads: Math.max(1, globalThis.navigator?.hardwareConcurrency ?? 1), spin }
  }
  if (!Number.isInteger(threads) || threads < 1 || threads > maxThreads) {
    throw new GroundswellError(`${threads} is no number of threads.`, {
      code: 'runtime/threads',
      remedy: `Give a whole number from 1 to ${maxThreads}.`,
    })
  }
  return { threads, spin }
}

async function openNamed(name: BackendName, settings: Settings): Promise<Backend> {
  switch (name) {
    case 'cpu': {
      const library = await loadNativeLibrary()
      if (library !== undefined) return backendOver(nativeEngine(library, settings))
      return backendOver(await nodeEngine('cpu', settings))
    }
    case 'cuda':
      return backendOver(await nodeEngine('cuda', settings))
    case 'webgpu':
      return backendOver(await webgpuEngine())
    case 'wasm':
      return backendOver(await wasmEngine(settings.threads))
    default:
      throw new GroundswellError(`There is no backend “${String(name satisfies never)}”.`, {
        code: 'runtime/unavailable',
        remedy: `Choose one of ${backendNames.join(', ')} or auto.`,
      })
  }
}

/**
 * The CPU is measured first, because it is nearly always there; a graphics backend has to beat it. WebAssembly is
 * never faster than native code, so it is opened only where nothing else works.
 */
async function openFastest(options: OpenBackendOptions): Promise<Backend> {
  const settings = settingsOf(options)
  const refusals: string[] = []
  let best: { backend: Backend; ms: number } | undefined
  for (const name of ['cpu', 'cuda', 'webgpu', 'wasm'] as const) {
    if (name === 'wasm' && best !== undefined) break
    const limit = best?.ms ?? Number.POSITIVE_INFINITY
    let backend: Backend | undefined
    try {
      if (options.probe !== undefined && isGraphics(name)) {
        const report = await options.probe(name)
        if (!report.available) throw new Error(report.reason)
        if ((report.selfTestMs ?? 0) > limit) continue
      }
      backend = await openNamed(name, settings)
      const { selfTestMs } = await selfTest(backend, limit)
      if (selfTestMs < limit) {
        await best?.backend[Symbol.asyncDispose]()
        best = { backend, ms: selfTestMs }
      } else {
        await backend[Symbol.asyncDispose]()
      }
    } catch (failure) {
      await backend?.[Symbol.asyncDispose]()
      refusals.push(`${name}: ${messageOf(failure)}`)
    }
  }
  if (best === undefined) {
    throw new GroundswellError(`No backend works here. ${refusals.join(' ')}`, {
      code: 'runtime/unavailable',
      remedy: 'Run npm install again on this machine.',
    })
  }
  return best.backend
}
