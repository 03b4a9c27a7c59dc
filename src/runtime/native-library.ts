/**
 * ONNX Runtime's C interface, called in the shared library that onnxruntime-node brings along.
 *
 * onnxruntime-node's JavaScript interface (1.30) copies every output of a run into new JavaScript memory, also those
 * that were given a tensor to write to, and it runs on the calling thread. For a training step that means a copy of
 * all parameters and moments at each step and an event loop that stands still. The C interface has neither fault.
 * Its function table is an append-only promise: entries are never moved or removed
 * (https://github.com/microsoft/onnxruntime/blob/v1.30.0/onnxruntime/core/session/onnxruntime_c_api.cc, "DO NOT
 * MODIFY ABOVE"), so a position found once stays right.
 */
import type { CFunction, CType } from 'koffi'
import { GroundswellError, messageOf } from '../core/index.ts'
import { disableTelemetry } from './telemetry.ts'

/** An opaque C pointer. */
export type Handle = bigint & { readonly _: 'Handle' }

/** Position in `OrtApi`, and parameters; all of these return a status, null when all is well. */
const table = {
  CreateEnv: [3, ['int', 'str', 'out']],
  CreateSessionFromArray: [8, ['pointer', 'pointer', 'size_t', 'pointer', 'out']],
  Run: [9, ['pointer', 'pointer', 'strings', 'pointers', 'size_t', 'strings', 'size_t', 'pointers']],
  CreateSessionOptions: [10, ['out']],
  DisableMemPattern: [17, ['pointer']],
  SetSessionLogSeverityLevel: [22, ['pointer', 'int']],
  SetSessionGraphOptimizationLevel: [23, ['pointer', 'int']],
  SetIntraOpNumThreads: [24, ['pointer', 'int']],
  CreateTensorAsOrtValue: [48, ['pointer', 'dims', 'size_t', 'int', 'out']],
  GetTensorMutableData: [51, ['pointer', 'out']],
  GetAllocatorWithDefaultOptions: [78, ['out']],
  AddSessionConfigEntry: [130, ['pointer', 'str', 'str']],
} as const
const releases = { ReleaseSession: 95, ReleaseValue: 96, ReleaseSessionOptions: 100 } as const

type Parameter = (typeof table)[keyof typeof table][1][number]

export interface NativeLibrary {
  /** koffi closes a library when the object that stands for it is collected. */
  readonly held: unknown
  /** Calls a function of the table; its last parameter, where that is an `out`, is returned. */
  call(name: keyof typeof table, ...values: unknown[]): Handle
  /** The same on another thread. */
  callAsync(name: keyof typeof table, ...values: unknown[]): Promise<void>
  release(name: keyof typeof releases, handle: Handle): void
  /** The library's memory from an address on, without a copy. */
  view(address: Handle, length: number): Uint8Array
}

/** Loaded once and never let go: sessions, their threads and the environment live on in it. */
let loaded: Promise<NativeLibrary | undefined> | undefined

/** Undefined where koffi or the library is not there. */
export function loadNativeLibrary(): Promise<NativeLibrary | undefined> {
  loaded ??= load()
  return loaded
}

async function load(): Promise<NativeLibrary | undefined> {
  const path = libraryPath()
  if (path === undefined) return undefined
  const { default: koffi } = await import('koffi').catch(() => ({ default: undefined }))
  if (koffi === undefined) return undefined
  disableTelemetry()

  const types: Record<Parameter, CType> = {
    int: 'int',
    size_t: 'size_t',
    str: 'const char *',
    pointer: 'void *',
    out: koffi.out(koffi.pointer('void *')),
    strings: 'const char **',
    pointers: 'void **',
    dims: 'int64_t *',
  }
  let held: ReturnType<typeof koffi.load>
  let api: unknown
  try {
    held = koffi.load(path)
    const base = held.func('OrtGetApiBase', 'void *', [])()
    const getApi = koffi.decode(
      koffi.decode(base, 0, 'void *'),
      koffi.proto('void *', ['uint32_t']),
    ) as CFunction
    api = getApi(12)
  } catch (cause) {
    throw new GroundswellError(`ONNX Runtime's library cannot be loaded: ${messageOf(cause)}`, {
      code: 'runtime/unavailable',
      remedy: 'Run npm install again on this machine, or use the wasm backend, which needs no native code.',
      cause,
    })
  }
  const at = (position: number, result: CType, parameters: readonly CType[]): CFunction =>
    koffi.decode(koffi.decode(api, position * 8, 'void *'), koffi.proto(result, parameters)) as CFunction

  const errorMessage = at(2, 'const char *', ['void *'])
  const releaseStatus = at(93, 'void', ['void *'])
  const check = (status: unknown): void => {
    if (status === null) return
    const message = String(errorMessage(status))
    releaseStatus(status)
    throw new Error(message)
  }
  const functions = new Map(
    Object.entries(table).map(([name, [position, parameters]]) => [
      name,
      {
        call: at(
          position,
          'void *',
          parameters.map((parameter) => types[parameter]),
        ),
        hasOut: parameters.at(-1) === 'out',
      },
    ]),
  )
  const freeing = new Map(
    Object.entries(releases).map(([name, position]) => [name, at(position, 'void', ['void *'])]),
  )

  return {
    held,
    call: (name, ...values) => {
      const { call, hasOut } = functions.get(name)!
      const out: unknown[] = [null]
      check(call(...values, ...(hasOut ? [out] : [])))
      return out[0] as Handle
    },
    callAsync: (name, ...values) =>
      new Promise((resolve, reject) => {
        functions.get(name)!.call.async(...values, (failure: unknown, status: unknown) => {
          try {
            if (failure) throw failure
            check(status)
            resolve()
          } catch (error) {
            reject(error)
          }
        })
      }),
    release: (name, handle) => {
      freeing.get(name)!(handle)
    },
    view: (address, length) => new Uint8Array(koffi.view(address, length)),
  }
}

/** Where onnxruntime-node keeps its library for this machine. */
function libraryPath(): string | undefined {
  const { process } = globalThis
  if (typeof process?.platform !== 'string' || typeof import.meta.resolve !== 'function') return undefined
  const file = { linux: 'libonnxruntime.so.1', darwin: 'libonnxruntime.1.dylib', win32: 'onnxruntime.dll' }[
    process.platform as string
  ]
  if (file === undefined) return undefined
  try {
    const main = import.meta.resolve('onnxruntime-node')
    const url = new URL(`../bin/napi-v6/${process.platform}/${process.arch}/${file}`, main)
    const path = decodeURIComponent(url.pathname)
    return process.platform === 'win32' ? path.slice(1) : path
  } catch {
    return undefined
  }
}
