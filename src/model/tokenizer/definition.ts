/**
 * What a byte-level byte-pair tokenizer is made of, apart from any way to run it.
 */
import type { WordPattern } from './pretokenise.ts'

/** A piece of text that has an id of its own and is never made by merging. */
export interface AddedToken {
  readonly id: number
  readonly content: string
  /** Special tokens steer the model (where a text ends, who speaks) and are left out of decoded text. */
  readonly special: boolean
  /** Looked for in a second pass, after the others. Without a normalizer that is all it means. */
  readonly normalized: boolean
}

/** How numbers are cut out before the word pattern applies: not at all, as wholes, or digit by digit. */
export type DigitSplit = 'together' | 'apart' | 'one-by-one'

export interface TokenizerDefinition {
  /** Ids of tokens, written in the byte alphabet; holds every one of the 256 bytes. */
  readonly tokens: ReadonlyMap<string, number>
  /** Rows of left, right and result by rank: the lowest rank merges first. No pair occurs twice. */
  readonly merges: Int32Array
  readonly pattern: WordPattern
  readonly digits: DigitSplit
  /** A word that is itself a token is taken whole, even if no sequence of merges leads to it. */
  readonly ignoreMerges: boolean
  readonly addedTokens: readonly AddedToken[]
  /** Ids put before and behind every text. */
  readonly prefix: readonly number[]
  readonly suffix: readonly number[]
}

/** Begins and ends documents in the vocabularies trained here, as in GPT-2's. */
export const endOfText = '<|endoftext|>'
