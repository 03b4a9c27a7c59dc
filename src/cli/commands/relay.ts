/** `relay`: a node with a public address through which peers behind routers meet. */
import { join } from 'node:path'
import { systemClock } from '../../core/index.ts'
import { loadOrCreateIdentity, startRelay } from '../../swarm/index.ts'
import type { RelayCommandLine } from '../command-lines.ts'
import { absolute, type CommandContext } from '../context.ts'
import { formatBytes, formatCount } from '../format.ts'
import { openHome } from '../home.ts'
import { relayMetrics } from '../metrics.ts'
import { startMetrics } from '../metrics-server.ts'

const redrawEveryMs = 1000
const plainEveryMs = 10_000

export async function relay(context: CommandContext, options: RelayCommandLine): Promise<void> {
  const { output, signal } = context
  await using home = await openHome(absolute(context, options.home ?? join('runs', 'relay')))
  const identity = await loadOrCreateIdentity(join(home.folder, 'identity.pem'), (into) =>
    crypto.getRandomValues(into),
  )
  const { bytesPerDay, rate, reservations, announce } = options
  const node = await startRelay({
    identity,
    listen: options.listen ?? [`/ip4/0.0.0.0/tcp/${options.port}`],
    ...(announce === undefined ? {} : { announce }),
    quotas: {
      ...(bytesPerDay === undefined ? {} : { bytesPerPeer: bytesPerDay }),
      ...(rate === undefined ? {} : { bytesPerSecondPerPeer: rate }),
      ...(reservations === undefined ? {} : { maxReservations: reservations }),
    },
  })
  try {
    await using metrics =
      options.metrics === undefined
        ? undefined
        : await startMetrics(options.metrics, () => relayMetrics(node.status()))
    output.event({
      event: 'listening',
      peer: node.self,
      addresses: node.addresses,
      metrics: metrics?.url ?? null,
    })
    output.line('Hosts and peers behind routers add one of:')
    for (const address of node.addresses) output.line(`  --relay ${address}`)
    if (metrics !== undefined) output.line(`Metrics: ${metrics.url}`)
    output.line('')
    while (!signal.aborted) {
      const { reservations: reached, circuits, relayedBytes, refusals } = node.status()
      output.event({ event: 'status', reservations: reached, circuits, relayedBytes, refusals })
      const refused = Object.values(refusals).reduce((sum, count) => sum + count, 0)
      const text =
        `${formatCount(reached)} peers reachable through here  ·  ${formatCount(circuits)} circuits  ·  ` +
        `${formatBytes(relayedBytes)} relayed${refused === 0 ? '' : `  ·  ${refused} refused`}`
      if (output.interactive) output.redraw(text)
      else output.line(text)
      await systemClock()
        .sleep(output.interactive || output.json ? redrawEveryMs : plainEveryMs, signal)
        .catch(() => undefined)
    }
    throw signal.reason
  } finally {
    output.settle()
    await node.stop()
  }
}
