/** What peers exchange and how it is merged. */
export {
  type DataParallelOptions,
  type DataParallelState,
  type DataParallelUpdate,
  dataParallel,
} from './data-parallel.ts'
export { decoupled } from './decoupled.ts'
export {
  type DemoLocal,
  type DemoOptions,
  type DemoState,
  type DemoUpdate,
  demo,
  distro,
} from './demo.ts'
export {
  type DilocoLocal,
  type DilocoOptions,
  type DilocoState,
  type DilocoUpdate,
  diloco,
} from './diloco.ts'
export type { EncodingName } from './encodings.ts'
export {
  type Contribution,
  type EncodeInput,
  type MergeContext,
  pseudoGradient,
  type SyncMethod,
  type TensorEntry,
  type TensorLayout,
} from './method.ts'
export { muloco } from './muloco.ts'
export {
  gossipGroups,
  type NolocoOptions,
  type NolocoState,
  type NolocoUpdate,
  noloco,
} from './noloco.ts'
export {
  createSyncMethod,
  type DataParallelSettings,
  type DecoupledSettings,
  type DemoSettings,
  type DilocoSettings,
  type DistroSettings,
  type MulocoSettings,
  type NolocoSettings,
  type SparseLocoSettings,
  type StreamingDilocoSettings,
  type SyncSettings,
  syncSettingsSchema,
} from './settings.ts'
export {
  type SparseLocoLocal,
  type SparseLocoOptions,
  type SparseLocoState,
  type SparseLocoUpdate,
  sparseLoco,
} from './sparse-loco.ts'
export {
  type StreamingDilocoOptions,
  type StreamingDilocoState,
  type StreamingDilocoUpdate,
  streamingDiloco,
} from './streaming-diloco.ts'
