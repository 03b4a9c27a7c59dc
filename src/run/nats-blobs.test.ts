import { jetstream } from '@nats-io/jetstream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Cid, cidOf } from '../core/index.ts'
// The suite is no part of the room's public face.
import { runBlobsSuite } from '../swarm/blobs-suite.ts'
import { memoryBlobs, putArtifact, readArtifact, tieredBlobs } from '../swarm/index.ts'
import { natsBlobs } from './nats-blobs.ts'
import { connectNats, type NatsConnection } from './nats-connection.ts'
import { type NatsServer, natsInstalled, startNatsServer } from './nats-fixture.ts'

describe.skipIf(!natsInstalled)('blobs on NATS', () => {
  let server: NatsServer
  let connection: NatsConnection
  let buckets = 0
  const fresh = (): string => `bucket-${buckets++}`
  beforeAll(async () => {
    server = await startNatsServer()
    connection = await connectNats(server.url)
  })
  afterAll(async () => {
    await connection.close()
    await server.stop()
  })

  runBlobsSuite({ name: 'NATS', make: (options) => natsBlobs({ connection, bucket: fresh(), ...options }) })
  runBlobsSuite({
    name: 'NATS behind a store in memory',
    make: async (options) =>
      tieredBlobs(memoryBlobs(), await natsBlobs({ connection, bucket: fresh(), ...options })),
  })

  const content = Uint8Array.from({ length: 600_000 }, (_, i) => (i * 7) & 0xff)

  test('another host finds them, also after the server was killed and started again', async () => {
    await using own = await startNatsServer()
    const first = await connectNats(own.url, { reconnectAfterMs: 50 })
    const blobs = await natsBlobs({ connection: first, bucket: 'run' })
    const root = await putArtifact(blobs, content)
    await own.restart()
    const second = await connectNats(own.url, { reconnectAfterMs: 50 })
    const elsewhere = await natsBlobs({ connection: second, bucket: 'run' })
    expect(await readArtifact(elsewhere, root, { maxBytes: content.byteLength })).toEqual(content)
    await Promise.all([first.close(), second.close()])
  })

  test('one that was damaged counts as not there, is told of, and can be put again', async () => {
    const bucket = fresh()
    const damaged: Cid[] = []
    const blobs = await natsBlobs({ connection, bucket, onDamaged: (cid) => damaged.push(cid) })
    const cid = await blobs.put(content)
    for (const forged of [content.subarray(0, 100), new Uint8Array(100)]) {
      await jetstream(connection).publish(`groundswell.blobs.${bucket}.${cid}.1`, forged)
      expect(await blobs.get(cid)).toBeUndefined()
      expect(await blobs.has(cid)).toBe(false)
      await blobs.put(content)
      expect(await blobs.get(cid)).toEqual(content)
    }
    expect(damaged).toEqual([cid, cid])
  })

  test.each(['99999999999', '-1', 'x', '', '1e9'])(
    'one whose length says “%s” asks for nothing and is not there',
    async (length) => {
      const bucket = fresh()
      const blobs = await natsBlobs({ connection, bucket })
      const cid = await cidOf(content)
      await jetstream(connection).publish(`groundswell.blobs.${bucket}.${cid}`, length)
      expect(await blobs.get(cid)).toBeUndefined()
    },
  )

  test('a half-sent one is not there', async () => {
    const bucket = fresh()
    const blobs = await natsBlobs({ connection, bucket })
    const cid = await cidOf(content)
    await jetstream(connection).publish(`groundswell.blobs.${bucket}.${cid}.0`, content.subarray(0, 262_144))
    expect([await blobs.has(cid), await blobs.get(cid), await blobs.list()]).toEqual([false, undefined, []])
    await blobs.put(content)
    expect(await blobs.get(cid)).toEqual(content)
  })

  test('the quota counts what other hosts have put and deleted', async () => {
    const bucket = fresh()
    const first = await natsBlobs({ connection, bucket, quotaBytes: 10 })
    const cid = await first.put(new Uint8Array(8))
    const second = await natsBlobs({ connection, bucket, quotaBytes: 10 })
    await expect(second.put(new Uint8Array(5))).rejects.toMatchObject({ code: 'blob/quota' })
    await first.delete(cid)
    await second.put(new Uint8Array(5))
  })

  test('says that a server hangs, in words', async () => {
    await using own = await startNatsServer()
    const connected = await connectNats(own.url, { reconnectAfterMs: 50 })
    const blobs = await natsBlobs({ connection: connected, bucket: 'b', answerWithinMs: 1000 })
    own.freeze()
    await expect(blobs.put(content)).rejects.toMatchObject({
      code: 'blob/unreachable',
      message: expect.stringContaining('has not answered for 1 s'),
    })
    own.thaw()
    await connected.close()
  })

  test('a name that is none never becomes a subject', async () => {
    await expect(natsBlobs({ connection, bucket: 'a.>' })).rejects.toMatchObject({ code: 'blob/bad-name' })
  })
})
