/**
 * Floor 2: Llama models: their shape, their parameters, the files they are kept in, and what can be asked of them.
 */
export * from './checkpoint.ts'
export * from './config.ts'
export * from './generate.ts'
export * from './generation-config.ts'
export * from './llama.ts'
export * from './parameters.ts'
export * from './row-strides.ts'
export * from './safetensors.ts'
export * from './sampling.ts'
export * from './score.ts'
export * from './tokenizer/index.ts'
