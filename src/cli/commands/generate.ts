/** `generate`: continues a text, showing it as it comes. */
import { seededRandom } from '../../core/index.ts'
import { generate, readCheckpoint } from '../../model/index.ts'
import { openChosenBackend } from '../backend.ts'
import type { GenerateCommandLine } from '../command-lines.ts'
import type { CommandContext } from '../context.ts'
import { formatCount, printable } from '../format.ts'

export async function generateText(
  context: CommandContext,
  folder: string,
  prompt: string,
  options: GenerateCommandLine,
): Promise<void> {
  const { output, files, signal } = context
  const { config, parameters, tokenizer, generationConfig } = await readCheckpoint(files, folder, { signal })
  await using backend = await openChosenBackend(options, signal)
  const ids = tokenizer.encode(prompt)
  const stream = tokenizer.decodeStream()
  const tokens: number[] = []
  let text = ''
  const say = (piece: string): void => {
    text += piece
    output.text(printable(piece))
  }
  output.text(printable(prompt))
  const started = performance.now()
  const drawn = generate({
    backend,
    model: { config, parameters },
    // Nothing to go on is the beginning of a document.
    prompt: ids.length > 0 ? ids : [tokenizer.endOfTextId],
    maxTokens: options.tokens,
    sampling: {
      temperature: options.temperature,
      ...(options.topK === undefined ? {} : { topK: options.topK }),
      ...(options.topP === undefined ? {} : { topP: options.topP }),
    },
    random: seededRandom('generate', options.seed),
    stopTokens: generationConfig.eosTokenIds,
    signal,
  })
  for await (const { token, logprob } of drawn) {
    tokens.push(token)
    const piece = stream.push(token)
    say(piece)
    output.event({ event: 'token', token, logprob, text: piece })
  }
  say(stream.end())
  const seconds = (performance.now() - started) / 1000
  output.text('\n')
  const tokensPerSecond = tokens.length / seconds
  if (output.interactive) output.note(`${tokens.length} tokens, ${formatCount(tokensPerSecond)} tokens/s`)
  output.event({ event: 'done', prompt, text, tokens, tokensPerSecond, backend: backend.name })
}
