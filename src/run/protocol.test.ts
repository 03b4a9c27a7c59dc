import { describe, expect, test } from 'vitest'
import { type Cid, cidOfDigest, encodeCanonical, envelopeOverheadBytes } from '../core/index.ts'
import { type PeerId, peerIdOf, signedLimits } from '../swarm/index.ts'
import { type Accepted, encodeEvent, eventLimits } from './events.ts'
import { messages, protocolLimits, viewFor } from './protocol.ts'
import { createRun, type Member, type RunState } from './reducer.ts'

const cid = (n: number): Cid => cidOfDigest(new Uint8Array(32).fill(n), 'dag-cbor')
const peers = Array.from({ length: 256 }, (_, i) => peerIdOf(new Uint8Array(32).fill(i).with(0, 1)))

/** A run as large as the policy allows: 256 peers that all contributed to the three rounds that are kept. */
const largest = (): RunState => {
  const member: Member = {
    status: 'active',
    name: 'n'.repeat(eventLimits.maxNameLength),
    addresses: Array.from(
      { length: eventLimits.maxAddresses },
      () => `/${'a'.repeat(eventLimits.maxAddressLength - 1)}`,
    ),
    since: 1,
    replica: 0,
    contributions: 3,
    tokens: eventLimits.maxTokens,
    lastRound: 3,
    applied: { round: 3, checkpoint: cid(9) },
    disagreements: 0,
  }
  const accepted: Accepted[] = peers.map((peer, i) => ({
    peer,
    update: cid(i),
    tokens: eventLimits.maxTokens,
    loss: 1.23456789,
  }))
  const policy = {
    rounds: 9,
    minimumPeers: 1,
    maximumPeers: 256,
    quorum: 1,
    graceMs: 0,
    maxRoundMs: 1000,
    vanishAfterMs: 500,
  }
  return {
    ...createRun({ type: 'created', atMs: 0, runId: cid(1), policy, checkpoint: cid(2), seed: '' }),
    members: Object.fromEntries(peers.map((peer) => [peer, member])),
    closed: [1, 2, 3].map((round) => ({ round, accepted, checkpoint: cid(9) })),
    checkpoint: { round: 3, checkpoint: cid(9) },
  }
}

describe('views', () => {
  test('of the largest run fit into a message, and are what the schema says', () => {
    const view = viewFor(largest(), peers[7]!, 0)
    expect(encodeCanonical(view).byteLength + 2 * envelopeOverheadBytes).toBeLessThan(
      protocolLimits.maxViewBytes,
    )
    expect(messages.watch.reply.parse(view)).toEqual(view)
    expect(view.peers).toHaveLength(protocolLimits.maxPeersTold)
  })

  test('hold only the rounds that the peer has not merged, and never the peer itself as a source', () => {
    const state = largest()
    expect(viewFor(state, peers[0]!, 2).closed.map(({ round }) => round)).toEqual([3])
    expect(viewFor(state, peers[0]!, 3).closed).toEqual([])
    expect(viewFor(state, peers[0]!, 0).peers.map(({ peer }) => peer)).not.toContain(peers[0])
  })
})

test('a signed report with the longest values fits into its event, and the event into its entry', () => {
  const peer = peers[0] as PeerId
  const event = {
    type: 'contributed',
    atMs: Date.now(),
    peer,
    round: 1e9,
    update: cid(1),
    tokens: eventLimits.maxTokens,
    loss: 1.5,
  } as const
  const report = encodeCanonical({
    run: cid(1),
    to: peer,
    kind: 'report',
    session: new Uint8Array(16),
    sequence: 1e15,
    time: Date.now(),
    body: event,
  })
  expect(report.byteLength + envelopeOverheadBytes).toBeLessThan(eventLimits.maxReportBytes)
  const whole = encodeEvent({ ...event, report: new Uint8Array(eventLimits.maxReportBytes) })
  expect(whole.byteLength).toBeLessThan(eventLimits.maxEventBytes)
  const joined = { name: 'n'.repeat(64), addresses: Array.from({ length: 8 }, () => `/${'a'.repeat(255)}`) }
  expect(encodeCanonical(joined).byteLength).toBeLessThan(signedLimits.maxMessageBytes)
})
