/**
 * Two peers in houses that let nobody in train together through a relay: the host is a neighbour of the one and cannot
 * be reached by the other, nor can the peers reach each other.
 */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type RunningCli, runCli, scratch, someText, startCli, tinyRun } from './cli-process.ts'
import { makeNamespaces, namespacesMissing } from './namespaces.ts'

const missing = namespacesMissing()
if (missing !== undefined) process.stderr.write(`Skipped: training behind routers (${missing}).\n`)

test.skipIf(missing !== undefined)('peers behind two routers train together through a relay', async () => {
  await using folder = await scratch()
  await folder.write('text.txt', someText())
  const at = (name: string): string => join(folder.path, name)
  const runFile = await folder.write(
    'run.yaml',
    JSON.stringify({
      ...tinyRun,
      data: { path: 'text.txt' },
      sync: { innerSteps: 5 },
      run: { name: 'apart', minimumPeers: 2, vanishAfterSeconds: 30 },
      out: 'out',
    }),
  )
  await using spaces = makeNamespaces()
  const { a, b, r } = spaces
  const started: RunningCli[] = []
  const start = (prefix: readonly string[], ...arguments_: string[]): RunningCli => {
    const running = startCli([...arguments_, '--json'], { prefix })
    started.push(running)
    return running
  }
  try {
    const relay = start(r.prefix, 'relay', '--port', '4001', '--home', at('relay'))
    const { addresses } = await relay.event(({ event }) => event === 'listening')
    const reached = (addresses as string[]).find((address) => address.includes(r.address))!
    const host = start(
      a.prefix,
      'host',
      runFile,
      '--home',
      at('host'),
      '--host',
      a.address,
      '--relay',
      reached,
    )
    const { link } = await host.event(({ event }) => event === 'listening')
    const peer = (prefix: readonly string[], name: string): RunningCli =>
      start(
        prefix,
        'join',
        String(link),
        '--name',
        name,
        '--home',
        at(name),
        '--threads',
        '1',
        '--relay',
        reached,
      )
    const peers = [peer(a.prefix, 'ada'), peer(b.prefix, 'bea')]
    const [done, ...ends] = await Promise.all([host.ended, ...peers.map(({ ended }) => ended)])
    expect([done.code, ...ends.map(({ code }) => code)]).toEqual([0, 0, 0])
    for (const { last } of ends) {
      expect(last).toMatchObject({ event: 'done', runCheckpoint: done.last.runCheckpoint })
      expect(last.contributions).toBeGreaterThan(0)
    }
    // What the one in the other house sent and received went through the relay.
    const status = await runCli(['status', String(link), '--json'], { prefix: b.prefix })
    expect(status.code).not.toBe(0) // the host has gone; and from here there never was another way to it
  } finally {
    for (const { process } of started) process.kill('SIGKILL')
    await Promise.all(started.map(({ ended }) => ended))
  }
})
