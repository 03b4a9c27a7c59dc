/**
 * From whatever was thrown to what a person is told: one sentence that names the thing, one that says the way out,
 * and an exit code. Errors of the operating system get the sentences here; the rooms wrote their own.
 */
import { GroundswellError, messageOf } from '../core/index.ts'

export const exitCodes = { failure: 1, usage: 2, interrupted: 130 } as const

export interface Failure {
  readonly code: string
  readonly message: string
  readonly remedy: string | undefined
  readonly exitCode: number
}

/** A command line or a run file that cannot be meant. */
export function usageError(what: string, message: string, remedy?: string): GroundswellError {
  return new GroundswellError(message, { code: `usage/${what}`, ...(remedy === undefined ? {} : { remedy }) })
}

/** The reason with which work is aborted when the person says so. */
export class Interrupted extends GroundswellError {
  constructor() {
    super('Stopped on request.', { code: 'interrupted' })
  }
}

export function describeFailure(raised: unknown): Failure {
  const causes = causesOf(raised)
  const thrown = beforeDisposal(raised)
  const interrupted = causes.find((cause) => cause instanceof Interrupted)
  if (interrupted !== undefined) {
    return {
      code: 'interrupted',
      message: interrupted.message,
      remedy: undefined,
      exitCode: exitCodes.interrupted,
    }
  }
  // A full disk stays a full disk, however it is wrapped on its way up.
  const full = causes.find((cause) => cause instanceof GroundswellError && cause.code === 'file/disk-full')
  const told = full ?? thrown
  if (told instanceof GroundswellError) return ownFailure(told)
  for (const cause of causes) {
    const failure = systemFailure(cause)
    if (failure !== undefined) return failure
  }
  return {
    code: 'internal/unexpected',
    message: `Unexpected error: ${oneLine(messageOf(thrown))}`,
    remedy: 'This is a fault of Groundswell: run again with --debug and report what it prints.',
    exitCode: exitCodes.failure,
  }
}

function ownFailure(error: GroundswellError): Failure {
  const usage = error.code.startsWith('usage/') || error.code.startsWith('run-file/')
  return {
    code: error.code,
    message: oneLine(error.message),
    remedy: error.remedy === undefined ? undefined : oneLine(error.remedy),
    exitCode: usage ? exitCodes.usage : exitCodes.failure,
  }
}

/**
 * What ended the work. Where releasing a resource failed as well, the language puts that error in front (`error`) and
 * hides the first one (`suppressed`), which is why the resource was released and mostly why that failed.
 */
function beforeDisposal(thrown: unknown): unknown {
  let first = thrown
  for (let depth = 0; depth < 32 && isSuppressed(first); depth++) first = first.suppressed
  return first
}

/** By its form: runtimes without a class for it make an `Error` of the same fields. */
function isSuppressed(thrown: unknown): thrown is Error & { error: unknown; suppressed: unknown } {
  return thrown instanceof Error && 'suppressed' in thrown && 'error' in thrown
}

/** The thrown value, its causes, what it hides and the members of aggregates, outermost first. */
function causesOf(thrown: unknown): unknown[] {
  const found: unknown[] = []
  const queue: unknown[] = [thrown]
  while (queue.length > 0 && found.length < 32) {
    const next = queue.shift()
    if (next === undefined || next === null || found.includes(next)) continue
    found.push(next)
    if (isSuppressed(next)) queue.push(next.suppressed, next.error)
    if (next instanceof Error) queue.push(next.cause)
    if (next instanceof AggregateError) queue.push(...next.errors)
  }
  return found
}

function systemCodeOf(thrown: unknown): string | undefined {
  if (!(thrown instanceof Error) || thrown instanceof GroundswellError) return undefined
  const { code } = thrown as NodeJS.ErrnoException
  return typeof code === 'string' ? code : undefined
}

/** Messages and remedies by error number, `%` standing for the path or address. */
const systemErrors: Record<string, { code: string; message: string; remedy: string }> = {
  ENOSPC: {
    code: 'file/disk-full',
    message: 'The disk is full: % could not be written.',
    remedy: 'Free some space, or choose another place with --out; nothing half-written was left behind.',
  },
  EDQUOT: {
    code: 'file/disk-full',
    message: 'The disk quota is used up: % could not be written.',
    remedy: 'Free some space, or choose another place with --out; nothing half-written was left behind.',
  },
  EACCES: {
    code: 'file/not-permitted',
    message: 'Permission denied: %.',
    remedy: 'Change its permissions or choose another place.',
  },
  EPERM: {
    code: 'file/not-permitted',
    message: 'Not permitted: %.',
    remedy: 'Change its permissions or choose another place.',
  },
  EROFS: {
    code: 'file/not-permitted',
    message: '% lies on a read-only file system.',
    remedy: 'Choose another place with --out.',
  },
  ENOENT: { code: 'file/not-found', message: 'There is no file or folder %.', remedy: 'Check the path.' },
  ENOTDIR: {
    code: 'file/not-found',
    message: 'A part of the path % is a file, not a folder.',
    remedy: 'Check the path.',
  },
  EEXIST: {
    code: 'file/not-folder',
    message: '% is a file, not a folder.',
    remedy: 'Choose another place.',
  },
  EISDIR: { code: 'file/is-folder', message: '% is a folder, not a file.', remedy: 'Check the path.' },
  EADDRINUSE: {
    code: 'network/port-in-use',
    message: 'The port is already in use: %.',
    remedy: 'Choose another with --port, or 0 for any free one.',
  },
  EADDRNOTAVAIL: {
    code: 'network/address',
    message: 'This machine does not have the address %.',
    remedy: 'Choose one of its own with --host; 0.0.0.0 means all of them.',
  },
  EMFILE: {
    code: 'file/too-many-open',
    message: 'Too many open files.',
    remedy: 'Raise the limit with “ulimit -n”.',
  },
}

function systemFailure(thrown: unknown): Failure | undefined {
  const known = systemErrors[systemCodeOf(thrown) ?? '']
  if (known === undefined) return undefined
  const { path, address, port, syscall } = thrown as NodeJS.ErrnoException & {
    address?: string
    port?: number
  }
  const subject =
    path !== undefined
      ? `“${path}”`
      : port !== undefined
        ? `${address ?? '*'}:${port}`
        : syscall === 'write'
          ? 'a file'
          : oneLine(messageOf(thrown))
  return {
    code: known.code,
    message: known.message.replace('%', subject),
    remedy: known.remedy,
    exitCode: exitCodes.failure,
  }
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').trim()
}
