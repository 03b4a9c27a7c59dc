/**
 * Opening the backend that a command line or a run file names. Graphics backends are tried in a child process first:
 * a broken driver can end the process that touches it, and some write to its standard error.
 */
import { type Backend, type BackendName, type BackendReport, openBackend } from '../runtime/index.ts'
import { runChild } from './children.ts'

export async function openChosenBackend(
  options: { readonly backend: string; readonly threads: number },
  signal: AbortSignal,
): Promise<Backend> {
  let reports: Promise<readonly BackendReport[]> | undefined
  return openBackend({
    name: options.backend as BackendName | 'auto', // one of the choices that the command line allows
    ...(options.threads === 0 ? {} : { threads: options.threads }),
    probe: async (name) => {
      // Where both may be asked for, one child for both, started for the first.
      reports ??= probeElsewhere(options.backend === 'auto' ? ['cuda', 'webgpu'] : [name], signal)
      const report = (await reports).find((each) => each.name === name)
      return report ?? { name, available: false, reason: 'It was not tested.', detail: '' }
    },
  })
}

/** The name of what `auto` would open. */
export async function fastestBackend(signal: AbortSignal): Promise<BackendName> {
  await using backend = await openChosenBackend({ backend: 'auto', threads: 0 }, signal)
  return backend.name
}

/** Tests backends in a child process; if that ends early, each of them alone, so that one does not hide the others. */
export async function probeElsewhere(
  names: readonly BackendName[],
  signal: AbortSignal,
): Promise<readonly BackendReport[]> {
  try {
    const done = await runChild({
      name: 'test of the backends',
      arguments: ['probe-backends', ...names],
      onEvent: () => {},
      signal,
    })
    return done.reports as readonly BackendReport[]
  } catch (thrown) {
    signal.throwIfAborted()
    const [name, ...others] = names
    if (name === undefined) return []
    if (others.length > 0) {
      const alone = await Promise.all(names.map((each) => probeElsewhere([each], signal)))
      return alone.flat()
    }
    const reason = `Testing it ended the process: ${thrown instanceof Error ? thrown.message : String(thrown)}`
    return [{ name, available: false, reason, detail: 'Update the driver, or use another backend.' }]
  }
}
