/**
 * Catching up from several peers over long lines: an artifact fetched from 1, 2, 4 and 8 sources, each a process of
 * its own behind a proxy that delays either way. Measured from the first request, on connections that are open but
 * whose windows have not grown yet. The proxies share this process.
 */
import { writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { startProxy } from '../test/proxy.ts'
import { type Said, type SwarmNode, startNode } from '../test/swarm-process.ts'

interface Row {
  readonly sources: number
  /** Median, slowest and fastest of the rounds; 1 MB is 10⁶ bytes. */
  readonly megabytesPerSecond: number
  readonly slowest: number
  readonly fastest: number
  readonly duplicateBytes: number
  /** Processor time of the fetching process, start included, and its largest memory. */
  readonly fetcherCpuMs: number
  readonly fetcherPeakRssBytes: number
  /** Of this process, in which the proxies run, as a share of the time that the fetch took. */
  readonly proxyShare: number
}

export async function runFetchBench(args: readonly string[]): Promise<readonly Row[]> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sources: { type: 'string', multiple: true, default: ['1', '2', '4', '8'] },
      megabytes: { type: 'string', default: '100' },
      'round-trip-ms': { type: 'string', default: '100' },
      rounds: { type: 'string', default: '3' },
      out: { type: 'string', default: 'bench-fetch.json' },
    },
  })
  const sizeBytes = Number(values.megabytes) * 1e6
  const delayMs = Number(values['round-trip-ms']) / 2
  const loadBefore = loadavg()[0]!
  await using stack = new AsyncDisposableStack()
  const most = Math.max(...values.sources.map(Number))
  const nodes: SwarmNode[] = []
  for (let i = 0; i < most; i++) {
    const listen = ['/ip4/127.0.0.1/tcp/0']
    nodes.push(stack.use(await startNode({ role: 'serve', name: `source ${i}`, sizeBytes, listen })))
  }
  const rows: Row[] = []
  for (const count of values.sources.map(Number)) {
    const rounds: { readonly said: Said; readonly proxyMs: number }[] = []
    for (let round = 0; round < Number(values.rounds); round++) {
      rounds.push(await fetchFrom(nodes.slice(0, count), sizeBytes, delayMs))
    }
    rows.push(rowOf(count, rounds))
  }
  const load = { before: loadBefore, after: loadavg()[0]! }
  print(rows, values.megabytes, values['round-trip-ms'], load)
  writeFileSync(values.out, `${JSON.stringify({ sizeBytes, delayMs, load, rows }, null, 2)}\n`)
  process.stdout.write(`Written to ${values.out}.\n`)
  return rows
}

async function fetchFrom(
  nodes: readonly SwarmNode[],
  sizeBytes: number,
  delayMs: number,
): Promise<{ readonly said: Said; readonly proxyMs: number }> {
  await using stack = new AsyncDisposableStack()
  const from: string[] = []
  for (const { said } of nodes) {
    const address = said.addresses![0]!
    const port = Number(/tcp\/(\d+)/.exec(address)![1])
    const proxy = stack.use(await startProxy({ target: { port }, delayMs }))
    from.push(address.replace(`/tcp/${port}/`, `/tcp/${proxy.port}/`))
  }
  const before = process.cpuUsage()
  const root = nodes[0]!.said.root!
  const peer = stack.use(
    await startNode({ role: 'fetch', name: `peer ${Date.now()}`, from, root, maxBytes: sizeBytes }),
  )
  const { user, system } = process.cpuUsage(before)
  if (peer.said.error !== undefined) throw new Error(peer.said.error)
  return { said: peer.said, proxyMs: (user + system) / 1000 }
}

function rowOf(sources: number, rounds: readonly { readonly said: Said; readonly proxyMs: number }[]): Row {
  const speeds = rounds.map(({ said }) => said.sizeBytes! / said.milliseconds! / 1000)
  const median = (values: readonly number[]): number =>
    values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!
  return {
    sources,
    megabytesPerSecond: median(speeds),
    slowest: Math.min(...speeds),
    fastest: Math.max(...speeds),
    duplicateBytes: median(rounds.map(({ said }) => said.duplicateBytes!)),
    fetcherCpuMs: median(rounds.map(({ said }) => said.cpuMs!)),
    fetcherPeakRssBytes: median(rounds.map(({ said }) => said.peakRssBytes!)),
    proxyShare: median(rounds.map(({ said, proxyMs }) => proxyMs / said.milliseconds!)),
  }
}

function print(
  rows: readonly Row[],
  megabytes: string,
  roundTripMs: string,
  load: { readonly before: number; readonly after: number },
): void {
  const lines = [
    ['sources', 'MB/s', '(slowest-fastest)', 'twice, MB', 'fetcher CPU s', 'peak MB', 'proxies’ CPU'],
    Array.from({ length: 7 }, () => '---'),
    ...rows.map((row) => [
      `${row.sources}`,
      row.megabytesPerSecond.toFixed(1),
      `${row.slowest.toFixed(1)}-${row.fastest.toFixed(1)}`,
      (row.duplicateBytes / 1e6).toFixed(1),
      (row.fetcherCpuMs / 1000).toFixed(1),
      (row.fetcherPeakRssBytes / 1e6).toFixed(0),
      `${(100 * row.proxyShare).toFixed(0)} %`,
    ]),
  ]
  process.stdout.write(
    `\n${megabytes} MB, round trip ${roundTripMs} ms; target 40 MB/s from 4 sources\n` +
      `${lines.map((line) => `| ${line.join(' | ')} |`).join('\n')}\n` +
      `Load of the machine: ${load.before.toFixed(1)} before, ${load.after.toFixed(1)} after.\n`,
  )
}
