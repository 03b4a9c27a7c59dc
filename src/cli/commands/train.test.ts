/** What `train` promises about the folder that it saves to, in this process and on the native CPU backend. */
import { cp, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Scratch, scratch, someText, tinyRun } from '../../../test/cli-process.ts'
import type { Files } from '../../core/index.ts'
import { readCheckpoint, readSafetensors } from '../../model/index.ts'
import { nodeFiles } from '../../run/index.ts'
import { loadTrainingState, saveTrainingState } from '../../train/index.ts'
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

describe('a saved run', () => {
  const { model } = tinyRun
  const { training } = threeSteps
  let out: string
  beforeAll(async () => {
    out = at('saved')
    await run(threeSteps, { out })
  })

  test.each([
    ['rmsNormEpsilon', '0.00001', '0.001', { model: { ...model, rmsNormEpsilon: 1e-3 } }],
    ['hiddenSize', '16', '32', { model: { ...model, hiddenSize: 32 } }],
    [
      'optimiser.learningRate',
      '0.001',
      '0.002',
      { training: { ...training, optimiser: { learningRate: 0.002 } } },
    ],
    ['optimiser.kind', 'adamw', 'muon', { training: { ...training, optimiser: { kind: 'muon' } } }],
    ['optimiser.weightDecay', '0.1', '0', { training: { ...training, optimiser: { weightDecay: 0 } } }],
    ['optimiser.clipNorm', '1', '0', { training: { ...training, optimiser: { clipNorm: 0 } } }],
    ['schedule.kind', 'cosine', 'constant', { training: { ...training, schedule: { kind: 'constant' } } }],
    ['schedule.warmupSteps', '20', '2', { training: { ...training, schedule: { warmupSteps: 2 } } }],
    ['gradientAccumulation', '1', '2', { training: { ...training, gradientAccumulation: 2 } }],
    ['seed', '0', '9', { seed: 9 }],
  ])('of another %s is refused', async (name, was, is, change) => {
    await expect(run({ ...threeSteps, ...change }, { out })).rejects.toMatchObject({
      code: 'usage/out-occupied',
      message: `“${out}” holds another run: its ${name} is ${was}, this one’s ${is}.`,
      remedy: expect.stringMatching(/old value.*--out.*--restart/),
    })
  })

  test('that began elsewhere is refused, but not when its checkpoint only moved', async () => {
    const from = (checkpoint: string): Record<string, unknown> => ({ ...threeSteps, model: { checkpoint } })
    const tuned = at('tuned')
    await run(from(out), { out: tuned })
    await expect(run(from(tuned), { out })).rejects.toThrow(/its checkpoint is none, this one’s bafkrei/)
    await cp(out, at('moved'), { recursive: true })
    expect((await run(from(at('moved')), { out: tuned })).lines).toContain(
      `Resuming after step 3 of 3, from ${tuned}`,
    )
    await expect(run(from(tuned), { out: tuned })).rejects.toThrow(
      /its checkpoint is bafkrei\w+, this one’s the one in this folder/,
    )
  })

  test('that overwrites the checkpoint it began with goes on', async () => {
    const own = at('own')
    await cp(out, own, { recursive: true })
    const settings = { ...threeSteps, model: { checkpoint: own } }
    await run(settings, { out: own, restart: true })
    expect((await run(settings, { out: own, steps: 4 })).lines).toContain(
      `Resuming after step 3 of 4, from ${own}`,
    )
  })

  test('may go on for longer, and says when that changes the schedule', async () => {
    const longer = at('longer')
    await cp(out, longer, { recursive: true })
    const { lines, events } = await run(threeSteps, { out: longer, steps: 5 })
    expect(lines).toContain(
      'The run was to have 3 steps and now has 5: the rest of its cosine schedule is another one',
    )
    expect(events).toContainEqual({ event: 'resume', step: 3, steps: 5, stepsBefore: 3, unchecked: [] })
    expect(events.at(-1)).toMatchObject({ event: 'done', step: 5 })
    expect((await run(threeSteps, { out: longer, steps: 5 })).lines.join()).not.toContain('was to have')
  })

  test('that had ended reports what it leaves, also where others wrote over its weights', async () => {
    const [mixed, other] = [at('mixed'), at('other')]
    const first = await run(threeSteps, { out: mixed })
    await run({ ...threeSteps, seed: 7 }, { out: other })
    await cp(join(other, 'model.safetensors'), join(mixed, 'model.safetensors'))
    const { validationLoss, checkpointCid } = first.events.at(-1)!
    const again = (await run(threeSteps, { out: mixed })).events.at(-1)
    expect(again).toMatchObject({ event: 'done', validationLoss, checkpointCid })
  })

  test('that is damaged is refused with the way to do without it', async () => {
    const damaged = at('damaged')
    await cp(out, damaged, { recursive: true })
    await truncate(join(damaged, 'training_state.safetensors'), 5000)
    await expect(run(threeSteps, { out: damaged })).rejects.toMatchObject({
      code: 'safetensors/truncated',
      remedy: expect.stringContaining('--restart'),
    })
    const again = await run(threeSteps, { out: damaged, restart: true })
    expect(again.events.at(-1)).toMatchObject({ event: 'done', step: 3 })
  })

  test('of a constant schedule is the same however long it is', async () => {
    const steady = at('steady')
    const settings = { training: { ...training, schedule: { kind: 'constant', warmupSteps: 2 } } }
    await run(settings, { out: steady })
    const { lines } = await run(settings, { out: steady, steps: 5 })
    expect(lines.join()).not.toContain('was to have')
    await run(settings, { out: at('steady-whole'), steps: 5 })
    expect(await left(steady)).toEqual(await left(at('steady-whole')))
  })

  test('of an earlier version, which noted less, goes on and says what was not compared', async () => {
    const old = at('old')
    await cp(out, old, { recursive: true })
    const found = await loadTrainingState(nodeFiles(), old)
    const { steps: _steps, ...progress } = found!.progress
    const { layers, seed } = progress.identity as Record<string, string>
    await saveTrainingState(nodeFiles(), old, {
      snapshot: found!.snapshot,
      progress: { ...progress, identity: { layers: layers!, seed: seed! } },
    })
    const { lines } = await run(threeSteps, { out: old, steps: 4 })
    expect(lines.find((line) => line.startsWith('An earlier version'))).toMatch(
      /did not note checkpoint, .*rmsNormEpsilon.*optimiser\.learningRate.*: make sure they are the same/,
    )
    await expect(run({ ...threeSteps, seed: 9 }, { out: old })).rejects.toThrow('its seed is 0')
  })
})
