/** What `train` promises about the folder that it saves to, in this process and on the native CPU backend. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Scratch, scratch, someText, tinyRun } from '../../../test/cli-process.ts'
import type { Files } from '../../core/index.ts'
import { readCheckpoint, readSafetensors } from '../../model/index.ts'
import { nodeFiles } from '../../run/index.ts'
import type { TrainCommandLine } from '../command-lines.ts'
import type { OutputEvent } from '../output.ts'
import { train } from './train.ts'

let folder: Scratch
let text: string
beforeAll(async () => {
  folder = await scratch()
  text = await folder.write('text.txt', someText())
})
afterAll(() => folder[Symbol.asyncDispose]())

interface Said {
  readonly lines: string[]
  readonly events: OutputEvent[]
}

/** Runs the command on a run file of these settings. */
async function run(
  settings: Record<string, unknown>,
  options: TrainCommandLine,
  files: Files = nodeFiles(),
): Promise<Said> {
  // YAML is a superset of JSON.
  const file = await folder.write('run.yaml', JSON.stringify({ ...tinyRun, ...settings }))
  const said: Said = { lines: [], events: [] }
  const output = {
    ...{ json: false, interactive: false },
    event: (event: OutputEvent) => void said.events.push(event),
    line: (line: string) => void said.lines.push(line),
    ...{ text: () => {}, note: () => {}, redraw: () => {}, settle: () => {} },
  }
  const context = { output, files, signal: new AbortController().signal, workingFolder: folder.path }
  await train(context, file, { data: text, ...options })
  return said
}

const threeSteps = { training: { ...tinyRun.training, steps: 3, checkpointEvery: 2 } }
const at = (name: string): string => join(folder.path, name)

/** All that a run leaves behind: weights, moments and how far it came. */
async function left(out: string): Promise<unknown> {
  const { config, parameters } = await readCheckpoint(nodeFiles(), out)
  const state = await readSafetensors(nodeFiles(), join(out, 'training_state.safetensors'))
  return { config, parameters, state }
}

describe('a run that was stopped while it saved', () => {
  /** Files of a machine that goes down before its `count`-th write. */
  const goingDown = (count: number): Files => {
    const files = nodeFiles()
    let writes = 0
    const guard = (): void => {
      if (writes >= count) throw new Error('the machine went down')
    }
    return {
      ...files,
      write: (path, chunks) => {
        writes++
        guard()
        return files.write(path, chunks)
      },
      remove: (path) => {
        guard()
        return files.remove(path)
      },
    }
  }

  test('goes on with the same command and ends with the same bits, whichever file was being written', async () => {
    await run(threeSteps, { out: at('whole') })
    const whole = await left(at('whole'))
    let stops = 0
    for (; ; stops++) {
      const out = at(`stopped-${stops}`)
      const ended = await run(threeSteps, { out }, goingDown(stops + 1)).then(
        () => true,
        (thrown: unknown) => {
          expect(thrown).toMatchObject({ message: 'the machine went down' })
          return false
        },
      )
      const again = await run(threeSteps, { out })
      expect(again.events.at(-1), `stopped at write ${stops + 1}`).toMatchObject({ event: 'done', step: 3 })
      expect(await left(out), `stopped at write ${stops + 1}`).toEqual(whole)
      if (ended) break
    }
    // Six files at the first save, of which the second replaces two.
    expect(stops).toBe(8)
  })

  test('goes on from its own state where another run was replaced', async () => {
    const out = at('replaced')
    await run({ ...threeSteps, seed: 1 }, { out })
    await expect(run(threeSteps, { out, restart: true }, goingDown(2))).rejects.toThrow('went down')
    const again = await run(threeSteps, { out })
    expect(again.lines).toContain(`Resuming after step 2 of 3, from ${out}`)
    expect(await left(out)).toEqual(await left(at('whole')))
  })
})
