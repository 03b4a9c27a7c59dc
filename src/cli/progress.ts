/**
 * Progress of work whose length is known: a bar with the time left at a terminal, a plain line every few seconds
 * anywhere else.
 */
import { formatDuration } from './format.ts'
import type { Output } from './output.ts'

export interface Progress {
  /** @param details what goes beside the bar, such as the loss */
  update(done: number, details: string): void
  /** Draws the last state for good. */
  finish(): void
}

export interface ProgressOptions {
  readonly total: number
  readonly unit: string
  readonly now: () => number
  readonly plainEveryMs?: number
}

const barWidth = 24
const redrawEveryMs = 100

export function createProgress(output: Output, options: ProgressOptions): Progress {
  const { total, unit, now, plainEveryMs = 10_000 } = options
  // The time left is reckoned from the first report on: what came before was preparation.
  let first: { done: number; at: number } | undefined
  let lastShown = Number.NEGATIVE_INFINITY
  let latest: { done: number; details: string } | undefined
  const timeLeft = (done: number): string => {
    if (first === undefined || done <= first.done || done >= total) return ''
    const seconds = ((now() - first.at) / 1000 / (done - first.done)) * (total - done)
    return `  ${formatDuration(seconds)} left`
  }
  const text = (done: number, details: string): string => {
    const filled = Math.round((done / total) * barWidth)
    const bar = output.interactive ? `${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)}  ` : ''
    return `${bar}${unit} ${done}/${total}  ${details}${timeLeft(done)}`
  }
  const show = (): void => {
    if (latest === undefined) return
    lastShown = now()
    if (output.interactive) output.redraw(text(latest.done, latest.details))
    else output.line(text(latest.done, latest.details))
    latest = undefined
  }
  return {
    update: (done, details) => {
      first ??= { done, at: now() }
      latest = { done, details }
      if (now() - lastShown >= (output.interactive ? redrawEveryMs : plainEveryMs)) show()
    },
    finish: () => {
      show()
      output.settle()
    },
  }
}
