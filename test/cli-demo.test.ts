/**
 * The demo as a whole, a few rounds of it: processes that talk over libp2p, one killed, one late, and the numbers
 * at the end.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { readCheckpoint } from '../src/model/index.ts'
import { nodeFiles } from '../src/run/index.ts'
import { runCli, scratch, someText, startCli } from './cli-process.ts'

test('three peers train through a SIGKILL and a late arrival', async () => {
  await using folder = await scratch()
  const text = await folder.write('text.txt', someText())
  const out = `${folder.path}/out`
  const { code, last, events, stderr } = await runCli([
    'demo',
    '--data',
    text,
    '--rounds',
    '12',
    '--out',
    out,
    '--json',
  ])
  expect(stderr).toBe('')
  expect(code).toBe(0)
  expect(last).toMatchObject({ event: 'done', killed: 1, joinedLate: 1, peers: 4, checkpoint: out })
  expect(last.validationLossEnd).toBeLessThan(Number(last.validationLossStart))
  expect(last.soloValidationLoss).toBeGreaterThan(0)
  expect(last.bytesPerPeer).toBeGreaterThan(0)
  expect(last.dataParallelBytes).toBeGreaterThan(Number(last.bytesPerPeer))
  expect(events.map(({ event }) => event)).toEqual(
    expect.arrayContaining(['started', 'killed', 'joined-late']),
  )
  expect(Object.keys((await readCheckpoint(nodeFiles(), out)).parameters).length).toBeGreaterThan(30)
})

test('its processes end with it, even when it is killed', async () => {
  await using folder = await scratch()
  const text = await folder.write('text.txt', someText())
  const demo = startCli(['demo', '--data', text, '--out', `${folder.path}/out`, '--json'])
  const { processes } = (await demo.event(({ event }) => event === 'started')) as unknown as {
    processes: number[]
  }
  expect(processes.length).toBeGreaterThanOrEqual(4)
  demo.process.kill('SIGKILL')
  await demo.ended
  const isThere = (pid: number): boolean => {
    try {
      process.kill(pid, 0)
      return true
    } catch {
      return false
    }
  }
  while (processes.some(isThere)) await sleep(50)
})
