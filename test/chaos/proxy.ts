/**
 * A bad line for TCP: a proxy in user land that delays, loses, narrows, stalls, parts and breaks connections. It needs no
 * right that `tc netem` would need. TCP hides lost packets behind retransmissions, so what a connection sees of a loss
 * is a chunk that comes late, and everything behind it with it; that is what `lossProbability` does.
 */
import { createServer, type Server, type Socket, connect as tcpConnect } from 'node:net'
import type { Random } from '../../src/core/index.ts'

export interface LineState {
  /** One way, give or take a half of it. */
  readonly delayMs: number
  /** Of a chunk (at most 64 KiB) to come a retransmission later. */
  readonly lossProbability: number
  readonly bytesPerSecond: number
  /** Nothing passes; what is under way waits. */
  readonly stalled: boolean
  /** Nothing passes, and a new connection gets no answer. */
  readonly parted: boolean
}

export const goodLine: LineState = {
  delayMs: 0,
  lossProbability: 0,
  bytesPerSecond: Number.POSITIVE_INFINITY,
  stalled: false,
  parted: false,
}

export interface TcpProxy extends AsyncDisposable {
  readonly port: number
  readonly connections: number
  /** Bytes that are held back at the moment, over all connections. */
  readonly heldBytes: number
  readonly state: LineState
  change(state: Partial<LineState>): void
  /** Breaks all connections, as a reset does. */
  cut(): void
}

export const proxyLimits: { readonly heldBytes: number; readonly retransmissionMs: number } = {
  /** Held for one direction of one connection; a sender that is ahead by so much is made to wait. */
  heldBytes: 256 * 1024,
  retransmissionMs: 250,
}

export interface ProxyInit {
  /** On this machine. */
  readonly targetPort: number
  readonly random: Random
}

/** Listens on a free port of this machine. */
export async function startProxy({ targetPort, random }: ProxyInit): Promise<TcpProxy> {
  const lines = new Set<Line>()
  let state = goodLine
  const server: Server = createServer({ allowHalfOpen: true }, (near) => {
    const line = new Line(near, { targetPort, random, state: () => state })
    lines.add(line)
    line.onEnd(() => lines.delete(line))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const cut = (): void => {
    for (const line of [...lines]) line.cut()
  }
  return {
    port: (server.address() as { port: number }).port,
    get connections() {
      return lines.size
    },
    get heldBytes() {
      return [...lines].reduce((total, line) => total + line.heldBytes, 0)
    },
    get state() {
      return state
    },
    change: (change) => {
      const before = state
      state = { ...state, ...change }
      if (before.parted && !state.parted) cut()
      for (const line of lines) line.wake()
    },
    cut,
    [Symbol.asyncDispose]: async () => {
      cut()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

interface LineInit {
  readonly targetPort: number
  readonly random: Random
  readonly state: () => LineState
}

/** One connection: to the proxy, and on to the target. */
class Line {
  private readonly near: Socket
  private readonly far: Socket | undefined
  private readonly directions: readonly Direction[]
  private readonly ended: (() => void)[] = []
  private over = false

  constructor(near: Socket, init: LineInit) {
    this.near = near
    // In a partition it is taken, because nothing less can be done here, and never answered.
    this.far = init.state().parted
      ? undefined
      : tcpConnect({ port: init.targetPort, host: '127.0.0.1', allowHalfOpen: true })
    this.directions =
      this.far === undefined ? [] : [new Direction(near, this.far, init), new Direction(this.far, near, init)]
    for (const socket of [near, this.far]) {
      socket?.setNoDelay(true)
      socket?.on('error', () => this.cut())
      socket?.on('close', () => this.afterClose())
    }
  }

  get heldBytes(): number {
    return this.directions.reduce((total, { heldBytes }) => total + heldBytes, 0)
  }

  onEnd(listener: () => void): void {
    this.ended.push(listener)
  }

  wake(): void {
    for (const direction of this.directions) direction.wake()
  }

  /** A closed end may have said things that are still on their way to the other one. */
  private afterClose(): void {
    const waiting = this.directions.some((direction) => direction.isDelivering)
    if (!waiting || (this.near.closed && this.far?.closed !== false)) this.cut()
  }

  cut(): void {
    if (this.over) return
    this.over = true
    for (const direction of this.directions) direction.stop()
    for (const socket of [this.near, this.far]) {
      if (socket !== undefined && !socket.destroyed) socket.resetAndDestroy()
    }
    for (const listener of this.ended) listener()
  }
}

/** Chunks in their order, each held until its time has come. */
class Direction {
  heldBytes = 0
  private readonly from: Socket
  private readonly to: Socket
  private readonly init: LineInit
  private readonly queue: { readonly bytes: Buffer; readonly dueAt: number }[] = []
  private timer: NodeJS.Timeout | undefined
  /** When the last chunk that was taken is due, and when a narrow line is free again. */
  private lastDueAt = 0
  private freeAt = 0
  private sourceEnded = false
  private blocked = false
  private stopped = false

  constructor(from: Socket, to: Socket, init: LineInit) {
    this.from = from
    this.to = to
    this.init = init
    from.on('data', (bytes) => this.take(bytes))
    from.on('end', () => {
      this.sourceEnded = true
      this.wake()
    })
    to.on('drain', () => {
      this.blocked = false
      this.wake()
    })
  }

  /** Whether its source has said all it had to say, and the other end has not heard all of it. */
  get isDelivering(): boolean {
    return this.sourceEnded && !this.to.writableEnded
  }

  stop(): void {
    this.stopped = true
    clearTimeout(this.timer)
    this.queue.length = 0
    this.heldBytes = 0
  }

  wake(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    if (!this.stopped) this.deliver()
  }

  private take(bytes: Buffer): void {
    const { random } = this.init
    const { delayMs, lossProbability } = this.init.state()
    const lost = lossProbability > 0 && random.nextFloat() < lossProbability
    const lateMs =
      delayMs * (0.5 + random.nextFloat()) +
      (lost ? proxyLimits.retransmissionMs * (1 + random.nextFloat()) : 0)
    this.lastDueAt = Math.max(this.lastDueAt, performance.now() + (delayMs === 0 && !lost ? 0 : lateMs))
    this.queue.push({ bytes, dueAt: this.lastDueAt })
    this.heldBytes += bytes.byteLength
    if (this.heldBytes >= proxyLimits.heldBytes) this.from.pause()
    if (this.timer === undefined) this.deliver()
  }

  private deliver(): void {
    for (;;) {
      const { stalled, parted, bytesPerSecond } = this.init.state()
      if (this.blocked || stalled || parted) return // woken when that is over
      const next = this.queue[0]
      if (next === undefined) {
        if (this.sourceEnded) this.to.end()
        return
      }
      const waitMs = Math.max(next.dueAt, this.freeAt) - performance.now()
      if (waitMs > 0) {
        this.timer = setTimeout(() => this.wake(), waitMs)
        return
      }
      this.queue.shift()
      this.heldBytes -= next.bytes.byteLength
      this.freeAt = Math.max(performance.now(), this.freeAt) + (1000 * next.bytes.byteLength) / bytesPerSecond
      if (this.heldBytes < proxyLimits.heldBytes) this.from.resume()
      this.blocked = !this.to.write(next.bytes)
    }
  }
}
