/**
 * How likely a model finds a text: the log-probability of every token given those before it, and bits per byte, which
 * compares models whatever their tokens are.
 *
 * A text longer than the model's context is read in windows that overlap. A token is scored once, in the window that
 * gives it the most context: every window after the first scores its last `stride` tokens, so each of those sees at least
 * `windowLength − stride` tokens before it (the sliding window of
 * https://huggingface.co/docs/transformers/perplexity).
 */
import { GroundswellError, throwIfAborted } from '../core/index.ts'
import type { Backend } from '../runtime/index.ts'
import { emitOnnx } from '../tensor/index.ts'
import type { LlamaConfig } from './config.ts'
import { checkTokens, decodeProgram, decodeState } from './decode.ts'
import type { Parameters } from './parameters.ts'
import { spareColumns } from './row-strides.ts'
import type { Tokenizer } from './tokenizer/index.ts'

export interface ScoreOptions {
  readonly backend: Backend
  readonly model: { readonly config: LlamaConfig; readonly parameters: Parameters }
  /** Tokens seen at once. Default: the model's `maxPositionEmbeddings`. */
  readonly windowLength?: number
  /** Tokens scored per window after the first. Default: half the window. */
  readonly stride?: number
  readonly signal?: AbortSignal
  /** Called after every run with the number of tokens scored so far. */
  readonly onProgress?: (scored: number) => void
}

export interface TextScore {
  readonly tokens: number[]
  /** Natural logarithms; null for the first token, which nothing precedes. */
  readonly logprobs: (number | null)[]
  /**
   * −Σ log₂ p over the tokens that were predicted, divided by the bytes of text that these stand for; so the first
   * token counts on neither side. Null when nothing was predicted.
   */
  readonly bitsPerByte: number | null
  /** The bytes divided by. */
  readonly bytes: number
}

/** Scores a text as `tokenizer` encodes it, with the special tokens that it puts around every text. */
export async function scoreText(
  options: ScoreOptions & { readonly tokenizer: Tokenizer; readonly text: string },
): Promise<TextScore> {
  const { tokenizer, text } = options
  const tokens = Array.from(tokenizer.encode(text))
  if (tokens.length === 0) {
    throw new GroundswellError('There is nothing to score: the text is empty.', {
      code: 'score/empty',
      remedy: 'Give a text of at least one character.',
    })
  }
  const logprobs = await score({ ...options, tokens })
  const special = new Set(tokenizer.specialTokens.values())
  let bits = 0
  let bytes = 0
  for (const [i, token] of tokens.entries()) {
    const logprob = logprobs[i]
    if (logprob === null || logprob === undefined || special.has(token)) continue
    bits -= logprob / Math.LN2
    bytes += tokenizer.tokenBytes(token).byteLength
  }
  return { tokens, logprobs, bitsPerByte: bytes === 0 ? null : bits / bytes, bytes }
}

/** The log-probability of each token given those before it in its window; null for the first. */
export async function score(
  options: ScoreOptions & { readonly tokens: ArrayLike<number> },
): Promise<(number | null)[]> {
  const { backend, model, signal, onProgress } = options
  const { config, parameters } = model
  const tokens = checkTokens(options.tokens, config)
  const logprobs = new Array<number | null>(tokens.length).fill(null)
  if (tokens.length < 2) return logprobs
  const windowLength = options.windowLength ?? config.maxPositionEmbeddings
  const stride = options.stride ?? Math.max(1, Math.floor(windowLength / 2))
  const windows = scoringWindows(tokens.length, windowLength, stride)

  // Of the last token of a window nothing is asked, so it is not read.
  const { dialect, place } = backend
  const needed = roundUp(Math.min(windowLength, tokens.length) - 1)
  const contextLength = needed + spareColumns(needed, place)
  const blockLength = Math.min(256, contextLength)
  const state = await backend.createState(decodeState(config, parameters, { contextLength, place }))
  try {
    const program = decodeProgram({ config, contextLength, blockLength, output: 'logprobs', place })
    const executable = await backend.compile(emitOnnx(program, { dialect }))
    try {
      for (const { start, scoredFrom, end } of windows) {
        for (let at = start; at < end - 1; at += blockLength) {
          throwIfAborted(signal)
          const until = Math.min(at + blockLength, end - 1)
          const outputs = await executable.run(state, {
            tokens: block(tokens.subarray(at, until), blockLength),
            targets: block(tokens.subarray(at + 1, until + 1), blockLength),
            position: { dtype: 'int32', shape: [], data: Int32Array.of(at - start) },
          })
          const found = outputs.logprobs!.data
          for (let i = at; i < until; i++) if (i + 1 >= scoredFrom) logprobs[i + 1] = finite(found[i - at]!)
          if (until + 1 > scoredFrom) onProgress?.(until + 1)
        }
      }
    } finally {
      await executable[Symbol.asyncDispose]()
    }
  } finally {
    await state[Symbol.asyncDispose]()
  }
  return logprobs
}

/** Tokens [start, end) of a text, of which [scoredFrom, end) are scored. */
export interface ScoringWindow {
  readonly start: number
  readonly scoredFrom: number
  readonly end: number
}

/**
 * Cuts `length` tokens into windows; see the head of this file.
 * @throws GroundswellError `score/settings` when the stride leaves no context
 */
export function scoringWindows(length: number, windowLength: number, stride: number): ScoringWindow[] {
  const whole = Number.isSafeInteger(windowLength) && Number.isSafeInteger(stride)
  if (!whole || windowLength < 2 || stride < 1 || stride >= windowLength) {
    throw new GroundswellError(`Windows of ${windowLength} tokens cannot advance by ${stride}.`, {
      code: 'score/settings',
      remedy:
        'Choose a window of 2 tokens or more and a stride of at least 1 that is smaller than the window.',
    })
  }
  const windows: ScoringWindow[] = [{ start: 0, scoredFrom: 1, end: Math.min(windowLength, length) }]
  for (let scored = windowLength; scored < length; scored += stride) {
    const end = Math.min(scored + stride, length)
    windows.push({ start: end - windowLength, scoredFrom: scored, end })
  }
  return windows
}

/** Tokens padded at the end, where causal attention never looks back from. */
function block(
  tokens: Int32Array,
  blockLength: number,
): { dtype: 'int32'; shape: number[]; data: Int32Array } {
  const data = new Int32Array(blockLength)
  data.set(tokens)
  return { dtype: 'int32', shape: [blockLength], data }
}

function roundUp(length: number): number {
  return Math.ceil(length / 32) * 32
}

function finite(logprob: number): number {
  if (Number.isFinite(logprob)) return logprob
  throw new GroundswellError('The model gives log-probabilities that are not finite.', {
    code: 'model/not-finite',
    remedy: 'The checkpoint has diverged or is damaged; use an earlier one.',
  })
}
