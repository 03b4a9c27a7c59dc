/** Floor 1: runs emitted programs on ONNX Runtime and keeps their state where the computation is. */
export { type BackendReport, backendNames, type OpenBackendOptions, openBackend } from './open.ts'
export { type ProbeOptions, probeBackends } from './probe.ts'
export { type SelfTest, selfTest } from './self-test.ts'
export type { Backend, BackendName, Executable, HostTensor, Place, State } from './types.ts'
