/** The short form of `npm run chaos`: every kind of fault once to a peer and once to the host, and nothing is lost. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

interface Outcome {
  readonly code: number | null
  readonly output: string
}

async function chaos(
  arguments_: readonly string[],
  onOutput: (output: string, stop: () => void) => void = () => {},
): Promise<Outcome> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'chaos', 'main.ts'), ...arguments_], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
    onOutput(output, () => child.kill('SIGTERM'))
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, output }
}

test('a swarm comes through every kind of fault without losing a contribution', async () => {
  const { code, output } = await chaos(['--seed', '3', '--faults', '22', '--peers', '2', '--minutes', '0.5'])
  expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining('Nothing was violated.') })
  expect(output).toContain(', 0 lost')
})

test('who interrupts it leaves nothing behind, neither processes nor disks', async () => {
  const { code, output } = await chaos(['--seed', '2', '--peers', '1'], (text, stop) => {
    if (text.includes('All are there')) stop()
  })
  expect(code).toBe(130)
  const folder = /Work folder: (.*)/.exec(output)![1]!
  if (process.platform === 'linux') expect(readFileSync('/proc/mounts', 'utf8')).not.toContain(folder)
  const processes = [...output.matchAll(/is process (\d+)/g)].map(([, pid]) => Number(pid))
  expect(processes.length).toBe(2)
  for (const pid of processes) expect(() => process.kill(pid, 0)).toThrow('ESRCH')
})
