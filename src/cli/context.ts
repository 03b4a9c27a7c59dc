/**
 * What every command is given: where to speak, when to stop, and the files of this machine. Commands take nothing
 * from the process itself, so that a test can run one without starting another.
 */
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { type Files, messageOf } from '../core/index.ts'
import { usageError } from './failures.ts'
import type { Output } from './output.ts'
import { parseRunFile, type RunOverrides } from './run-file.ts'
import type { RunFile } from './run-file-schema.ts'

export interface CommandContext {
  readonly output: Output
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
  readonly files: Files
  /** Folder that relative paths of the command line start from. */
  readonly workingFolder: string
}

const maxRunFileBytes = 1_000_000

/** Reads the run file of a command line; its own relative paths start from the folder it lies in. */
export async function loadRunFile(
  context: CommandContext,
  path: string,
  overrides: RunOverrides,
): Promise<RunFile> {
  const entry = (await context.files.list(path))[0]
  if (entry === undefined || entry.path !== path) {
    throw usageError(
      'run-file',
      `“${path}” is not a run file.`,
      'Give a YAML file; “groundswell init” writes one.',
    )
  }
  if (entry.sizeBytes > maxRunFileBytes) {
    throw usageError('run-file', `“${path}” is too large for a run file.`, 'Give a YAML file of settings.')
  }
  const run = parseRunFile(decode(await context.files.read(path), path), path, overrides)
  const from = (given: string | undefined, option: string | undefined): string | undefined => {
    if (given === undefined || option !== undefined || isAbsolute(given)) return given
    return join(dirname(path), given)
  }
  return {
    ...run,
    data: { ...run.data, path: from(run.data.path, overrides.data) },
    model: { ...run.model, checkpoint: from(run.model.checkpoint, undefined) },
    out: from(run.out, overrides.out) ?? join('checkpoints', run.run.name),
  }
}

function decode(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (thrown) {
    throw usageError('run-file', `“${path}” is not UTF-8 text: ${messageOf(thrown)}.`, 'Give a YAML file.')
  }
}

/** A path as it is shown to people: what they typed, made absolute so that it can be found again. */
export function absolute(context: CommandContext, path: string): string {
  return resolve(context.workingFolder, path)
}
