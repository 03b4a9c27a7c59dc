import { createServer, type Server, type Socket, connect as tcpConnect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { seededRandom } from '../../src/core/index.ts'
import { goodLine, proxyLimits, startProxy, type TcpProxy } from './proxy.ts'

const opened: AsyncDisposable[] = []
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each[Symbol.asyncDispose]()
})

/** A server that sends back what it gets, and a proxy before it. */
async function setUp(serve: (socket: Socket) => void = (socket) => socket.pipe(socket)): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    serve(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  opened.push({
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  })
  const { port } = server.address() as { port: number }
  const proxy = await startProxy({ targetPort: port, random: seededRandom('proxy') })
  opened.push(proxy)
  return proxy
}

function connectTo(proxy: TcpProxy): Socket & { readonly got: () => string; readonly over: Promise<void> } {
  const socket = tcpConnect(proxy.port, '127.0.0.1')
  let text = ''
  socket.on('error', () => {})
  socket.setEncoding('utf8').on('data', (more) => (text += more))
  const over = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  opened.push({ [Symbol.asyncDispose]: async () => void socket.destroy() })
  return Object.assign(socket, { got: () => text, over })
}

async function until(satisfied: () => boolean): Promise<void> {
  while (!satisfied()) await sleep(5)
}

test('a good line carries everything both ways, and its end', async () => {
  const proxy = await setUp()
  const client = connectTo(proxy)
  const text = 'x'.repeat(1_000_000)
  client.end(text)
  await client.over
  expect(client.got() === text).toBe(true)
  await until(() => proxy.connections === 0)
})

test('delay, loss and a narrow line keep the order and every byte', async () => {
  const proxy = await setUp()
  proxy.change({ delayMs: 10, lossProbability: 0.2, bytesPerSecond: 500_000 })
  const client = connectTo(proxy)
  const text = Array.from({ length: 10_000 }, (_, i) => `${i},`).join('')
  client.end(text)
  await client.over
  expect(client.got() === text).toBe(true)
})

test('a stalled line holds what is under way and goes on with it', async () => {
  const proxy = await setUp()
  const client = connectTo(proxy)
  client.write('before ')
  await until(() => client.got() === 'before ')
  proxy.change({ stalled: true })
  client.write('during ')
  await until(() => proxy.heldBytes > 0)
  expect(client.got()).toBe('before ')
  proxy.change(goodLine)
  await until(() => client.got() === 'before during ')
})

test('a partition answers nobody, and ends by breaking what it held up', async () => {
  const proxy = await setUp()
  const old = connectTo(proxy)
  old.write('before')
  await until(() => old.got() === 'before')
  proxy.change({ parted: true })
  const young = connectTo(proxy)
  old.write('during')
  young.write('during')
  await until(() => proxy.connections === 2)
  proxy.change(goodLine)
  await Promise.all([old.over, young.over])
  expect([old.got(), young.got()]).toEqual(['before', ''])
  const next = connectTo(proxy)
  next.write('after')
  await until(() => next.got() === 'after')
})

test('a cut breaks every connection at once', async () => {
  const proxy = await setUp()
  const clients = [connectTo(proxy), connectTo(proxy)]
  for (const client of clients) client.write('x')
  await until(() => clients.every((client) => client.got() === 'x'))
  proxy.cut()
  await Promise.all(clients.map(({ over }) => over))
  expect(proxy.connections).toBe(0)
})

test('a target that does not answer is a connection that is broken', async () => {
  const proxy = await startProxy({ targetPort: 1, random: seededRandom('proxy') })
  opened.push(proxy)
  await connectTo(proxy).over
})

test('a reader that has stopped makes its sender wait: what is held stays bounded', async () => {
  const proxy = await setUp((socket) => socket.pause())
  const client = connectTo(proxy)
  const chunk = 'x'.repeat(65_536)
  for (let i = 0; i < 400; i++) client.write(chunk)
  let held = -1
  while (held !== client.writableLength) {
    held = client.writableLength
    await sleep(100)
  }
  expect(client.writableLength).toBeGreaterThan(0)
  expect(proxy.heldBytes).toBeLessThanOrEqual(proxyLimits.heldBytes + 65_536)
})
