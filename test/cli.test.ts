/**
 * The commands one after the other, as somebody would use them who trains a model and looks at it.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readCheckpoint, readSafetensors } from '../src/model/index.ts'
import { nodeFiles } from '../src/run/index.ts'
import { runCli, type Scratch, scratch, someText, startCli, tinyRun } from './cli-process.ts'

let folder: Scratch
let runFile: string
const at = (name: string): string => join(folder.path, name)
beforeAll(async () => {
  folder = await scratch()
  await folder.write('text.txt', someText())
  // YAML is a superset of JSON.
  runFile = await folder.write('run.yaml', JSON.stringify({ ...tinyRun, data: { path: 'text.txt' } }))
})
afterAll(() => folder[Symbol.asyncDispose]())

describe('train', () => {
  test('says in JSON all that a script needs, and leaves a checkpoint', async () => {
    const { code, last, events, stderr } = await runCli(['train', runFile, '--out', at('whole'), '--json'])
    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect(last).toMatchObject({ event: 'done', step: 30, checkpoint: at('whole') })
    expect(last.tokensPerSecond).toBeGreaterThan(0)
    expect(last.trainLoss).toBeLessThan(6)
    expect(last.validationLoss).toBeLessThan(6)
    expect(last.parameters).toBeGreaterThan(8000)
    expect(last.peakRssBytes).toBeGreaterThan(10e6)
    expect(last.checkpointCid).toMatch(/^bafkrei/)
    expect(events.filter(({ event }) => event === 'step')).toHaveLength(30)
    const { config } = await readCheckpoint(nodeFiles(), at('whole'))
    expect(config).toMatchObject({ hiddenSize: 16, vocabularySize: 256 })
  })

  test('stopped by Ctrl-C and started again ends with the same bits, and leaves nothing half-written', async () => {
    const command = ['train', runFile, '--out', at('stopped'), '--json']
    const stopped = startCli([...command, '--steps', '30'])
    await stopped.event(({ event, step }) => event === 'step' && Number(step) >= 3)
    stopped.process.kill('SIGINT')
    const first = await stopped.ended
    // On a fast machine all steps may be done before the signal arrives.
    expect([130, 0]).toContain(first.code)
    if (first.code === 130) expect(first.last).toMatchObject({ event: 'error', code: 'interrupted' })
    const left = await readdir(at('stopped'))
    expect(left.filter((name) => name.endsWith('.part'))).toEqual([])
    const again = await runCli(command)
    expect(again.last).toMatchObject({ event: 'done', step: 30 })
    for (const file of ['model.safetensors', 'training_state.safetensors']) {
      const [one, other] = await Promise.all(
        ['stopped', 'whole'].map((name) => readSafetensors(nodeFiles(), join(at(name), file))),
      )
      expect(one!.tensors, file).toEqual(other!.tensors)
    }
  })

  test('another run never overwrites it', async () => {
    const { code, stderr } = await runCli(['train', runFile, '--out', at('whole'), '--batch-size', '3'])
    expect(code).toBe(2)
    expect(stderr).toContain('its batchSize is 2, this one’s 3')
    expect(stderr).toContain('--restart')
  })

  test('speaks to people in lines', async () => {
    const { code, stdout } = await runCli(['train', runFile, '--out', at('spoken'), '--steps', '3'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^Data: 1 document, /)
    expect(stdout).toContain('step 3/3')
    expect(stdout).toContain('validation loss')
    expect(stdout).not.toContain('{')
  })
})

describe('what a checkpoint is good for', () => {
  test('generate gives the same text for the same seed', async () => {
    const command = ['generate', at('whole'), 'The swell', '--tokens', '12', '--backend', 'cpu', '--json']
    const [one, other] = await Promise.all([runCli(command), runCli(command)])
    expect(one.code).toBe(0)
    expect(one.last).toMatchObject({ event: 'done', prompt: 'The swell' })
    expect(one.last.text).toBe(other.last.text)
    expect(one.last.tokens).toHaveLength(12)
  })

  test('score gives token ids, log-probabilities and bits per byte', async () => {
    const { last } = await runCli(['score', at('whole'), '--text', 'ground', '--backend', 'cpu', '--json'])
    expect(last.tokens).toEqual([...Buffer.from('ground')])
    const [first, ...others] = last.logprobs as (number | null)[]
    expect(first).toBeNull()
    expect(others.every((logprob) => logprob !== null && logprob < 0)).toBe(true)
    const bits = others.reduce<number>((sum, logprob) => sum - logprob! / Math.LN2, 0)
    expect(last.bitsPerByte).toBeCloseTo(bits / 5, 5)
  })

  test('export leaves the files of transformers, with the same weights', async () => {
    const { code, last } = await runCli(['export', at('whole'), '--out', at('exported'), '--json'])
    expect(code).toBe(0)
    expect(last).toMatchObject({ event: 'done', checkpoint: at('exported'), dtype: 'float32' })
    expect((await readdir(at('exported'))).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    const [one, other] = await Promise.all(
      ['whole', 'exported'].map((name) => readFile(join(at(name), 'model.safetensors'))),
    )
    expect(one!.equals(other!)).toBe(true)
  })
})

test('doctor finds a backend that works, and says why others do not', async () => {
  const { code, last, stderr } = await runCli(['doctor', '--json'])
  expect(stderr).toBe('')
  expect(code).toBe(0)
  const backends = last.backends as { name: string; available: boolean; reason: string | null }[]
  expect(backends.find(({ name }) => name === 'cpu')?.available).toBe(true)
  for (const { available, reason } of backends) expect(available || reason !== null).toBe(true)
})
