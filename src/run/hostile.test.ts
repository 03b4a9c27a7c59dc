/**
 * What a peer that means harm can send to a host: each is refused, counted by its reason, and changes nothing.
 */
import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { type Cid, cidOf, encodeCanonical, sealEnvelope, systemClock, VirtualClock } from '../core/index.ts'
import {
  type Blobs,
  memoryBlobs,
  memoryTransport,
  messageProtocol,
  putArtifact,
  type SignedMessages,
  serveBlobs,
  signedMessages,
  type Transport,
} from '../swarm/index.ts'
import { createSyncMethod } from '../sync/index.ts'
import { eventLimits } from './events.ts'
import type { Judgement } from './judge.ts'
import { verifyLedgerEntry } from './ledger-page.ts'
import type { LedgerEntry, LedgerPage, PublicStatus, ReportAnswer } from './protocol.ts'
import { stateHash } from './queries.ts'
import { quotaLimits } from './quota.ts'
import { replay } from './replay.ts'
import { identityNumbered, type SwarmOptions, ToySwarm, toyLayout, toyShard } from './swarm-fixture.ts'

const mallory = identityNumbered(66)
const nothing = z.unknown()

let swarm: ToySwarm
let transport: Transport
let blobs: Blobs
let line: SignedMessages

beforeEach(() => begin({}))

async function begin(changes: SwarmOptions): Promise<void> {
  const rounds = { minimumPeers: 1, rounds: 3, vanishAfterMs: 60_000, maximumStrikes: 100, ...changes.rounds }
  swarm = await ToySwarm.start({ ...changes, rounds })
  transport = memoryTransport({ self: mallory.peerId, network: swarm.network })
  blobs = memoryBlobs()
  serveBlobs(transport, blobs)
  line = signedMessages({
    transport,
    signer: mallory.signer,
    runId: swarm.host.runId,
    clock: systemClock(),
    session: randomBytes(16),
  })
  await transport.dial(swarm.hostTransport.addresses[0]!)
}
/** The same with another run. */
async function beginAgain(changes: SwarmOptions): Promise<void> {
  await end()
  await begin(changes)
}
async function end(): Promise<void> {
  await transport.stop()
  await swarm.stop()
}
afterEach(end)

const say = (kind: string, body: unknown): Promise<unknown> =>
  line.signedRequest(swarm.hostIdentity.peerId, { kind, body, reply: nothing, maxReplyBytes: 1 << 20 })
const sendRaw = (bytes: Uint8Array): Promise<unknown> =>
  transport.request(swarm.hostIdentity.peerId, messageProtocol, bytes, { maxReplyBytes: 1 << 20 })
const refused = (reason: string): number => swarm.host.status().refused[reason] ?? 0
const report = (update: Cid, changes: object = {}): Promise<ReportAnswer> =>
  say('report', { round: 1, update, steps: 3, tokens: 24, loss: 1, ...changes }) as Promise<ReportAnswer>

/** Gets a share of the open round, as an honest peer would. */
async function join(): Promise<void> {
  await say('join', { name: 'mallory', addresses: [] })
  await say('ready', { stepsPerSecond: null })
}

const method = createSyncMethod({
  method: 'diloco',
  innerSteps: 3,
  outerLearningRate: 0.7,
  outerMomentum: 0.6,
  encoding: 'int8',
})
const genuine = (value = 0.01): Uint8Array =>
  method.encodeUpdate(
    {
      state: method.createState(toyLayout, new Float32Array(toyLayout.totalSize)),
      local: method.createLocal(toyLayout),
      round: 1,
      values: new Float32Array(toyLayout.totalSize).fill(-value),
      learningRate: 0.1,
    },
    toyLayout,
  ).bytes

describe('a host refuses and counts', () => {
  const unchanged = async (action: () => Promise<unknown>, code: string): Promise<void> => {
    const before = stateHash(await replay(swarm.log))
    await expect(action()).rejects.toMatchObject({ remoteCode: code })
    expect(stateHash(await replay(swarm.log))).toBe(before)
    expect(swarm.host.status().failure).toBeNull()
  }

  test('messages of peers that are not in the run', async () => {
    await unchanged(() => say('ready', { stepsPerSecond: null }), 'member/unknown')
    await unchanged(() => report(swarm.manifest.data), 'member/unknown')
    const progress = {
      phase: 'waiting',
      round: 0,
      step: 0,
      loss: null,
      tokensPerSecond: null,
      sentBytes: 0,
      receivedBytes: 0,
    }
    await unchanged(() => say('watch', { version: -1, held: null, progress }), 'member/unknown')
    await unchanged(() => say('disagreed', { round: 1, checkpoint: swarm.manifest.data }), 'member/unknown')
    expect(refused('member/unknown')).toBe(4)
  })

  test.each<[string, string, unknown]>([
    ['no body', 'join', null],
    ['an unknown key', 'join', { name: 'm', addresses: [], admin: true }],
    ['a name that moves the cursor', 'join', { name: '\u001b[2J', addresses: [] }],
    ['a name that is too long', 'join', { name: 'x'.repeat(65), addresses: [] }],
    [
      'too many addresses',
      'join',
      { name: '', addresses: Array.from({ length: 9 }, () => '/ip4/1.2.3.4/tcp/1') },
    ],
    [
      'an address that is too long',
      'join',
      { name: '', addresses: [`/dns4/${'a'.repeat(eventLimits.maxAddressLength - 5)}`] },
    ],
    ['an address that is none', 'join', { name: '', addresses: ['rm -rf /'] }],
    ['a negative number of tokens', 'report', { round: 1, update: 'x', steps: 1, tokens: -1, loss: 1 }],
    [
      'something that is no CID',
      'report',
      { round: 1, update: '../../etc/passwd', steps: 1, tokens: 1, loss: 1 },
    ],
    ['a round that is no number', 'disagreed', { round: 'all', checkpoint: '' }],
    ['a speed below zero', 'ready', { stepsPerSecond: -1 }],
    ['a page of the ledger without end', 'ledger', { from: 0, limit: 1e9 }],
    ['an action that there is not', 'control', { action: 'format' }],
  ])('a body with %s', async (_, kind, body) => {
    await unchanged(() => say(kind, body), 'message/malformed')
    expect(refused('message-malformed')).toBe(1)
  })

  test('nothing of a body that is as long as it may be', async () => {
    const address = `/dns4/${'a'.repeat(eventLimits.maxAddressLength - 6)}`
    await say('join', { name: 'x'.repeat(64), addresses: Array.from({ length: 8 }, () => address) })
    expect(refused('message-malformed')).toBe(0)
  })

  test('kinds that do not exist, messages for other runs, and a message seen before', async () => {
    await unchanged(() => say('shutdown', null), 'message/unknown-kind')
    const session = randomBytes(16)
    const message = (changes: object): Uint8Array =>
      sealEnvelope(
        'groundswell/request/1',
        {
          ...{
            run: swarm.host.runId,
            to: swarm.hostIdentity.peerId,
            kind: 'join',
            session,
            sequence: 0,
            time: 0,
          },
          body: { name: '', addresses: [] },
          ...changes,
        },
        mallory.signer,
      )
    await unchanged(() => sendRaw(message({ run: swarm.manifest.data })), 'message/wrong-run')
    const once = message({})
    await sendRaw(once)
    await unchanged(() => sendRaw(once), 'message/replayed')
    const forged = sealEnvelope('groundswell/request/1', {}, identityNumbered(1).signer)
    await unchanged(() => sendRaw(forged), 'message/foreign-key')
    expect(
      ['message-unknown-kind', 'message-wrong-run', 'message-replayed', 'message-foreign-key'].map(refused),
    ).toEqual([1, 1, 1, 1])
  })

  test('any bytes at all', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        await unchanged(() => sendRaw(bytes), 'message/malformed')
      }),
      { numRuns: 40 },
    )
  })

  test('reports of updates that are not there, and of steps that are not in the lease', async () => {
    await join()
    await unchanged(async () => report(await putArtifact(memoryBlobs(), genuine())), 'artifact/unavailable')
    const update = await putArtifact(blobs, genuine())
    await unchanged(() => report(update, { tokens: 25 }), 'report/wrong-tokens')
    await unchanged(() => report(update, { steps: 4, tokens: 32 }), 'lease/too-many-steps')
    await unchanged(() => report(update, { steps: 0, tokens: 0 }), 'message/malformed')
    await unchanged(() => report(update, { loss: Number.MAX_VALUE * 2 }), 'message/malformed').catch(
      () => undefined,
    )
    // Nothing of all that is kept.
    const honest = await swarm.hostBlobs.list()
    expect(await report(update)).toMatchObject({ outcome: 'accepted', round: 1 })
    await swarm.until(({ checkpoint }) => checkpoint.round === 1)
    expect((await swarm.hostBlobs.list()).length - honest.length).toBe(4) // an update and a checkpoint, root and chunk
  })

  test('updates that are too large, or none, or not finite: each is rejected in the ledger', async () => {
    await join()
    const before = await swarm.hostBlobs.list()
    const notFinite = genuine()
    new DataView(notFinite.buffer).setFloat32(12, Number.NaN, true)
    const bad: [Cid, string][] = [
      [await putArtifact(blobs, new Uint8Array(3_000_000)), 'artifact/oversized'],
      [
        await blobs.put(encodeCanonical({ size: 1e15, chunks: [] }), { codec: 'dag-cbor' }),
        'artifact/oversized',
      ],
      [await blobs.put(encodeCanonical('root'), { codec: 'dag-cbor' }), 'artifact/malformed'],
      [await putArtifact(blobs, genuine().subarray(1)), 'sync/invalid-update'],
      [await putArtifact(blobs, notFinite), 'sync/invalid-update'],
      [await putArtifact(blobs, genuine(0)), 'update/empty'],
    ]
    for (const [update, code] of bad) {
      const answer = await report(update)
      expect(answer).toMatchObject({ outcome: 'rejected', code })
      expect(answer.reason).not.toBe('')
      expect(answer.remedy).not.toBe('')
    }
    const { entries } = (await say('ledger', { from: 0, limit: 64 })) as LedgerPage
    expect(entries.map(({ update, code }) => [update, code])).toEqual(bad)
    for (const entry of entries) verifyLedgerEntry(entry, swarm.host.runId, swarm.hostIdentity.peerId)
    expect(await swarm.hostBlobs.list()).toEqual(before)
  })

  test('an update that its peer does not give: once is an accident, the second time costs the lease', async () => {
    await join()
    const whole = await putArtifact(memoryBlobs(), genuine())
    await unchanged(() => report(whole), 'artifact/unavailable')
    expect(await report(whole)).toMatchObject({ outcome: 'rejected', code: 'update/not-given' })
    const { rejected, strikes } = swarm.host.status().members.find(({ peer }) => peer === mallory.peerId)!
    expect({ rejected, strikes }).toEqual({ rejected: 1, strikes: 1 })
    const { entries } = (await say('ledger', { from: 0, limit: 64 })) as LedgerPage
    verifyLedgerEntry(entries[0]!, swarm.host.runId, swarm.hostIdentity.peerId)
  })

  test('reports that name what the run itself needs, and removes none of it', async () => {
    await join()
    const before = new Set((await swarm.hostBlobs.list()).map(({ cid }) => cid))
    const { data, tokenizer, initialCheckpoint } = swarm.manifest
    const shard = await cidOf(toyShard)
    for (const own of [data, tokenizer, initialCheckpoint, swarm.host.runId, shard]) {
      await blobs.put((await swarm.hostBlobs.get(own))!, { expected: own })
      // What the peer has only the root of cannot be fetched; the rest is no update.
      const outcome = await report(own).then(
        (answer) => answer.outcome,
        ({ remoteCode }) => remoteCode,
      )
      expect(outcome).toMatch(/^(rejected|artifact\/unavailable)$/)
    }
    // An artifact that is made of the run's own chunks, under a root of the peer's.
    await blobs.put(toyShard)
    expect(await report(await putArtifact(blobs, toyShard))).toMatchObject({ outcome: 'rejected' })
    const after = new Set((await swarm.hostBlobs.list()).map(({ cid }) => cid))
    expect(after).toEqual(before)
  })

  test('updates for other rounds, second updates, and copies', async () => {
    await join()
    const first = await putArtifact(blobs, genuine())
    await unchanged(() => report(first, { round: 2 }), 'round/no-lease')
    await report(first)
    await swarm.until(({ round, phase }) => round === 2 && phase === 'training')
    await unchanged(() => report(first, { round: 2 }), 'round/copy')
    const second = await putArtifact(blobs, genuine(0.02))
    await unchanged(() => report(second, { round: 1 }), 'round/contributed')
    // The answer to the first may have been lost: saying it again is no offence.
    expect(await report(first)).toMatchObject({ outcome: 'accepted', round: 1 })
  })

  test('an update, once, however often its report is repeated in a round that begins anew', async () => {
    await join()
    const { grantedAtMs } = swarm.host.status().members[0]!.lease!
    const update = await putArtifact(blobs, genuine(0))
    for (let times = 0; times < 3; times++) {
      expect(await report(update, { grantedAtMs })).toMatchObject({
        outcome: 'rejected',
        code: 'update/empty',
      })
    }
    expect(swarm.host.status().members[0]).toMatchObject({
      status: 'active',
      strikes: 1,
      lease: { round: 1 },
    })
  })

  test.each<Judgement>([
    { accepted: true },
    { accepted: false, code: 'update/empty', reason: 'It is empty.' },
  ])(
    'an update that is still being judged when its peer gets another lease of the round: %o',
    async (judgement) => {
      const judging = Promise.withResolvers<void>()
      const judged = Promise.withResolvers<Judgement>()
      const judge = (): Promise<Judgement> => {
        judging.resolve()
        return judged.promise
      }
      await beginAgain({ host: { judge } })
      await join()
      const told = report(await putArtifact(blobs, genuine()))
      await judging.promise
      await say('leave', null)
      await join()
      judged.resolve(judgement)
      await expect(told).rejects.toMatchObject({ remoteCode: 'round/no-lease' })
      expect(swarm.host.status()).toMatchObject({ totals: { contributions: 0 }, members: [{ strikes: 0 }] })
    },
  )

  test('a peer that hangs while its update is fetched, without keeping others waiting', async () => {
    await transport.stop()
    const stalling = memoryTransport({ self: mallory.peerId, network: swarm.network })
    stalling.handle('/groundswell/chunk/1', () => new Promise(() => undefined))
    const hung = signedMessages({
      transport: stalling,
      signer: mallory.signer,
      runId: swarm.host.runId,
      clock: systemClock(),
      session: randomBytes(16),
    })
    await stalling.dial(swarm.hostTransport.addresses[0]!)
    const ask = (kind: string, body: unknown) =>
      hung.signedRequest(swarm.hostIdentity.peerId, { kind, body, reply: nothing })
    await ask('join', { name: '', addresses: [] })
    await ask('ready', { stepsPerSecond: null })
    const body = { round: 1, steps: 3, tokens: 24, loss: 1 }
    const stuck = ask('report', { ...body, update: await putArtifact(blobs, genuine()) })
    const second = ask('report', { ...body, update: await putArtifact(blobs, genuine(0.02)) })
    await expect(second).rejects.toMatchObject({ remoteCode: 'report/busy' })
    const honest = swarm.join(1)
    await swarm.until(({ members }) =>
      members.some(({ peer, status }) => peer === honest.identity.peerId && status === 'ready'),
    )
    await stalling.stop()
    await expect(stuck).rejects.toBeDefined()
  })

  test('more peers than the run takes', async () => {
    for (let n = 1; n <= 8; n++) swarm.join(n, { stepMs: 20 })
    await swarm.until(({ members }) => members.length === 8)
    await unchanged(() => say('join', { name: '', addresses: [] }), 'run/full')
  })

  test('more messages than a peer may send, and goes on answering others', async () => {
    // Time that stands still fills no bucket.
    await beginAgain({ host: { clock: new VirtualClock() } })
    await join()
    for (let n = 0; n < 2 + quotaLimits.member.burst; n++) await say('status', {}).catch(() => undefined)
    expect(refused('message/too-many')).toBeGreaterThan(0)
    const honest = swarm.join(1)
    await swarm.until(({ members }) => members.some(({ peer }) => peer === honest.identity.peerId))
    honest.leave()
    await honest.kill()
  })

  test('more questions than strangers may ask, and goes on answering members and owners', async () => {
    await beginAgain({ host: { clock: new VirtualClock(), owners: [identityNumbered(7).peerId] } })
    const { burst } = quotaLimits.questions
    const ask = (): Promise<unknown> => say('ledger', { from: 0, limit: 1 })
    // All at once: of one peer one is under way, whatever the quota has left.
    const together = await Promise.allSettled(Array.from({ length: 4 }, ask))
    expect(together.filter(({ status }) => status === 'fulfilled').length).toBe(1)
    let answered = 1
    while (
      await ask().then(
        () => true,
        () => false,
      )
    )
      answered += 1
    expect(answered).toBeLessThanOrEqual(10 * burst)
    await expect(ask()).rejects.toMatchObject({ remoteCode: 'question/too-many' })
    expect(refused('question/too-many')).toBeGreaterThan(0)
    await join()
    const owner = await swarm.client(7)
    expect(await owner.ledger({ from: 0 })).toMatchObject({ entries: [] })
  })

  test('who comes and goes for ever, so that the log does not grow with them', async () => {
    await beginAgain({ host: { clock: new VirtualClock() } })
    const before = await swarm.log.length()
    const answers = await Promise.allSettled(
      Array.from({ length: 60 }, (_, n) =>
        n % 2 === 0 ? say('join', { name: '', addresses: [] }) : say('leave', null),
      ),
    )
    expect(answers.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(0)
    expect(await swarm.log.length()).toBeLessThanOrEqual(before + 2 * quotaLimits.joins.burst)
    expect(refused('join/too-many')).toBeGreaterThan(0)
  })

  test('an identity that has joined too often, which waits and gets in again', async () => {
    const clock = new VirtualClock()
    await beginAgain({ host: { clock } })
    const { peerId, signer } = identityNumbered(1)
    const earlier = memoryTransport({ self: peerId, network: swarm.network })
    await earlier.dial(swarm.hostTransport.addresses[0]!)
    const { runId } = swarm.host
    const restless = signedMessages({
      ...{ transport: earlier, signer, runId, clock: systemClock(), session: randomBytes(16) },
    })
    for (let n = 0; n < quotaLimits.joins.burst; n++) {
      for (const [kind, body] of [['join', { name: '', addresses: [] }] as const, ['leave', null] as const])
        await restless.signedRequest(swarm.hostIdentity.peerId, { kind, body, reply: nothing })
    }
    await earlier.stop()
    const peer = swarm.join(1, {
      onEvent: ({ type }) => {
        if (type === 'reconnecting') void clock.advance(1000 / quotaLimits.joins.perSecond)
      },
    })
    await swarm.until(({ members }) => members.some((member) => member.peer === peerId))
    expect(refused('join/too-many')).toBeGreaterThan(0)
    peer.leave()
    await peer.kill()
  })

  test('orders of those who do not own the run', async () => {
    await unchanged(() => say('control', { action: 'end' }), 'control/not-owner')
    await join()
    await unchanged(() => say('control', { action: 'pause' }), 'control/not-owner')
    await unchanged(() => say('control', { action: { policy: { rounds: 1 } } }), 'control/not-owner')
  })
})

describe('an attack on the model', () => {
  test('with an update many times as long as the others’ is rejected, signed for, and costs the place', async () => {
    await beginAgain({ rounds: { maximumStrikes: 2, maximumNormFactor: 10, rounds: 20, expulsionRounds: 3 } })
    const honest = [1, 2].map((n) => swarm.join(n, { stepMs: 2 }))
    await swarm.until(({ checkpoint }) => checkpoint.round >= 1)
    await join()
    const leased = (): number => {
      const member = swarm.host.status().members.find(({ peer }) => peer === mallory.peerId)
      return member?.lease?.round ?? 0
    }
    for (let strike = 1; strike <= 2; strike++) {
      await swarm.until(() => leased() > 0)
      const { lease } = swarm.host.status().members.find(({ peer }) => peer === mallory.peerId)!
      const update = await putArtifact(blobs, genuine(1000 * strike))
      const { round, steps } = lease!
      const answer = await report(update, { round, steps, tokens: 8 * steps })
      expect(answer).toMatchObject({ outcome: 'rejected', code: 'update/too-large' })
      expect(answer.reason).toMatch(/times the median/)
    }
    const member = swarm.host.status().members.find(({ peer }) => peer === mallory.peerId)!
    expect(member).toMatchObject({ status: 'expelled', rejected: 2, contributions: 0 })
    await expect(join()).rejects.toMatchObject({
      remoteCode: 'member/expelled',
      message: expect.stringMatching(/expelled until round \d+ .* times the median/),
    })
    // It may look on; afterwards it may come back.
    await swarm.until(({ phase }) => phase === 'finished')
    expect((await Promise.all(honest.map(({ result }) => result))).map(({ reason }) => reason)).toEqual([
      'finished',
      'finished',
    ])
  })

  test('leaves an entry in the ledger that anybody can check, and nobody can change', async () => {
    await join()
    await report(await putArtifact(blobs, genuine(0)))
    await report(await putArtifact(blobs, genuine()), { steps: 2, tokens: 16, loss: 0.5 })
    await swarm.until(({ checkpoint }) => checkpoint.round === 1)
    const page = (await say('ledger', { from: 0, limit: 10 })) as LedgerPage
    const [thrownOut, counted] = page.entries as [LedgerEntry, LedgerEntry]
    expect(thrownOut).toMatchObject({
      outcome: 'rejected',
      code: 'update/empty',
      round: 1,
      peer: mallory.peerId,
    })
    expect(counted).toMatchObject({ outcome: 'accepted', round: 1, steps: 2, tokens: 16, loss: 0.5 })
    const { runId } = swarm.host
    const host = swarm.hostIdentity.peerId
    verifyLedgerEntry(thrownOut, runId, host)
    verifyLedgerEntry(counted, runId, host)
    const other = identityNumbered(1).peerId
    const changes: Partial<LedgerEntry>[] = [
      { peer: other },
      { tokens: 17 },
      { steps: 3 },
      { loss: 0.4 },
      { leaseRound: 2 },
      { update: thrownOut.update },
      { outcome: 'late' },
      { report: thrownOut.report },
    ]
    for (const change of changes) {
      expect(() => verifyLedgerEntry({ ...counted, ...change }, runId, host)).toThrow(/does not hold/)
    }
    expect(() => verifyLedgerEntry(counted, swarm.manifest.data, host)).toThrow(/another run/)
    expect(() => verifyLedgerEntry(counted, runId, other)).toThrow(/another host/)
    const broken = counted.report.slice()
    broken[broken.length >> 1]! ^= 1
    expect(() => verifyLedgerEntry({ ...counted, report: broken }, runId, host)).toThrow()
    // The ledger goes on where a page ends.
    const rest = (await say('ledger', { from: thrownOut.position + 1, limit: 10 })) as LedgerPage
    expect(rest.entries).toEqual([counted])
    expect(rest.next).toBe(rest.length)
  })

  test('cannot hide what everybody may see', async () => {
    const status = (await say('status', {})) as PublicStatus
    expect(status).toMatchObject({ name: 'toy', phase: 'waiting', method: 'diloco/1', known: 0, members: [] })
  })
})
