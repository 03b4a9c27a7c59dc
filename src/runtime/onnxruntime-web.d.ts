/** The part of ONNX Runtime's WebAssembly build that `wasm-heap.ts` and `wasm-engine.ts` call. */
declare module 'onnxruntime-web/ort-wasm-simd-threaded.mjs' {
  /** Addresses and handles are numbers in the module's own 32-bit memory; 0 is null. */
  export interface OnnxRuntimeWasm {
    readonly HEAPU8: Uint8Array
    _malloc(size: number): number
    _free(address: number): void
    stackSave(): number
    stackRestore(mark: number): void
    stackAlloc(size: number): number
    getValue(address: number, type: 'i8' | 'i32' | '*'): number
    setValue(address: number, value: number, type: 'i32' | '*'): void
    UTF8ToString(address: number): string
    stringToUTF8(text: string, address: number, maxBytes: number): void
    lengthBytesUTF8(text: string): number

    _OrtInit(threads: number, logLevel: number): number
    _OrtGetLastError(codeAddress: number, messageAddress: number): number
    _OrtCreateSessionOptions(
      graphOptimisation: number,
      memoryArena: boolean,
      memoryPattern: boolean,
      executionMode: number,
      profiling: boolean,
      profilePrefix: number,
      logId: number,
      logSeverity: number,
      logVerbosity: number,
      optimisedModelPath: number,
    ): number
    _OrtAddSessionConfigEntry(options: number, key: number, value: number): number
    _OrtReleaseSessionOptions(options: number): number
    _OrtCreateSession(model: number, size: number, options: number): number
    _OrtReleaseSession(session: number): number
    _OrtCreateTensor(
      type: number,
      data: number,
      bytes: number,
      dims: number,
      rank: number,
      location: number,
    ): number
    _OrtReleaseTensor(tensor: number): number
    _OrtCreateRunOptions(severity: number, verbosity: number, terminate: boolean, tag: number): number
    _OrtReleaseRunOptions(options: number): number
    _OrtRun(
      session: number,
      inputNames: number,
      inputs: number,
      inputCount: number,
      outputNames: number,
      outputCount: number,
      outputs: number,
      runOptions: number,
    ): number
  }
  export default function instantiate(settings: { numThreads: number }): Promise<OnnxRuntimeWasm>
}
