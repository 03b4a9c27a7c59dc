/**
 * What a round costs beyond computing, with 2 to 16 real peers on this machine: time from round to round, and processor
 * time of host and peers per round. On a machine with fewer cores than processes the first is the second divided by
 * the cores, so both are shown.
 */
import { availableParallelism } from 'node:os'
import type { Measure } from './measure.ts'
import { isRound, median, RealSwarm, type SwarmSettings, tinySettings } from './real-swarm.ts'

interface RoundOverhead {
  readonly peers: number
  readonly parameters: number
  readonly rounds: number
  readonly medianRoundMs: number
  /** Inner steps of one peer in one round, as the peers measured them. */
  readonly computingMs: number
  readonly hostProcessorMs: number
  readonly peerProcessorMs: number
}

async function measureRoundOverhead(options: {
  readonly rounds?: number
  readonly progress: (text: string) => void
}): Promise<readonly RoundOverhead[]> {
  const results: RoundOverhead[] = []
  for (const peers of [2, 4, 8, 16]) {
    options.progress(`${peers} peers`)
    results.push(await measureOne(peers, options.rounds ?? 20, tinySettings))
  }
  return results
}

async function measureOne(peers: number, rounds: number, settings: SwarmSettings): Promise<RoundOverhead> {
  await using swarm = await RealSwarm.prepare({
    ...settings,
    minimumPeers: peers,
    vanishAfterSeconds: 60,
    graceSeconds: 30,
  })
  const host = swarm.startHost()
  const { link, parameters } = await host.hears(({ event }) => event === 'listening')
  const members = Array.from({ length: peers }, (_, i) => swarm.startPeer(`peer-${i + 1}`, String(link)))
  await host.hears(isRound(4)) // the first rounds warm caches and connections
  const all = [host, ...members]
  const before = await Promise.all(all.map((each) => each.processorMs()))
  await host.hears(isRound(4 + rounds))
  const after = await Promise.all(all.map((each) => each.processorMs()))
  const starts = host.said.filter(isRound(4)).map(({ heardMs }) => heardMs)
  const perRound = after.map((ms, i) => (ms - before[i]!) / rounds)
  const speeds = members.flatMap(({ said }) => {
    const speed = said.findLast((event) => typeof event.tokensPerSecond === 'number')?.tokensPerSecond
    return typeof speed === 'number' ? [speed] : []
  })
  const tokens = settings.innerSteps * settings.batchSize * settings.sequenceLength
  return {
    peers,
    parameters: Number(parameters),
    rounds,
    medianRoundMs: median(starts.slice(1).map((ms, i) => ms - starts[i]!)),
    computingMs: (1000 * tokens) / median(speeds),
    hostProcessorMs: perRound[0]!,
    peerProcessorMs: median(perRound.slice(1)),
  }
}

export const roundOverhead: Measure = {
  name: 'overhead',
  run: async ({ rounds, progress }) => {
    const values = await measureRoundOverhead({ progress, ...(rounds !== undefined && { rounds }) })
    const cores = availableParallelism()
    return {
      title: 'What a round costs beyond computing, real processes on this machine',
      header: [
        ...['peers', 'parameters', 'round ms', 'computing ms', 'beyond computing ms'],
        ...['host CPU ms', 'CPU ms per peer', `CPU ms of all / ${cores} cores`],
      ],
      rows: values.map((each) => [
        `${each.peers}`,
        `${each.parameters}`,
        each.medianRoundMs.toFixed(0),
        each.computingMs.toFixed(0),
        (each.medianRoundMs - each.computingMs).toFixed(0),
        each.hostProcessorMs.toFixed(0),
        each.peerProcessorMs.toFixed(0),
        ((each.hostProcessorMs + each.peers * each.peerProcessorMs) / cores).toFixed(0),
      ]),
      notes: [
        'A tiny model, so computing costs next to nothing. All processes share the cores: where the last column is about the time of',
        'a round, processor time is what a round costs; what is left is waiting for answers, flushes and timers.',
      ],
      values,
    }
  },
}
