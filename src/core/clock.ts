/**
 * Time as a value that is passed in, so that whatever waits can be tested without waiting.
 */
import { throwIfAborted } from './errors.ts'

export interface Clock {
  /** Milliseconds since the Unix epoch, for people and for comparing machines. May jump. */
  now(): number
  /** Milliseconds since some moment of this process. Never goes back or jumps: what waits or measures uses it. */
  steady(): number
  /** Resolves after `ms` milliseconds, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** The machine's own clock. */
export function systemClock(): Clock {
  return {
    now: () => Date.now(),
    steady: () => performance.now(),
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason)
        const onAbort = (): void => {
          clearTimeout(timer)
          reject(signal?.reason)
        }
        const timer = setTimeout(() => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        }, ms)
        signal?.addEventListener('abort', onAbort, { once: true })
      }),
  }
}

/**
 * To be awaited between the parts of long work, so that meanwhile timers and sockets are served: it returns at once unless
 * `everyMs` milliseconds have passed since it last let others have their turn.
 */
export function takingTurns(clock: Clock = systemClock(), everyMs = 50): () => Promise<void> {
  let lastMs = clock.steady()
  return async () => {
    if (clock.steady() - lastMs < everyMs) return
    await clock.sleep(0)
    lastMs = clock.steady()
  }
}

/** The same, but that it rejects with the signal's reason once that is aborted, as by Ctrl-C. */
export function takingTurnsUntil(signal: AbortSignal | undefined): () => Promise<void> {
  const pause = takingTurns()
  return async () => {
    await pause()
    throwIfAborted(signal)
  }
}

/** A clock that moves only when told to; sleepers wake in order of their deadline, on the steady time. */
export class VirtualClock implements Clock {
  private sleepers: { at: number; wake: () => void }[] = []
  private time = 0
  private offset: number

  constructor(startMs = 0) {
    this.offset = startMs
  }

  now(): number {
    return this.time + this.offset
  }

  steady(): number {
    return this.time
  }

  /** Sets the wall clock forward or back, as people and time servers do; nothing that waits notices. */
  jump(ms: number): void {
    this.offset += ms
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const sleeper = { at: this.time + ms, wake: resolve }
      this.sleepers.push(sleeper)
      signal?.addEventListener(
        'abort',
        () => {
          this.sleepers = this.sleepers.filter((other) => other !== sleeper)
          reject(signal.reason)
        },
        { once: true },
      )
    })
  }

  /** Moves time forward by `ms`, waking every sleeper on the way and letting it run before the next. */
  async advance(ms: number): Promise<void> {
    const end = this.time + ms
    for (;;) {
      await letOthersRun()
      const next = this.sleepers.filter((s) => s.at <= end).sort((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      this.sleepers = this.sleepers.filter((s) => s !== next)
      this.time = Math.max(this.time, next.at)
      next.wake()
      await letOthersRun()
    }
    this.time = end
  }
}

/** Enough turns of the microtask queue for whatever was woken to reach its next wait. */
async function letOthersRun(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve()
}
