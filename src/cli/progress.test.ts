import { expect, test } from 'vitest'
import type { Output } from './output.ts'
import { createProgress } from './progress.ts'

function recorder(interactive: boolean): { output: Output; lines: string[] } {
  const lines: string[] = []
  const push = (text: string): void => void lines.push(text)
  const silent = (): void => {}
  return {
    lines,
    output: {
      json: false,
      interactive,
      event: silent,
      line: push,
      text: push,
      note: push,
      redraw: push,
      settle: silent,
    },
  }
}

test('where nobody watches a terminal, a line every few seconds with the time left', () => {
  let time = 0
  const { output, lines } = recorder(false)
  const progress = createProgress(output, { total: 100, unit: 'step', now: () => time, plainEveryMs: 5000 })
  for (let step = 1; step <= 100; step++) {
    time += 100
    progress.update(step, 'loss 2.0')
  }
  progress.finish()
  expect(lines).toEqual(['step 1/100  loss 2.0', 'step 51/100  loss 2.0  5 s left', 'step 100/100  loss 2.0'])
})

test('the time left counts from the first report: not the preparation, not the steps before a resumption', () => {
  let time = 60_000
  const { output, lines } = recorder(false)
  const progress = createProgress(output, { total: 100, unit: 'step', now: () => time, plainEveryMs: 5000 })
  time = 100_000
  progress.update(80, '')
  time = 110_000
  progress.update(90, '')
  expect(lines[1]).toContain('10 s left')
})
