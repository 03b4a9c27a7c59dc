/**
 * From the SIGKILL of a host to its next accepted event, with a log of 10,000 entries: it has to start, replay the log,
 * read its checkpoint, listen again and be found by its peers. Target: two seconds.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { encodeEvent, replay, sqliteLog } from '../../src/run/index.ts'
import { identityFromSeed } from '../../src/swarm/index.ts'
import type { Measure } from './measure.ts'
import { isRound, median, RealSwarm, tinySettings } from './real-swarm.ts'

interface HostRestart {
  readonly entries: number
  /** From the start of the new process to its first line: it listens again. */
  readonly listeningMs: number
  /** From the start of the new process to the first contribution that it accepts. */
  readonly acceptedMs: number
}

async function measureHostRestart(times: number, entries: number): Promise<readonly HostRestart[]> {
  await using swarm = await RealSwarm.prepare(tinySettings)
  const results: HostRestart[] = []
  let host = swarm.startHost()
  await host.hears(({ event }) => event === 'listening')
  await stop(host)
  await fillLog(join(swarm.hostHome, 'log.sqlite'), entries)
  host = swarm.startHost()
  const { link, addresses } = await host.hears(({ event }) => event === 'listening')
  const port = Number(/\/tcp\/(\d+)/.exec(String(addresses))![1])
  const peer = swarm.startPeer('ada', String(link))
  for (let i = 0; i < times; i++) {
    await host.hears(isRound(Number(host.said.findLast(isRound(1))?.round ?? 0) + 2))
    await stop(host)
    const startedMs = performance.now()
    host = swarm.startHost(port)
    const listening = await host.hears(({ event }) => event === 'listening')
    const accepted = await peer.hears(({ event }) => event === 'accepted', startedMs)
    results.push({
      entries,
      listeningMs: listening.heardMs - startedMs,
      acceptedMs: accepted.heardMs - startedMs,
    })
  }
  return results
}

async function stop(host: ReturnType<RealSwarm['startHost']>): Promise<void> {
  host.child.kill('SIGKILL')
  await host.child.exited
}

/** Fills a log with peers that came and went. */
async function fillLog(path: string, entries: number): Promise<void> {
  const log = sqliteLog(path)
  const { nowMs: atMs } = await replay(log)
  for (let position = await log.length(); position < entries; ) {
    const peer = identityFromSeed(new Uint8Array(randomBytes(32))).peerId
    const came = { type: 'joined', atMs, peer, name: 'passer-by', addresses: [] } as const
    for (const event of [came, { type: 'left', atMs, peer } as const]) {
      await log.append(encodeEvent(event), { expect: position++ })
    }
  }
  await log.close()
}

export const hostRestart: Measure = {
  name: 'restart',
  run: async ({ rounds }) => {
    const values = await measureHostRestart(rounds ?? 5, 10_000)
    return {
      title: 'From the start of a killed host to its next accepted contribution, log of 10,000 entries',
      header: ['', 'ms, median', 'worst'],
      rows: [
        row('until it listens again', values, ({ listeningMs }) => listeningMs),
        row('until the next accepted contribution', values, ({ acceptedMs }) => acceptedMs),
      ],
      notes: ['Target: 2,000 ms until the next accepted event.'],
      values,
    }
  },
}

function row(name: string, values: readonly HostRestart[], pick: (each: HostRestart) => number): string[] {
  return [name, median(values.map(pick)).toFixed(0), Math.max(...values.map(pick)).toFixed(0)]
}
