/** What peers exchange and how it is merged. */
export { type DilocoOptions, type DilocoState, type DilocoUpdate, diloco } from './diloco.ts'
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
export { createSyncMethod, type SyncSettings, syncSettingsSchema } from './settings.ts'
