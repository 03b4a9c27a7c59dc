import { join } from 'node:path'
import { expect, test } from 'vitest'
import { scratch } from '../../../test/cli-process.ts'
import { encodeEvent } from '../../run/events.ts'
import { nodeFiles, sqliteLog } from '../../run/index.ts'
import { ada, ben, Story } from '../../run/story.ts'
import type { OutputEvent } from '../output.ts'
import { replay } from './replay.ts'

test('a log whose signatures do not hold is told to the end, and fails', async () => {
  await using folder = await scratch()
  const path = join(folder.path, 'log.sqlite')
  const story = new Story().join(ada, ben).contribute(ada)
  const log = sqliteLog(path)
  for (const [expect, event] of story.events.entries()) await log.append(encodeEvent(event), { expect })
  await log.close()
  const events: OutputEvent[] = []
  const output = {
    ...{ json: true, interactive: false, event: (event: OutputEvent) => void events.push(event) },
    ...{ line: () => {}, text: () => {}, note: () => {}, redraw: () => {}, settle: () => {} },
  }
  const context = { output, files: nodeFiles(), signal: new AbortController().signal }
  await expect(replay({ ...context, workingFolder: folder.path }, path, {})).rejects.toMatchObject({
    code: 'ledger/mismatch',
    message: expect.stringMatching(/^1 of 1 signed reports do not hold: entry \d+: /),
  })
  expect(events.at(-1)).toMatchObject({ event: 'done', reports: 1, broken: [expect.any(String)] })
})
