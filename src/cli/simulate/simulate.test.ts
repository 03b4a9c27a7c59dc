import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { memoryFiles } from '../../core/index.ts'
import type { CommandContext } from '../context.ts'
import type { OutputEvent } from '../output.ts'
import { createProgram } from '../program.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'groundswell-simulate-test-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** What the command says to people and to programs. */
async function simulate(...args: string[]): Promise<{ lines: string[]; events: OutputEvent[] }> {
  const lines: string[] = []
  const events: OutputEvent[] = []
  const context: CommandContext = {
    output: {
      json: false,
      interactive: false,
      event: (event) => events.push(event),
      line: (text) => lines.push(text),
      text: (text) => lines.push(text),
      note: (text) => lines.push(text),
      redraw: () => {},
      settle: () => {},
    },
    signal: new AbortController().signal,
    files: memoryFiles(),
    workingFolder: folder,
  }
  await createProgram(context).parseAsync(['node', 'groundswell', 'simulate', ...args])
  return { lines, events }
}

describe('groundswell simulate', () => {
  test('shows rounds and what they came to, and says the same to programs', async () => {
    const { lines, events } = await simulate('--peers', '6', '--rounds', '4', '--step-ms', '100')
    expect(lines[0]).toMatch(/^round +began +took +peers +in time +late +tokens/)
    expect(lines.filter((line) => /^ +\d /.test(line))).toHaveLength(4)
    expect(lines.join('\n')).toMatch(/Peers’ time +\d+ % computing/)
    expect(events.map(({ event }) => event)).toEqual([
      ...Array.from({ length: 4 }, () => 'round'),
      ...Array.from({ length: 6 }, () => 'peer'),
      'done',
    ])
  })

  test('gives the same run again for the same seed, and shows at most a dozen of many rounds', async () => {
    const args = ['--peers', '4', '--rounds', '40', '--churn', '0.3', '--step-ms', '50', '--seed']
    const [first, second, other] = [
      await simulate(...args, '5'),
      await simulate(...args, '5'),
      await simulate(...args, '6'),
    ]
    const hash = ({ events }: { events: OutputEvent[] }): unknown => events.at(-1)!.traceHash
    expect(hash(second)).toBe(hash(first))
    expect(hash(other)).not.toBe(hash(first))
    expect(first.lines.filter((line) => /^ +\d/.test(line))).toHaveLength(12)
  })

  test('trains a toy when asked to, and shows its losses', async () => {
    const { lines, events } = await simulate(
      '--peers',
      '3',
      '--rounds',
      '5',
      '--train',
      'toy',
      '--step-ms',
      '50',
    )
    expect(lines[0]).toMatch(/loss +validation$/)
    expect(events.at(-1)!.losses).toHaveLength(5)
  })

  test('writes its events to a file, whole or not at all', async () => {
    await simulate('--peers', '3', '--rounds', '2', '--step-ms', '50', '--trace', 'trace.jsonl')
    const text = await readFile(join(folder, 'trace.jsonl'), 'utf8')
    const types = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).type)
    expect(types.slice(0, 2)).toEqual(['created', 'hosted'])
    expect(types.filter((type) => type === 'contributed').length).toBeGreaterThanOrEqual(4)
    await expect(simulate('--peers', '1', '--quorum', '2', '--trace', 'no.jsonl')).rejects.toThrow()
    expect(await readdir(folder)).toEqual(['trace.jsonl'])
  })

  test.each([
    [['--peers', '10001'], /--peers 10001 is more than can be simulated/],
    [['--peers', '65', '--train', 'llama'], /--peers 65 is more/],
    [['--peers', '10000', '--rounds', '300'], /--rounds 300 is more/],
    [['--rounds', '100001'], /--rounds 100001 is more/],
    [['--staleness', '9'], /--staleness 9 is more/],
    [['--method-bytes', '17'], /--method-bytes 17 is more/],
    [['--parameters', '2000000000000'], /--parameters 2000000000000 is more/],
    [['--train', 'llama', '--parameters', '5'], /the model is the demo’s/],
    [['--data', 'x'], /--data is for --train llama/],
    [['--method', 'magic'], /no method “magic”/],
    [
      ['--method', 'data-parallel', '--inner-steps', '5'],
      /data-parallel does not take --inner-steps 5: expected 1/,
    ],
    [['--churn', '1'], /a number from 0, below 1/],
    [['--speed-spread', '0.5'], /a number from 1 up/],
    [['--up', '0'], /a number above 0/],
    [['--train', 'magic'], /Allowed choices are none, toy, llama/],
  ])('refuses %j', async (args, message) => {
    await expect(simulate(...(args as string[]))).rejects.toThrow(message as RegExp)
  })
})
