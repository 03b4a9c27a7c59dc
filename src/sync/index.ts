/** What peers exchange and how it is merged. */
export { type DilocoOptions, type DilocoState, type DilocoUpdate, diloco } from './diloco.ts'
export type { EncodingName } from './encodings.ts'
export { type Contribution, pseudoGradient, type SyncMethod, type TensorLayout } from './method.ts'
export { createSyncMethod, type SyncSettings, syncSettingsSchema } from './settings.ts'
