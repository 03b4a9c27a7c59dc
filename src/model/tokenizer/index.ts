/** Text to tokens and back: byte-level byte-pair encoding in the files of Hugging Face's `tokenizers`. */
export * from './byte-tokenizer.ts'
export type { AddedToken, DigitSplit, TokenizerDefinition } from './definition.ts'
export { endOfText } from './definition.ts'
export type { WordPattern } from './pretokenise.ts'
export * from './tokenizer.ts'
export * from './tokenizer-json.ts'
export * from './train.ts'
