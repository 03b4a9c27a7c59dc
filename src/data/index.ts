/** Floor 2: documents, held-out text, shards of tokens under a manifest, and batches that are a function of the step. */
export * from './batches.ts'
export * from './dataset.ts'
export * from './documents.ts'
export * from './held-out.ts'
export * from './manifest.ts'
