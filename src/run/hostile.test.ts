/**
 * What a peer that means harm can send to a host: each is refused, counted by its reason, and changes nothing.
 */
import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { type Cid, cidOf, encodeCanonical, sealEnvelope, systemClock } from '../core/index.ts'
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
import { stateHash } from './reducer.ts'
import { replay } from './replay.ts'
import { identityNumbered, ToySwarm, toyLayout, toyShard } from './swarm-fixture.ts'

const mallory = identityNumbered(66)
const nothing = z.unknown()

let swarm: ToySwarm
let transport: Transport
let blobs: Blobs
let line: SignedMessages

beforeEach(async () => {
  swarm = await ToySwarm.start({ rounds: { minimumPeers: 1, rounds: 3, vanishAfterMs: 60_000 } })
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
})
afterEach(async () => {
  await transport.stop()
  await swarm.stop()
})

const say = (kind: string, body: unknown): Promise<unknown> =>
  line.signedRequest(swarm.hostIdentity.peerId, { kind, body, reply: nothing, maxReplyBytes: 1 << 20 })
const sendRaw = (bytes: Uint8Array): Promise<unknown> =>
  transport.request(swarm.hostIdentity.peerId, messageProtocol, bytes, { maxReplyBytes: 1 << 20 })
const refused = (reason: string): number => swarm.host.status().refused[reason] ?? 0
const report = (update: Cid, changes: object = {}): Promise<unknown> =>
  say('report', { round: 1, update, tokens: 24, loss: 1, ...changes })

/** Gets a share of the open round, as an honest peer would. */
async function join(): Promise<void> {
  await say('join', { name: 'mallory', addresses: [] })
  await say('ready', null)
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
    await unchanged(() => say('ready', null), 'member/unknown')
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
    await unchanged(() => say('watch', { version: -1, applied: 0, progress }), 'member/unknown')
    await unchanged(() => say('applied', { round: 1, checkpoint: swarm.manifest.data }), 'member/unknown')
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
    ['an address that is none', 'join', { name: '', addresses: ['rm -rf /'] }],
    ['a negative number of tokens', 'report', { round: 1, update: 'x', tokens: -1, loss: 1 }],
    ['something that is no CID', 'report', { round: 1, update: '../../etc/passwd', tokens: 1, loss: 1 }],
    ['a round that is no number', 'applied', { round: 'all', checkpoint: '' }],
  ])('a body with %s', async (_, kind, body) => {
    await unchanged(() => say(kind, body), 'message/malformed')
    expect(refused('message-malformed')).toBe(1)
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

  test('reports of updates that are not there, too large, or not updates', async () => {
    await join()
    await unchanged(async () => report(await putArtifact(memoryBlobs(), genuine())), 'artifact/unavailable')
    await unchanged(
      async () => report(await putArtifact(blobs, new Uint8Array(3_000_000))),
      'artifact/oversized',
    )
    await unchanged(
      async () => report(await blobs.put(encodeCanonical({ size: 1e15, chunks: [] }), { codec: 'dag-cbor' })),
      'artifact/oversized',
    )
    await unchanged(
      async () => report(await blobs.put(encodeCanonical('root'), { codec: 'dag-cbor' })),
      'artifact/malformed',
    )
    await unchanged(
      async () => report(await putArtifact(blobs, genuine().subarray(1))),
      'sync/invalid-update',
    )
    const notFinite = genuine()
    new DataView(notFinite.buffer).setFloat32(12, Number.NaN, true)
    await unchanged(async () => report(await putArtifact(blobs, notFinite)), 'sync/invalid-update')
    await unchanged(
      async () => report(await putArtifact(blobs, genuine()), { tokens: 25 }),
      'report/too-many-tokens',
    )
    expect(refused('sync/invalid-update')).toBe(2)
    // Nothing of all that is kept.
    const honest = await swarm.hostBlobs.list()
    await report(await putArtifact(blobs, genuine()))
    await swarm.until(({ checkpoint }) => checkpoint.round === 1)
    expect((await swarm.hostBlobs.list()).length - honest.length).toBe(4) // an update and a checkpoint, root and chunk
  })

  test('reports that name what the run itself needs, and removes none of it', async () => {
    await join()
    const before = new Set((await swarm.hostBlobs.list()).map(({ cid }) => cid))
    const { data, tokenizer, initialCheckpoint } = swarm.manifest
    const shard = await cidOf(toyShard)
    for (const own of [data, tokenizer, initialCheckpoint, swarm.host.runId, shard]) {
      await blobs.put((await swarm.hostBlobs.get(own))!, { expected: own })
      await expect(report(own)).rejects.toBeDefined()
    }
    // An artifact that is made of the run's own chunks, under a root of the peer's.
    await blobs.put(toyShard)
    await expect(report(await putArtifact(blobs, toyShard))).rejects.toBeDefined()
    const after = new Set((await swarm.hostBlobs.list()).map(({ cid }) => cid))
    expect(after).toEqual(before)
  })

  test('updates for other rounds, second updates, and copies', async () => {
    await join()
    const first = await putArtifact(blobs, genuine())
    await unchanged(() => report(first, { round: 2 }), 'round/closed')
    await report(first)
    await swarm.until(({ round }) => round === 2)
    await unchanged(() => report(first, { round: 2 }), 'round/copy')
    const late = await putArtifact(blobs, genuine(0.02))
    await unchanged(() => report(late, { round: 1 }), 'round/closed')
    // The answer to the first may have been lost: saying it again is no offence.
    await report(first)
  })

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
    await ask('ready', null)
    const body = { round: 1, tokens: 24, loss: 1 }
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
})
