/**
 * Ctrl-C. The first asks for a clean stop: it aborts a signal that every command passes down, and the command puts
 * its work away whole. The second leaves at once; files are replaced by renaming, so even that leaves none
 * half-written.
 */
import { exitCodes, Interrupted } from './failures.ts'

export interface Interruption extends Disposable {
  readonly signal: AbortSignal
  /** The same clean stop for another reason; the first Ctrl-C after it is still the first. */
  readonly stop: (reason: Error) => void
}

export function listenForInterrupt(process: NodeJS.Process, onFirst: () => void): Interruption {
  const controller = new AbortController()
  let asked = false
  const onSignal = (): void => {
    if (asked) process.exit(exitCodes.interrupted)
    asked = true
    onFirst()
    controller.abort(new Interrupted())
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) process.on(signal, onSignal)
  return {
    signal: controller.signal,
    stop: (reason) => controller.abort(reason),
    [Symbol.dispose]: () => {
      for (const signal of signals) process.off(signal, onSignal)
    },
  }
}
