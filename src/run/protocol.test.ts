import { Map as PersistentMap } from 'immutable'
import { describe, expect, test } from 'vitest'
import { encodeCanonical, envelopeOverheadBytes } from '../core/index.ts'
import { type PeerId, signedLimits } from '../swarm/index.ts'
import { encodeEvent, eventLimits, type RunEvent } from './events.ts'
import { ledgerPage, RoundIndex } from './ledger-page.ts'
import { memoryLog } from './log.ts'
import { newcomer } from './membership.ts'
import { type LedgerEntry, protocolLimits, type RunView } from './protocol.ts'
import { messages } from './protocol-schemas.ts'
import { createRun } from './reducer.ts'
import { type Accepted, type Member, type RunState, reducerLimits } from './state.ts'
import { publicStatus } from './status.ts'
import { cid, created, peerNumber } from './story.ts'
import { Holders, viewFor } from './views.ts'

const peers = Array.from({ length: 300 }, (_, i) => peerNumber(i))
const longest = 'ü'.repeat(eventLimits.maxReasonLength / 2)

/** More members than a view can tell of, all of whom contributed to all the rounds that are kept. */
const largest = (contributors: number): RunState => {
  const ranges = Array.from({ length: reducerLimits.maxLeaseRanges }, (_, i) => ({
    start: 1e12 + 2 * i,
    end: 1e12 + 2 * i + 1,
  }))
  const member: Member = {
    ...newcomer,
    status: 'active',
    name: 'n'.repeat(eventLimits.maxNameLength),
    addresses: Array.from(
      { length: eventLimits.maxAddresses },
      () => `/${'a'.repeat(eventLimits.maxAddressLength - 1)}`,
    ),
    since: 1,
    lease: { round: 4, steps: ranges.length, ranges, grantedAtMs: 1.5 },
    contributions: 3,
    tokens: 1e15,
    lastVerdict: { round: 3, outcome: 'rejected', code: 'c'.repeat(64), reason: longest },
  }
  const accepted: Accepted[] = peers.slice(0, contributors).map((peer, i) => ({
    ...{ peer, update: cid(i), leaseRound: 3, ranges, steps: 1e9, tokens: 1e15, weight: 1e15 / 3 },
    ...{ loss: 1.23456789, bytes: 1e12, norm: 1.5 },
  }))
  return {
    ...createRun(created),
    members: PersistentMap(peers.map((peer) => [peer, member])),
    totals: { contributions: 900, tokens: 9e15, bytes: 1e15 },
    closed: [1, 2, 3].map((round) => ({ round, seed: 's'.repeat(64), accepted, checkpoint: cid(9) })),
    checkpoint: { round: 3, checkpoint: cid(9) },
  }
}

const viewOf = (state: RunState, peer: PeerId, merged: number): RunView => {
  const holders = new Holders()
  for (const each of peers) holders.set(each, state.checkpoint)
  return viewFor(state, peer, state.members.get(peer)!, { merged, nowMs: 0, holders, life: 'l'.repeat(32) })
}

describe('views', () => {
  test('of the largest run fit into a message, and are what the schema says', () => {
    const view = viewOf(largest(256), peers[7]!, 0)
    expect(encodeCanonical(view).byteLength + 2 * envelopeOverheadBytes).toBeLessThan(
      protocolLimits.maxViewBytes,
    )
    expect(messages.watch.reply.parse(view)).toEqual(view)
    expect(view.peers).toHaveLength(protocolLimits.maxPeersTold)
    expect(view.closed.map(({ accepted }) => accepted?.length)).toEqual([256, 256, 256])
  })

  test('of a round with too many contributions send peers to its checkpoint', () => {
    expect(viewOf(largest(257), peers[0]!, 2).closed).toEqual([
      { round: 3, seed: 's'.repeat(64), accepted: null, checkpoint: cid(9) },
    ])
  })

  test('tell of rounds that the peer has not merged, and of others than itself', () => {
    const state = largest(3)
    expect(viewOf(state, peers[0]!, 2).closed.map(({ round }) => round)).toEqual([3])
    expect(viewOf(state, peers[0]!, 3).closed).toEqual([])
    expect(viewOf(state, peers[0]!, 0).peers.map(({ peer }) => peer)).not.toContain(peers[0])
  })
})

test('the public status of the largest run fits into its message', () => {
  const status = publicStatus({
    state: largest(300),
    nowMs: 0.5,
    name: 'n'.repeat(64),
    method: 'm'.repeat(64),
    progress: new Map(),
  })
  expect(messages.status.reply.parse(status)).toEqual(status)
  expect(status).toMatchObject({ known: 300, members: { length: protocolLimits.maxMembersTold } })
  expect(encodeCanonical(status).byteLength + envelopeOverheadBytes).toBeLessThan(
    protocolLimits.maxStatusBytes,
  )
})

test('what a newer host adds to its replies is left away, and what an older one lacks is zero', () => {
  const given = { nowMs: 5, name: 'run', method: 'diloco', progress: new Map() }
  const status = publicStatus({ state: largest(2), ...given })
  const [member, ...others] = status.members
  const { strikes: _, ...older } = member!
  const told = { ...status, mood: 'fine', members: [{ ...older, shoeSize: 43 }, ...others] }
  expect(messages.status.reply.parse(told)).toEqual({
    ...status,
    members: [{ ...older, strikes: 0 }, ...others],
  })
  expect(messages.status.body.safeParse({ mood: 'fine' }).success).toBe(false)
})

test('a page of the largest ledger entries fits into its message', () => {
  const entry: LedgerEntry = {
    ...{ position: 1e12, atMs: 1e12 + 0.5, type: 'rejected', round: 1e7, leaseRound: 1e7, peer: peers[0]! },
    ...{ update: cid(1), steps: 1e9, tokens: 1e15, loss: 1.5, bytes: 1e12, outcome: 'rejected' },
    ...{ code: 'c'.repeat(64), reason: longest, report: new Uint8Array(eventLimits.maxReportBytes) },
  }
  const entries = Array.from({ length: protocolLimits.maxLedgerEntries }, () => entry)
  const page = { entries, next: 1e12, length: 1e12 }
  expect(messages.ledger.reply.parse(page)).toEqual(page)
  expect(encodeCanonical(page).byteLength + envelopeOverheadBytes).toBeLessThan(protocolLimits.maxLedgerBytes)
})

test('pages of the ledger look at a bounded part of the log and know the round wherever they begin', async () => {
  const log = memoryLog()
  const rounds = new RoundIndex()
  const { maxLedgerScan } = protocolLimits
  const length = 2 * maxLedgerScan + 500
  const ticked: RunEvent = { type: 'ticked', atMs: 0 }
  const late: RunEvent = {
    ...({ type: 'contributed' } as const),
    ...{ atMs: 0, peer: peers[0]!, round: 13, update: cid(3), steps: 2 },
    ...{ loss: 1, bytes: 10, norm: 1, report: new Uint8Array(3) },
  }
  // A round ends with every 300th entry.
  for (let position = 0; position < length; position++) {
    const round = Math.floor(position / 300) + 1
    rounds.note(position, round)
    const checkpointed: RunEvent = { type: 'checkpointed', atMs: 0, round, checkpoint: cid(2) }
    const event = position === 4000 ? late : position % 300 === 299 ? checkpointed : ticked
    await log.append(encodeEvent(event), { expect: position })
  }
  const init = { log, rounds, batchTokens: 8 }
  const first = await ledgerPage(init, { from: 0, limit: 64 })
  expect(first).toEqual({ entries: [], next: maxLedgerScan, length })
  const second = await ledgerPage(init, { from: first.next, limit: 64 })
  expect(second).toMatchObject({
    entries: [{ position: 4000, round: 14, leaseRound: 13, outcome: 'late', tokens: 16 }],
    next: 2 * maxLedgerScan,
  })
  expect(await ledgerPage(init, { from: second.next, limit: 64 })).toEqual({
    entries: [],
    next: length,
    length,
  })
  expect(await ledgerPage(init, { from: length + 9, limit: 64 })).toEqual({
    entries: [],
    next: length,
    length,
  })
})

test('whoever else waits has a turn while a page of the ledger is made', async () => {
  const log = memoryLog()
  const { maxLedgerScan } = protocolLimits
  for (let position = 0; position < maxLedgerScan; position++)
    await log.append(encodeEvent({ type: 'ticked', atMs: 0 }), { expect: position })
  let turns = 0
  let isMade = false
  const others = (): void => {
    turns += 1
    if (!isMade) setImmediate(others)
  }
  setImmediate(others)
  await ledgerPage({ log, rounds: new RoundIndex(), batchTokens: 8 }, { from: 0, limit: 64 })
  isMade = true
  expect(turns).toBeGreaterThanOrEqual(maxLedgerScan / 256)
})

test('a signed report with the longest values fits into its event, and the event into its entry', () => {
  const peer = peers[0] as PeerId
  const event = {
    type: 'contributed',
    atMs: Date.now(),
    peer,
    round: 1e9,
    update: cid(1),
    steps: eventLimits.maxSteps,
    loss: 1.5,
    bytes: 1e15,
    norm: 1.5,
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
