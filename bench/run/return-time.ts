/**
 * From a peer's return to its next accepted contribution: it is killed, comes back in another process with the same
 * home, and has to start, connect, join, fetch the newest checkpoint and train. Target: one round and two seconds.
 */
import type { Measure } from './measure.ts'
import { isRound, median, RealSwarm, tinySettings } from './real-swarm.ts'

interface ReturnTime {
  /** From the start of the new process. */
  readonly fromStartMs: number
  /** From the moment at which the host has taken it in again. */
  readonly fromJoinMs: number
  /** A round of the run meanwhile. */
  readonly roundMs: number
}

async function measureReturnTime(times: number): Promise<readonly ReturnTime[]> {
  await using swarm = await RealSwarm.prepare({ ...tinySettings, innerSteps: 50 })
  const host = swarm.startHost()
  const { link } = await host.hears(({ event }) => event === 'listening')
  const others = ['ada', 'bea'].map((name) => swarm.startPeer(name, String(link)))
  let peer = swarm.startPeer('cyd', String(link))
  await Promise.all([...others, peer].map((each) => each.hears(({ event }) => event === 'accepted')))
  const results: ReturnTime[] = []
  for (let i = 0; i < times; i++) {
    peer.child.kill('SIGKILL')
    await peer.child.exited
    const round = Number(host.said.findLast(isRound(1))!.round)
    await host.hears(isRound(round + 2))
    const startedMs = performance.now()
    peer = swarm.startPeer('cyd', String(link))
    const { heardMs: joinedMs } = await host.hears(
      ({ event, name, status }) => event === 'member' && name === 'cyd' && status !== 'vanished',
      startedMs,
    )
    const { heardMs } = await peer.hears(({ event }) => event === 'accepted')
    const starts = host.said.filter(isRound(round)).map((each) => each.heardMs)
    results.push({
      fromStartMs: heardMs - startedMs,
      fromJoinMs: heardMs - joinedMs,
      roundMs: median(starts.slice(1).map((ms, k) => ms - starts[k]!)),
    })
  }
  return results
}

export const returnTime: Measure = {
  name: 'return',
  run: async ({ rounds }) => {
    const values = await measureReturnTime(rounds ?? 5)
    return {
      title: 'From a peer’s return to its next accepted contribution',
      header: ['', 'ms, median', 'worst'],
      rows: [
        row('a round', values, ({ roundMs }) => roundMs),
        row('from being taken in again to the next accepted contribution', values, (each) => each.fromJoinMs),
        row('the same from the start of its process', values, (each) => each.fromStartMs),
        row(
          'beyond one round, from the start of its process',
          values,
          (each) => each.fromStartMs - each.roundMs,
        ),
      ],
      notes: [
        'Target: one round and 2,000 ms. Loading Node and ONNX Runtime is part of the start of a process.',
      ],
      values,
    }
  },
}

function row(name: string, values: readonly ReturnTime[], pick: (each: ReturnTime) => number): string[] {
  return [name, median(values.map(pick)).toFixed(0), Math.max(...values.map(pick)).toFixed(0)]
}
