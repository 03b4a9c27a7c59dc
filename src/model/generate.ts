/**
 * Continuing a text: the prompt goes through the model in blocks, then token after token is drawn and fed back, with
 * keys and values of what came before kept on the backend (see decode.ts).
 */
import { GroundswellError, type Random, throwIfAborted } from '../core/index.ts'
import type { Backend, Executable, State } from '../runtime/index.ts'
import { emitOnnx } from '../tensor/index.ts'
import type { LlamaConfig } from './config.ts'
import { checkTokens, decodeProgram, decodeState } from './decode.ts'
import type { Parameters } from './parameters.ts'
import { spareColumns } from './row-strides.ts'
import { checkSampling, logSumExp, type SamplingSettings, sample } from './sampling.ts'

export interface GenerateOptions {
  readonly backend: Backend
  readonly model: { readonly config: LlamaConfig; readonly parameters: Parameters }
  /** Token ids, at least one. Of a prompt that does not fit the context its end is used. */
  readonly prompt: ArrayLike<number>
  readonly maxTokens: number
  readonly sampling?: SamplingSettings
  readonly random: Random
  /** Tokens that end the text; they are not part of it. */
  readonly stopTokens?: readonly number[]
  /**
   * Tokens that the model looks back at. Default: what prompt and continuation need, at most the model's
   * `maxPositionEmbeddings`. When it is full, the newer half is read again as the beginning of a new context.
   */
  readonly contextLength?: number
  readonly signal?: AbortSignal
}

export interface GeneratedToken {
  readonly token: number
  /** Natural logarithm of its probability under the model, before temperature, top-k and top-p. */
  readonly logprob: number
}

/** Tokens of a prompt that one run takes in. */
const promptBlock = 64

/** Yields the tokens that follow the prompt, as they are drawn. */
export async function* generate(options: GenerateOptions): AsyncGenerator<GeneratedToken, void, undefined> {
  const { backend, model, maxTokens, random, signal } = options
  const { config } = model
  const sampling = checkSampling(options.sampling ?? {})
  const stops = new Set(options.stopTokens)
  const history = [...checkTokens(options.prompt, config)]
  if (history.length === 0) {
    throw new GroundswellError('There is nothing to continue: the prompt has no tokens.', {
      code: 'generate/empty-prompt',
      remedy: 'Give a prompt of at least one character.',
    })
  }
  const contextLength = contextLengthFor(config, history.length + maxTokens, options.contextLength)

  const decoder = await openDecoder(backend, model, contextLength)
  try {
    let cached = 0 // tokens of `history`, from `start`, that the cache holds
    let start = Math.max(0, history.length - contextLength)
    for (let count = 0; count < maxTokens; count++) {
      throwIfAborted(signal)
      if (history.length - start > contextLength) {
        start = history.length - Math.ceil(contextLength / 2)
        cached = 0
      }
      const logits = await decoder.read(history.slice(start + cached), cached, signal)
      cached = history.length - start
      const token = sample(logits, { ...sampling, random })
      if (stops.has(token)) return
      yield { token, logprob: logits[token]! - logSumExp(logits) }
      history.push(token)
    }
  } finally {
    await decoder.close()
  }
}

/** The smallest multiple of 32 that holds everything, within what the model was made for. */
function contextLengthFor(config: LlamaConfig, needed: number, wanted: number | undefined): number {
  if (wanted !== undefined) {
    if (!Number.isSafeInteger(wanted) || wanted < 2) {
      throw new GroundswellError(`A context of ${wanted} tokens is too short to continue anything.`, {
        code: 'generate/settings',
        remedy: 'Choose a context length of 2 or more.',
      })
    }
    return wanted
  }
  return Math.min(config.maxPositionEmbeddings, Math.ceil(needed / 32) * 32)
}

/** The decode programs and their state on a backend. */
interface Decoder {
  /** Takes in tokens from `position` on and gives the logits after the last. */
  read(tokens: readonly number[], position: number, signal: AbortSignal | undefined): Promise<Float32Array>
  close(): Promise<void>
}

async function openDecoder(
  backend: Backend,
  { config, parameters }: GenerateOptions['model'],
  needed: number,
): Promise<Decoder> {
  const { dialect, place } = backend
  const contextLength = needed + spareColumns(needed, place)
  const state: State = await backend.createState(decodeState(config, parameters, { contextLength, place }))
  const compiled = new Map<number, Executable>()
  const programOf = async (blockLength: number): Promise<Executable> => {
    let executable = compiled.get(blockLength)
    if (executable === undefined) {
      const program = decodeProgram({ config, contextLength, blockLength, output: 'logits', place })
      executable = await backend.compile(emitOnnx(program, { dialect }))
      compiled.set(blockLength, executable)
    }
    return executable
  }
  return {
    read: async (tokens, position, signal) => {
      let logits: Float32Array | undefined
      for (let at = 0; at < tokens.length; ) {
        throwIfAborted(signal)
        const blockLength = tokens.length - at === 1 ? 1 : promptBlock
        const block = tokens.slice(at, at + blockLength)
        const padded = new Int32Array(blockLength)
        padded.set(block)
        const outputs = await (await programOf(blockLength)).run(state, {
          tokens: { dtype: 'int32', shape: [blockLength], data: padded },
          position: { dtype: 'int32', shape: [], data: Int32Array.of(position + at) },
          last: { dtype: 'int32', shape: [1], data: Int32Array.of(block.length - 1) },
        })
        at += block.length
        logits = outputs.logits!.data as Float32Array
      }
      return logits!
    },
    close: async () => {
      for (const executable of compiled.values()) await executable[Symbol.asyncDispose]()
      await state[Symbol.asyncDispose]()
    },
  }
}
