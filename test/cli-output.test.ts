/** What a command does when nobody reads what it says any more, or when it cannot be written down. */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runCli, type Scratch, scratch, someText, startCli, tinyRun } from './cli-process.ts'

let folder: Scratch
let runFile: string
const at = (name: string): string => join(folder.path, name)
const endless = (out: string): string[] => ['train', runFile, '--steps', '1000000', '--out', at(out)]
/** Starts the command with its output sent as a shell would send it. */
const redirected = (where: string): { prefix: string[] } => ({
  prefix: ['sh', '-c', `exec "$@" ${where}`, 'sh'],
})

beforeAll(async () => {
  folder = await scratch()
  await folder.write('text.txt', someText())
  runFile = await folder.write('run.yaml', JSON.stringify({ ...tinyRun, data: { path: 'text.txt' } }))
})
afterAll(() => folder[Symbol.asyncDispose]())

test('a reader that leaves stops training as Ctrl-C does: saved, with 130, and the same command goes on', async () => {
  const running = startCli([...endless('left'), '--json'])
  await running.event(({ event, step }) => event === 'step' && Number(step) >= 3)
  running.process.stdout!.destroy()
  const { code, stderr } = await running.ended
  expect(code).toBe(130)
  expect(stderr).toMatch(/^Stopped after step \d+; the same command resumes from .*left\.\n$/)
  const again = await runCli([...endless('left'), '--steps', '3', '--json'])
  expect(again.events.find(({ event }) => event === 'resume')?.step).toBeGreaterThanOrEqual(3)
})

test('Ctrl-C that takes the reader along is the first one, not the second', async () => {
  const running = startCli(endless('teed'))
  await new Promise((resolve) =>
    running.process.stdout!.on('data', (text) => /step \d/.test(text) && resolve(0)),
  )
  running.process.stdout!.destroy()
  running.process.kill('SIGINT')
  expect((await running.ended).code).toBe(130)
  expect(await readdir(at('teed'))).toContain('training_state.safetensors')
})

test('a command that answers at once stays quiet without a reader', async () => {
  const running = startCli(['doctor'])
  running.process.stdout!.destroy()
  expect((await running.ended).stderr).toBe('')
})

test.skipIf(!existsSync('/dev/full'))(
  'an output that cannot be written is named where one still can',
  async () => {
    const training = await runCli(endless('full'), redirected('> /dev/full'))
    expect(training.stderr).toMatch(/Standard output cannot be written: .*ENOSPC.*\n {2}→ /)
    expect(training.code).toBe(1)
    const help = await runCli(['--help'], redirected('> /dev/full'))
    expect(help.stderr).toContain('Standard output cannot be written')
    expect(help.code).toBe(1)
    const wrong = await runCli(['init', runFile], redirected('2> /dev/full'))
    expect(wrong.stdout).toContain('is there already')
    expect(wrong.code).toBe(2)
  },
)
