/** Floor 1: runs emitted programs on ONNX Runtime and keeps their state where the computation is. */
export { type BackendReport, backendNames, isGraphics, type OpenBackendOptions, openBackend } from './open.ts'
export { type ProbeOptions, probeBackends } from './probe.ts'
export { type SelfTest, selfTest } from './self-test.ts'
export {
  type Backend,
  type BackendName,
  type Executable,
  type HostTensor,
  maxThreads,
  type Place,
  type State,
} from './types.ts'
