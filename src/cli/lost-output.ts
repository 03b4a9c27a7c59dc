/**
 * An output that takes no more: its reader left (`| head`, or `| tee` at Ctrl-C), or the disk under it is full. Work
 * of hours must not end with it, so the command is asked to stop as by Ctrl-C and puts its work away whole.
 */
import { GroundswellError, messageOf } from '../core/index.ts'
import { Interrupted } from './failures.ts'
import type { OutputStreams } from './output.ts'

export interface LostOutput {
  /** Nobody reads any more; that is no failure, and nothing needs to be said of it. */
  readonly readerLeft: boolean
  /** Any other trouble, to be said where one still can. */
  readonly failure: GroundswellError | undefined
  /** Waits until all that was said has come through or was lost. */
  settled(): Promise<void>
}

/** Listens for the life of the streams, as an error that nobody listens for ends the process. */
export function watchOutput(streams: OutputStreams, stop: (reason: Error) => void): LostOutput {
  const lost = new Set<NodeJS.WriteStream>()
  let readerLeft = false
  let failure: GroundswellError | undefined
  for (const stream of [streams.stdout, streams.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // Each later write fails as well: what is said from now on is dropped.
      if (lost.has(stream)) return
      lost.add(stream)
      if (error.code === 'EPIPE') {
        readerLeft = true
        stop(new Interrupted())
      } else {
        const name = stream === streams.stdout ? 'Standard output' : 'Standard error'
        failure ??= new GroundswellError(`${name} cannot be written: ${messageOf(error)}.`, {
          code: 'output/lost',
          remedy: 'Send it to another place, such as a file on a disk with free space.',
          cause: error,
        })
        stop(failure)
      }
    })
  }
  return {
    get readerLeft() {
      return readerLeft
    },
    get failure() {
      return failure
    },
    settled: async () => {
      await Promise.all(
        [streams.stdout, streams.stderr].map(
          (stream) => new Promise<void>((resolve) => stream.write('', () => resolve())),
        ),
      )
      await new Promise((resolve) => setImmediate(resolve)) // the error of a write comes after its end
    },
  }
}
