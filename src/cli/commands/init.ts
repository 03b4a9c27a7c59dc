/** `init`: writes a commented run file, and never over another. */
import { basename, extname } from 'node:path'
import type { InitCommandLine } from '../command-lines.ts'
import type { CommandContext } from '../context.ts'
import { usageError } from '../failures.ts'
import { runFileTemplate } from '../run-file-template.ts'

export async function init(context: CommandContext, file: string, options: InitCommandLine): Promise<void> {
  const { output, files } = context
  if (await files.exists(file)) {
    throw usageError('file-exists', `“${file}” is there already.`, 'Give another name, or remove it first.')
  }
  const name = basename(file, extname(file))
    .replace(/[^A-Za-z0-9._-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
  const text = runFileTemplate({ name: name.slice(0, 64) || 'run', data: options.data })
  await files.write(file, [new TextEncoder().encode(text)])
  output.line(`Wrote ${file}. Look it over, then: groundswell train ${file}`)
  output.event({ event: 'done', runFile: file })
}
