/** `export`: a checkpoint as a clean folder of the files that `transformers` reads, and nothing else. */
import { readCheckpoint, writeCheckpoint } from '../../model/index.ts'
import type { ExportCommandLine } from '../command-lines.ts'
import { absolute, type CommandContext } from '../context.ts'
import { checkRoom, cidOfFile } from '../disk.ts'
import { usageError } from '../failures.ts'
import { formatBytes } from '../format.ts'

export async function exportCheckpoint(
  context: CommandContext,
  folder: string,
  options: ExportCommandLine,
): Promise<void> {
  const { output, files, signal } = context
  const out = absolute(context, options.out)
  if (await files.exists(out)) {
    throw usageError('out-occupied', `“${out}” is there already.`, 'Name a new folder with --out.')
  }
  const checkpoint = await readCheckpoint(files, folder, { signal })
  const weights = Object.values(checkpoint.parameters).reduce((sum, { data }) => sum + data.byteLength, 0)
  await checkRoom(out, weights)
  await writeCheckpoint(files, out, checkpoint)
  const written = await files.list(out)
  for (const { path, sizeBytes } of written) output.line(`${formatBytes(sizeBytes).padStart(9)}  ${path}`)
  output.event({
    event: 'done',
    checkpoint: out,
    dtype: options.dtype,
    files: written,
    checkpointCid: await cidOfFile(`${out}/model.safetensors`),
  })
}
