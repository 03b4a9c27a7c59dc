/**
 * A small run as its owner, a contributor and an onlooker see it: status, the ledger, pauses and limits, the history,
 * metrics; a relay; and a second host that takes over when the first one is killed.
 */
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { natsInstalled, startNatsServer } from '../src/run/nats-fixture.ts'
import { runCli, type Scratch, scratch, someText, startCli, tinyRun } from './cli-process.ts'

let folder: Scratch
const at = (name: string): string => join(folder.path, name)
const runFile = (name: string, rounds: number, run: object = {}): Promise<string> =>
  folder.write(
    `${name}.yaml`,
    JSON.stringify({
      ...tinyRun,
      training: { ...tinyRun.training, steps: rounds * 10 },
      data: { path: 'text.txt' },
      sync: { innerSteps: 10 },
      run: { name, minimumPeers: 1, warmupSeconds: 0, ...run },
      out: `out-${name}`,
    }),
  )
const joinArguments = (link: string, home: string): string[] => [
  ...['join', link, '--home', at(home), '--name', home, '--backend', 'cpu', '--threads', '1', '--json'],
]

beforeAll(async () => {
  folder = await scratch()
  await folder.write('text.txt', someText())
})
afterAll(() => folder[Symbol.asyncDispose]())

test('anybody sees a run, its owner steers it, and its history can be checked', async () => {
  const home = at('host')
  const host = startCli([
    'host',
    await runFile('steered', 100_000),
    '--home',
    home,
    '--metrics',
    '0',
    '--json',
  ])
  const link = String((await host.event(({ event }) => event === 'listening')).link)
  const { url } = await host.event(({ event }) => event === 'metrics')
  const peer = startCli(joinArguments(link, 'ada'))
  try {
    await peer.event(({ event }) => event === 'accepted')

    const status = await runCli(['status', link, '--json'])
    expect(status.stderr).toBe('')
    expect(status.last).toMatchObject({ event: 'done', name: 'steered', members: [{ name: 'ada' }] })
    expect(status.events.at(-2)).toEqual({ ...status.last, event: 'status' })
    expect((await runCli(['status', link])).stdout).toContain(`\nId          ${String(status.last.runId)}\n`)
    expect(status.last.why).toBeTypeOf('string')

    const paused = await runCli(['pause', home, '--json'])
    expect(paused.last).toMatchObject({ event: 'done', action: 'pause' })
    const changed = await runCli(['limits', home, '--maximum-peers', '7', '--json'])
    expect(changed.last).toMatchObject({ event: 'done', policy: { maximumPeers: 7 } })
    expect((await runCli(['resume', home])).code).toBe(0)

    const csv = at('ledger.csv')
    const ledger = await runCli(['contributions', link, '--csv', csv, '--json'])
    expect(ledger.last).toMatchObject({ event: 'done', broken: [] })
    expect(Number(ledger.last.entries)).toBeGreaterThan(0)
    expect(await readFile(csv, 'utf8')).toMatch(/^position,run_time_ms,round/)

    // While the host writes.
    const history = await runCli(['replay', home, '--json'])
    expect(history.last).toMatchObject({ event: 'done', broken: [] })
    expect(history.last.stateHash).toMatch(/^[0-9a-f]{64}$/)
    expect(history.events[0]).toMatchObject({ event: 'entry', position: 0, type: 'created' })

    const metrics = await (await fetch(String(url))).text()
    expect(metrics).toMatch(/^groundswell_contributions_total [1-9]/m)

    expect((await runCli(['end', home])).code).toBe(0)
    expect((await host.ended).last).toMatchObject({ event: 'done' })
    expect((await peer.ended).last).toMatchObject({ event: 'done' })
    const late = await runCli(['pause', home])
    expect(late.stderr).toContain('is not running')
    expect(late.code).toBe(1)
  } finally {
    host.process.kill('SIGKILL')
    peer.process.kill('SIGKILL')
  }
})

test('who leaves says what it has contributed, of earlier processes too, also to a program', async () => {
  const host = startCli(['host', await runFile('left', 100_000), '--home', at('left'), '--json'])
  const { link } = await host.event(({ event }) => event === 'listening')
  let before = 0
  try {
    for (let time = 0; time < 2; time++) {
      const peer = startCli(joinArguments(String(link), 'eve'))
      await peer.event(({ event }) => event === 'accepted')
      peer.process.kill('SIGINT')
      const { code, events, last } = await peer.ended
      expect([code, last.event]).toEqual([130, 'error'])
      const accepted = events.filter(({ event }) => event === 'accepted').length
      expect(events.at(-2)).toMatchObject({ event: 'left', contributions: before + accepted })
      before += accepted
    }
  } finally {
    host.process.kill('SIGKILL')
  }
})

test('an onlooker who watches stays while the host is away, and sees it come back', async () => {
  const port = String(await freePort())
  const command = ['host', await runFile('watched', 100_000), '--home', at('watched'), '--port', port]
  const first = startCli([...command, '--json'])
  const link = String((await first.event(({ event }) => event === 'listening')).link)
  const onlooker = startCli(['status', link, '--watch', '--json'])
  let again: ReturnType<typeof startCli> | undefined
  try {
    await onlooker.event(({ event }) => event === 'status')
    first.process.kill('SIGKILL')
    await onlooker.event(({ event }) => event === 'away')
    again = startCli([...command, '--json'])
    await again.event(({ event }) => event === 'listening')
    const known = new Set<object>()
    let wasAway = false
    await onlooker.event((said) => {
      const isNew = !known.has(said)
      known.add(said)
      wasAway ||= said.event === 'away'
      return isNew && wasAway && said.event === 'status'
    })
    expect((await runCli(['end', at('watched')])).code).toBe(0)
    expect((await onlooker.ended).last).toMatchObject({ event: 'done', phase: 'finished' })
    // Who looks once is told at once.
    await again.ended
    expect((await runCli(['status', link])).stderr).toContain('Nobody answers')
  } finally {
    for (const each of [first, onlooker, again]) each?.process.kill('SIGKILL')
  }
})

test('a host and a peer find each other through a relay alone', async () => {
  const relay = startCli(['relay', '--listen', '/ip4/127.0.0.1/tcp/0', '--home', at('relay'), '--json'])
  const listening = await relay.event(({ event }) => event === 'listening')
  const address = (listening.addresses as string[])[0]!
  const command = ['host', await runFile('relayed', 3), '--home', at('relayed')]
  const host = startCli([
    ...[...command, '--relay', address, '--announce', `${address}/p2p-circuit`, '--json'],
  ])
  let peer: ReturnType<typeof startCli> | undefined
  try {
    const { link, addresses } = await host.event(({ event }) => event === 'listening')
    expect((addresses as string[]).some((each) => each.includes('/p2p-circuit'))).toBe(true)
    peer = startCli([...joinArguments(String(link), 'ben'), '--relay', address])
    expect((await peer.ended).last).toMatchObject({ event: 'done', contributions: 3 })
    const ended = await host.ended
    expect(ended.code).toBe(0)
    // The same command finds the run finished, its checkpoint and the loss that it began with.
    const again = await runCli([...command, '--json'])
    const { validationLossStart, validationLoss, checkpointCid } = ended.last
    expect(again.last).toMatchObject({ event: 'done', validationLossStart, validationLoss, checkpointCid })
    expect(Number(validationLossStart)).toBeGreaterThan(Number(validationLoss))
    await relay.event(({ event, relayedBytes }) => event === 'status' && Number(relayedBytes) > 0)
  } finally {
    for (const each of [host, peer, relay]) each?.process.kill('SIGKILL')
  }
})

describe.skipIf(!natsInstalled)('two hosts of one run', () => {
  test('when the first is killed the second goes on, and nothing accepted is lost', async () => {
    await using nats = await startNatsServer()
    const [one, other] = [await freePort(), await freePort()]
    const file = await runFile('doubled', 100_000)
    const command = (home: string, port: number, also: number): string[] => [
      ...['host', file, '--home', at(home), '--port', `${port}`, '--also', `/ip4/127.0.0.1/tcp/${also}`],
      ...['--log', nats.url, '--identity', at('shared.pem'), '--out', at(`out-${home}`), '--json'],
    ]
    const first = startCli(command('first', one, other))
    const { link } = await first.event(({ event }) => event === 'listening')
    const second = startCli(command('second', other, one))
    await second.event(({ event }) => event === 'standby')
    const peer = startCli(joinArguments(String(link), 'cleo'))
    try {
      await peer.event(({ event }) => event === 'accepted')
      first.process.kill('SIGKILL')
      const accepted = (await first.ended).events.filter(({ event }) => event === 'member').length
      expect(accepted).toBeGreaterThan(0)
      const resumed = await second.event(({ event }) => event === 'resumed')
      const contributions = Number(resumed.contributions)
      expect(contributions).toBeGreaterThan(0)
      const leadingRound = Number(resumed.round)
      await peer.event(({ event, countedIn }) => event === 'accepted' && Number(countedIn) > leadingRound)
      const ledger = await runCli(['contributions', String(link), '--json'])
      const rounds = ledger.events.flatMap(({ event, round }) => (event === 'contribution' ? [round] : []))
      // Every round that was counted is there once, from the first on.
      expect(rounds).toEqual(Array.from({ length: rounds.length }, (_, i) => i + 1))
      expect(rounds.length).toBeGreaterThan(contributions)
    } finally {
      for (const each of [first, second, peer]) each.process.kill('SIGKILL')
    }
  })
})

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}
