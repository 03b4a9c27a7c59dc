import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Scratch, scratch, someText, tinyRun } from '../../test/cli-process.ts'
import { nodeFiles } from '../run/index.ts'
import { Interrupted } from './failures.ts'
import { prepareRun } from './prepare.ts'
import { parseRunFile } from './run-file.ts'

let folder: Scratch
beforeEach(async () => {
  folder = await scratch()
})
afterEach(() => folder[Symbol.asyncDispose]())

test('Ctrl-C is heard while a model is made, and ends it', async () => {
  const path = await folder.write('text.txt', someText())
  const model = { hiddenSize: 1024, intermediateSize: 4096, layers: 2, attentionHeads: 8 }
  const run = parseRunFile(JSON.stringify({ ...tinyRun, model, data: { path } }), 'run.yaml')
  const interruption = new AbortController()
  const output = {
    ...{ json: false, interactive: false, event: () => {}, line: () => {}, text: () => {} },
    ...{ note: () => {}, redraw: () => {}, settle: () => {} },
  }
  const context = { output, files: nodeFiles(), signal: interruption.signal, workingFolder: folder.path }
  // Only making the model leaves time for so many turns.
  let turns = 0
  const interrupt = (): void => {
    if (++turns === 5) interruption.abort(new Interrupted())
  }
  let asking: NodeJS.Timeout | undefined
  const prepared = prepareRun(context, run, async () => {
    asking = setInterval(interrupt, 1)
  })
  await expect(prepared).rejects.toBeInstanceOf(Interrupted)
  clearInterval(asking)
})
