/** `score`: how likely a model finds a text, token by token and in bits per byte. */
import { readCheckpoint, scoreText as score } from '../../model/index.ts'
import { openChosenBackend } from '../backend.ts'
import type { ScoreCommandLine } from '../command-lines.ts'
import type { CommandContext } from '../context.ts'
import { usageError } from '../failures.ts'
import { formatTable } from '../format.ts'
import { createProgress } from '../progress.ts'

/** Texts of more tokens are summed up; `--json` always gives every token. */
const maxTokensShown = 400

export async function scoreText(
  context: CommandContext,
  folder: string,
  options: ScoreCommandLine,
): Promise<void> {
  const { output, files, signal } = context
  if ((options.text === undefined) === (options.file === undefined)) {
    throw usageError('command-line', 'Score takes either --text or --file.', 'Give one of the two.')
  }
  const text = options.text ?? (await readText(context, options.file!))
  const { config, parameters, tokenizer } = await readCheckpoint(files, folder, { signal })
  await using backend = await openChosenBackend(options, signal)
  const total = tokenizer.encode(text).length
  const progress = createProgress(output, { total, unit: 'token', now: () => performance.now() })
  const { tokens, logprobs, bitsPerByte, bytes } = await score({
    backend,
    model: { config, parameters },
    tokenizer,
    text,
    signal,
    onProgress: (scored) => {
      if (output.interactive) progress.update(Math.min(scored, total), '')
    },
  })
  if (output.interactive) progress.finish()
  const predicted = logprobs.filter((logprob) => logprob !== null)
  const mean = predicted.reduce((sum, logprob) => sum + logprob, 0) / predicted.length
  if (tokens.length <= maxTokensShown) {
    const rows = tokens.map((token, i) => [
      String(token),
      logprobs[i]?.toFixed(4) ?? '–',
      JSON.stringify(tokenizer.decode([token], { skipSpecialTokens: false })),
    ])
    for (const line of formatTable([['token', 'log p', 'text'], ...rows], new Set([0, 1]))) output.line(line)
  }
  output.line(
    `${tokens.length} tokens, ${bytes} bytes scored: ` +
      (bitsPerByte === null
        ? 'nothing precedes a single token, so there is nothing to predict'
        : `${bitsPerByte.toFixed(4)} bits per byte, perplexity ${Math.exp(-mean).toFixed(2)} per token`),
  )
  output.event({ event: 'done', tokens, logprobs, bitsPerByte, bytes, backend: backend.name })
}

async function readText({ files }: CommandContext, path: string): Promise<string> {
  const bytes = await files.read(path)
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw usageError('not-text', `“${path}” is not UTF-8 text.`, 'Give a text file.')
  }
}
