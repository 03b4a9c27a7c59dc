import { join } from 'node:path'
import { expect, test } from 'vitest'
import { scratch } from '../../test/cli-process.ts'
import { nodeFiles } from '../run/index.ts'
import { openIdentity } from './identity.ts'
import type { OutputEvent } from './output.ts'

test('an identity that is made is said to be new, and one that is there is not', async () => {
  await using folder = await scratch()
  const said: string[] = []
  const events: OutputEvent[] = []
  const output = {
    ...{ json: false, interactive: false },
    event: (event: OutputEvent) => void events.push(event),
    line: (line: string) => void said.push(line),
    ...{ text: () => {}, note: () => {}, redraw: () => {}, settle: () => {} },
  }
  const files = nodeFiles()
  const context = { output, files, signal: new AbortController().signal, workingFolder: folder.path }
  const path = join(folder.path, 'host.pem')
  const made = await openIdentity(context, path)
  expect(said).toEqual([`There was no identity at “${path}”: made a new one, ${made.peerId}.`])
  expect(events).toEqual([{ event: 'identity', created: path, peer: made.peerId }])
  expect((await openIdentity(context, path)).peerId).toBe(made.peerId)
  expect(said).toHaveLength(1)
})
