import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { type ProxyInit, startProxy } from './proxy.ts'

const mebibyte = 1024 * 1024

describe('the proxy', () => {
  const servers: Server[] = []
  afterEach(() => {
    for (const server of servers.splice(0)) server.close()
  })

  async function serve(answer: (socket: Socket) => void): Promise<ProxyInit['target']> {
    const server = createServer((socket) => {
      socket.on('error', () => undefined)
      answer(socket)
    }).listen(0, '127.0.0.1')
    servers.push(server)
    await new Promise((resolve) => server.once('listening', resolve))
    return { port: (server.address() as { port: number }).port }
  }
  const echo = (socket: Socket): void => void socket.pipe(socket)
  const dial = (port: number): Socket => connect(port, '127.0.0.1').on('error', () => undefined)
  const read = async (socket: Socket, bytes: number): Promise<Buffer> => {
    const parts: Buffer[] = []
    let count = 0
    for await (const part of socket.iterator({ destroyOnReturn: false })) {
      parts.push(part as Buffer)
      count += (part as Buffer).byteLength
      if (count >= bytes) break
    }
    return Buffer.concat(parts)
  }

  test('passes bytes on in order, delayed, and the end of each side', async () => {
    await using proxy = await startProxy({ target: await serve(echo), delayMs: 20, jitterMs: 20 })
    const socket = dial(proxy.port)
    const sent = Buffer.from(Uint8Array.from({ length: 2 * mebibyte }, (_, i) => i % 251))
    const from = performance.now()
    socket.end(sent)
    const back = await read(socket, sent.byteLength)
    expect(performance.now() - from).toBeGreaterThanOrEqual(39)
    expect(Buffer.compare(back, sent)).toBe(0)
    expect(proxy.passedBytes).toBe(2 * sent.byteLength)
  })

  test('is never faster than its rate', async () => {
    const rate = 8 * mebibyte
    await using proxy = await startProxy({ target: await serve(echo), bytesPerSecond: rate })
    const socket = dial(proxy.port)
    const from = performance.now()
    socket.write(Buffer.alloc(4 * mebibyte))
    await read(socket, 4 * mebibyte)
    const most = (rate * (performance.now() - from)) / 1000 + rate / 4 + 65_536
    expect(4 * mebibyte).toBeLessThanOrEqual(most)
    socket.destroy()
  })

  test('holds bounded memory for a reader that does not read', async () => {
    const most = mebibyte
    await using proxy = await startProxy({
      target: await serve((s) => void s.pause()),
      maxBytesUnderWay: most,
    })
    const socket = dial(proxy.port)
    let accepted = 0
    const push = (): void => {
      while (accepted < 64 * mebibyte && socket.write(Buffer.alloc(65_536))) accepted += 65_536
    }
    socket.on('drain', push)
    push()
    await expect.poll(() => proxy.mostBytesUnderWay).toBeGreaterThanOrEqual(most)
    const before = accepted
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(accepted - before).toBeLessThan(4 * mebibyte)
    expect(proxy.mostBytesUnderWay).toBeLessThan(most + 65_537)
    socket.destroy()
  })

  test('partitions and heals: what was sent meanwhile arrives afterwards', async () => {
    await using proxy = await startProxy({ target: await serve(echo) })
    const socket = dial(proxy.port)
    socket.write('a')
    expect(String(await read(socket, 1))).toBe('a')
    proxy.partition()
    socket.write('b')
    const newcomer = dial(proxy.port)
    newcomer.write('c')
    const passed = proxy.passedBytes
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(proxy.passedBytes).toBe(passed)
    proxy.heal()
    expect(String(await read(socket, 1))).toBe('b')
    expect(String(await read(newcomer, 1))).toBe('c')
    for (const each of [socket, newcomer]) each.destroy()
  })

  test('stalls what is open and lets newcomers through; cuts on demand', async () => {
    await using proxy = await startProxy({ target: await serve(echo) })
    const old = dial(proxy.port)
    old.write('a')
    await read(old, 1)
    proxy.stall()
    old.write('b')
    const young = dial(proxy.port)
    young.write('c')
    expect(String(await read(young, 1))).toBe('c')
    const closed = [old, young].map((socket) => new Promise((resolve) => socket.on('close', resolve)))
    expect(proxy.connections).toBe(2)
    proxy.cut()
    await Promise.all(closed)
    expect(proxy.connections).toBe(0)
  })

  test('cuts at the same pieces for the same seed', async () => {
    const answered = async (seed: number): Promise<number> => {
      await using proxy = await startProxy({ target: await serve(echo), cutProbability: 0.05, seed })
      const socket = dial(proxy.port)
      for (let i = 0; i < 200; i++) {
        socket.write('x')
        if ((await read(socket, 1)).byteLength === 0) return i
      }
      return 200
    }
    const first = await answered(1)
    expect(first).toBeLessThan(200)
    expect(await answered(1)).toBe(first)
    expect(new Set([first, await answered(2), await answered(3), await answered(4)]).size).toBeGreaterThan(1)
  })
})
