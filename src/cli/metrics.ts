/**
 * A run, a peer and a relay as metrics in Prometheus' text format 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/): pure functions from status values to text.
 */
import type { HostStatus, PeerStatus } from '../run/index.ts'
import type { RelayStatus } from '../swarm/index.ts'

interface Sample {
  readonly labels?: Readonly<Record<string, string>>
  readonly value: number
}

export interface Metric {
  /** Without the prefix; counters end in `_total`. */
  readonly name: string
  readonly help: string
  readonly type: 'gauge' | 'counter'
  readonly samples: readonly Sample[]
}

export function formatMetrics(metrics: readonly Metric[]): string {
  const lines: string[] = []
  for (const { name, help, type, samples } of metrics) {
    if (samples.length === 0) continue
    const full = `groundswell_${name}`
    lines.push(`# HELP ${full} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`)
    lines.push(`# TYPE ${full} ${type}`)
    for (const { labels = {}, value } of samples) {
      const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`)
      lines.push(`${full}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${formatValue(value)}`)
    }
  }
  return `${lines.join('\n')}\n`
}

export function hostMetrics(status: HostStatus): Metric[] {
  const { members, totals } = status
  const each = (value: (member: HostStatus['members'][number]) => number | null): Sample[] =>
    members.flatMap((member) => {
      const sample = value(member)
      return sample === null ? [] : [{ labels: { peer: member.peer, name: member.name }, value: sample }]
    })
  return [
    one('round', 'gauge', 'The open round, or the next one.', status.round),
    one('last_round', 'gauge', 'The round after which the run is finished.', status.lastRound),
    one('checkpoint_round', 'gauge', 'Round of the newest checkpoint.', status.checkpoint.round),
    phase(status.phase, ['waiting', 'warmingUp', 'training', 'closing', 'coolingDown', 'paused', 'finished']),
    one('peers_present', 'gauge', 'Peers in the run.', status.counts.present),
    one('peers_ready', 'gauge', 'Peers that wait for a lease.', status.counts.ready),
    one('log_entries', 'gauge', 'Entries of the log.', status.version),
    one('contributions_total', 'counter', 'Accepted contributions.', totals.contributions),
    one('tokens_total', 'counter', 'Tokens of accepted contributions.', totals.tokens),
    one('update_bytes_total', 'counter', 'Bytes of accepted updates.', totals.bytes),
    maybe('loss_nats', 'Mean training loss of the newest closed round.', status.loss),
    {
      name: 'refused_total',
      type: 'counter',
      help: 'Refused messages, transfers and contributions since this process began.',
      samples: Object.entries(status.refused).map(([reason, value]) => ({ labels: { reason }, value })),
    },
    {
      name: 'member_tokens_total',
      type: 'counter',
      help: 'Accepted tokens of a member.',
      samples: each(({ tokens }) => tokens),
    },
    {
      name: 'member_steps_per_second',
      type: 'gauge',
      help: 'Inner steps per second of a member, as measured.',
      samples: each(({ stepsPerSecond }) => stepsPerSecond),
    },
    ...traffic(status),
  ]
}

export function peerMetrics(status: PeerStatus): Metric[] {
  return [
    one('round', 'gauge', 'The open round, or the next one.', status.round),
    one('last_round', 'gauge', 'The round after which the run is finished.', status.lastRound),
    phase(status.phase, [
      'connecting',
      'fetching',
      'measuring',
      'waiting',
      'training',
      'reporting',
      'merging',
      'finished',
    ]),
    one('lease_steps', 'gauge', 'Inner steps of the lease; 0 without one.', status.leaseSteps),
    one('lease_steps_done', 'gauge', 'Inner steps done of the lease.', status.step),
    one('contributions_total', 'counter', 'Accepted contributions of this peer.', status.contributions),
    one('last_accepted_round', 'gauge', 'Round that counted the last contribution.', status.lastAccepted),
    one('share_ratio', 'gauge', 'Part of all accepted tokens.', status.share),
    maybe('loss_nats', 'Training loss of the newest step.', status.loss),
    maybe('tokens_per_second', 'Training speed.', status.tokensPerSecond),
    maybe('steps_per_second', 'Inner steps per second, as measured.', status.stepsPerSecond),
    ...traffic(status),
  ]
}

export function relayMetrics(status: RelayStatus): Metric[] {
  return [
    one('relay_reservations', 'gauge', 'Peers that can be reached through this relay.', status.reservations),
    one('relay_circuits', 'gauge', 'Open circuits.', status.circuits),
    one('relay_bytes_total', 'counter', 'Bytes relayed since the start.', status.relayedBytes),
    {
      name: 'relay_refused_total',
      type: 'counter',
      help: 'Refused reservations and circuits.',
      samples: Object.entries(status.refusals).map(([reason, value]) => ({ labels: { reason }, value })),
    },
  ]
}

function traffic(status: { readonly sentBytes: number; readonly receivedBytes: number }): Metric[] {
  return [
    one('sent_bytes_total', 'counter', 'Bytes sent since this process began.', status.sentBytes),
    one('received_bytes_total', 'counter', 'Bytes received since this process began.', status.receivedBytes),
  ]
}

function one(name: string, type: Metric['type'], help: string, value: number): Metric {
  return { name, type, help, samples: [{ value }] }
}

/** Nothing while there is no value. */
function maybe(name: string, help: string, value: number | null): Metric {
  return { name, type: 'gauge', help, samples: value === null ? [] : [{ value }] }
}

function phase(current: string, all: readonly string[]): Metric {
  return {
    name: 'phase',
    type: 'gauge',
    help: '1 for the phase it is in, 0 for the others.',
    samples: all.map((name) => ({ labels: { phase: name }, value: Number(name === current) })),
  }
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function formatValue(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  return Number.isFinite(value) ? String(value) : value > 0 ? '+Inf' : '-Inf'
}
