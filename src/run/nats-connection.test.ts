import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connectNats } from './nats-connection.ts'
import { type NatsServer, natsInstalled, startNatsServer } from './nats-fixture.ts'

const folder = mkdtempSync(join(tmpdir(), 'groundswell-nats-connection-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('a connection to NATS', () => {
  test.each(['localhost:4222', 'http://localhost', 'ws://localhost', 'nats://', 'nonsense', ''])(
    'does not take “%s” for an address',
    async (url) => {
      await expect(connectNats(url)).rejects.toMatchObject({
        code: 'nats/bad-url',
        remedy: expect.stringContaining('nats://HOST:4222'),
      })
    },
  )

  test('does not repeat a password', async () => {
    const refused = expect.objectContaining({ message: expect.not.stringContaining('secret') })
    await expect(connectNats('http://me:secret@host')).rejects.toEqual(refused)
    await expect(connectNats('nats://me:secret@127.0.0.1:1')).rejects.toEqual(refused)
  })

  test('says that nobody is there', async () => {
    await expect(connectNats('nats://127.0.0.1:1')).rejects.toMatchObject({
      code: 'nats/unreachable',
      message: expect.stringContaining('127.0.0.1:1'),
      remedy: expect.stringContaining('Check the address'),
    })
  })

  test('says that whoever is there says nothing', async () => {
    const silent = createServer(() => undefined)
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const { port } = silent.address() as { port: number }
    await expect(connectNats(`nats://127.0.0.1:${port}`, { connectWithinMs: 100 })).rejects.toMatchObject({
      code: 'nats/unreachable',
    })
    silent.close()
  })

  test('says that whoever is there speaks something else', async () => {
    const other = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as { port: number }
    await expect(connectNats(`nats://127.0.0.1:${port}`)).rejects.toMatchObject({ code: 'nats/unreachable' })
    other.close()
  })

  test('says that a file of credentials is not there, or is none', async () => {
    const credentialsFile = join(folder, 'user.creds')
    await expect(connectNats('nats://127.0.0.1:1', { credentialsFile })).rejects.toMatchObject({
      code: 'nats/credentials',
      message: expect.stringContaining(credentialsFile),
    })
    await expect(connectNats('tls://127.0.0.1:1', { caFile: credentialsFile })).rejects.toMatchObject({
      code: 'nats/credentials',
    })
    writeFileSync(credentialsFile, 'nothing of the kind')
    await expect(connectNats('nats://127.0.0.1:1', { credentialsFile })).rejects.toMatchObject({
      code: 'nats/credentials',
      message: expect.stringContaining('holds no NATS credentials'),
    })
  })
})

describe.skipIf(!natsInstalled)('a connection to a NATS server', () => {
  let server: NatsServer
  beforeAll(async () => {
    server = await startNatsServer({ user: 'host', password: 'p@ss' })
  })
  afterAll(() => server.stop())
  const withLogin = (login: string): string => server.url.replace('nats://', `nats://${login}@`)

  test('logs in with what stands in the address', async () => {
    const connection = await connectNats(withLogin('host:p%40ss'))
    expect(connection.isClosed()).toBe(false)
    await connection.close()
  })

  test('takes one of several servers', async () => {
    const connection = await connectNats(`nats://127.0.0.1:1, ${withLogin('host:p%40ss')}`)
    await connection.close()
  })

  test.each(['', 'host:wrong@', 'token@', 'host:100%@'])(
    'says that the login “%s” is not accepted',
    async (login) => {
      await expect(connectNats(server.url.replace('nats://', `nats://${login}`))).rejects.toMatchObject({
        code: 'nats/not-authorised',
        remedy: expect.stringContaining('USER:PASSWORD'),
      })
    },
  )

  test('insists on encryption with tls://', async () => {
    const url = withLogin('host:p%40ss').replace('nats://', 'tls://')
    await expect(connectNats(url)).rejects.toMatchObject({
      code: 'nats/tls',
      remedy: expect.stringContaining('nats://'),
    })
  })

  test('says that JetStream is not enabled', async () => {
    await using plain = await startNatsServer({ jetstream: false })
    await expect(connectNats(plain.url)).rejects.toMatchObject({
      code: 'nats/no-jetstream',
      remedy: expect.stringContaining('nats-server -js'),
    })
  })
})
