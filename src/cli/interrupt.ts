/**
 * Ctrl-C. The first asks for a clean stop: it aborts a signal that every command passes down, and the command puts
 * its work away whole. The second leaves at once; files are replaced by renaming, so even that leaves none
 * half-written.
 */
import { exitCodes, Interrupted } from './failures.ts'

/** One press arrives twice where a terminal and a parent that passes it on both send it; nobody presses as fast, in milliseconds. */
const samePress = 100

export interface Interruption extends Disposable {
  readonly signal: AbortSignal
  /** The same clean stop for another reason; the first Ctrl-C after it is still the first. */
  readonly stop: (reason: Error) => void
}

/** @param now in milliseconds */
export function listenForInterrupt(
  process: NodeJS.Process,
  onFirst: () => void,
  now: () => number = () => performance.now(),
): Interruption {
  const controller = new AbortController()
  let first: number | undefined
  const onSignal = (): void => {
    if (first !== undefined) {
      if (now() - first > samePress) process.exit(exitCodes.interrupted)
      return
    }
    first = now()
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
