/** Loading of `onnxruntime-node`, which the CUDA and WebGPU backends run on, and the CPU where koffi does not load. */
import { GroundswellError, messageOf } from '../core/index.ts'
import { disableTelemetry } from './telemetry.ts'

export type OnnxRuntimeNode = typeof import('onnxruntime-node')

/** The native package is optional equipment: a tab or an unusual platform does without it. */
export async function loadOnnxRuntimeNode(): Promise<OnnxRuntimeNode> {
  disableTelemetry()
  try {
    const ort = await import('onnxruntime-node')
    // Its own log lines go to stderr past every caller; whatever matters arrives as an exception as well.
    ort.env.logLevel = 'fatal'
    return ort
  } catch (cause) {
    throw new GroundswellError(`onnxruntime-node cannot be loaded here: ${messageOf(cause)}`, {
      code: 'runtime/unavailable',
      remedy: 'Run npm install again on this machine, or use the wasm backend, which needs no native code.',
      cause,
    })
  }
}
