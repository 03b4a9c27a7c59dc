/**
 * A long, thin or broken line between two processes: a TCP proxy that delays, slows, cuts, stalls and partitions, for
 * tests, benchmarks and chaos. What is under way on it is bounded, and both ends feel the back-pressure.
 */
import { connect, createServer, type Socket } from 'node:net'
import { type Random, type SeedPart, seededRandom, systemClock } from '../src/core/index.ts'
import { TokenBucket } from '../src/swarm/token-bucket.ts'

export interface ProxyInit {
  readonly target: { readonly host?: string; readonly port: number }
  /** One way; a round trip takes twice as long. */
  readonly delayMs?: number
  /** Added to the delay, drawn uniformly from [0, jitterMs); the order of bytes stays. */
  readonly jitterMs?: number
  /** Of each direction of all connections together. */
  readonly bytesPerSecond?: number
  /** That a connection breaks, for each piece of at most 64 KiB that comes. */
  readonly cutProbability?: number
  readonly seed?: SeedPart
  /** Under way in one direction of one connection; at least rate times delay, or the line is slower than that. */
  readonly maxBytesUnderWay?: number
}

export interface Proxy extends AsyncDisposable {
  readonly port: number
  readonly connections: number
  /** Bytes that have passed, both directions. */
  readonly passedBytes: number
  /** The most that was under way at a time in one direction of a connection. */
  readonly mostBytesUnderWay: number
  /** From now on nothing passes, and newcomers hear nothing, until `heal`. */
  partition(): void
  heal(): void
  /** Connections that are open now pass nothing any more; newcomers do. */
  stall(): void
  /** Breaks all connections that are open now. */
  cut(): void
}

const defaultBytesUnderWay = 32 * 1024 * 1024

interface Piece {
  readonly at: number
  readonly bytes: Buffer
}

export async function startProxy(init: ProxyInit): Promise<Proxy> {
  const lines = new Set<Line>()
  const random = seededRandom('proxy', init.seed ?? 0)
  const bucket = (): TokenBucket | undefined =>
    init.bytesPerSecond === undefined
      ? undefined
      : new TokenBucket({ bytesPerSecond: init.bytesPerSecond, clock: systemClock() })
  const buckets = { there: bucket(), back: bucket() }
  const counts = { passed: 0, most: 0 }
  let parted: PromiseWithResolvers<void> | undefined
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (near) => {
    const { port, host = '127.0.0.1' } = init.target
    const far = connect({ port, host, allowHalfOpen: true })
    const line: Line = { near, far, stalled: false }
    lines.add(line)
    const cut = (): void => {
      near.destroy()
      far.destroy()
      lines.delete(line)
    }
    for (const socket of [near, far]) {
      socket.setNoDelay(true)
      socket.on('error', cut)
      socket.on('close', () => {
        if (near.destroyed && far.destroyed) lines.delete(line)
      })
    }
    const passing = async (): Promise<void> => {
      if (line.stalled) await new Promise(() => undefined)
      await parted?.promise
    }
    carry(near, far, { init, random, bucket: buckets.there, counts, passing, cut })
    carry(far, near, { init, random, bucket: buckets.back, counts, passing, cut })
    near.resume()
  })
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const cutAll = (): void => {
    for (const { near, far } of [...lines]) for (const socket of [near, far]) socket.destroy()
  }
  return {
    port: (server.address() as { port: number }).port,
    get connections() {
      return lines.size
    },
    get passedBytes() {
      return counts.passed
    },
    get mostBytesUnderWay() {
      return counts.most
    },
    partition: () => {
      parted ??= Promise.withResolvers()
    },
    heal: () => {
      parted?.resolve()
      parted = undefined
    },
    stall: () => {
      for (const line of lines) line.stalled = true
    },
    cut: cutAll,
    [Symbol.asyncDispose]: async () => {
      parted?.resolve()
      cutAll()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

interface Line {
  readonly near: Socket
  readonly far: Socket
  stalled: boolean
}

interface Carrying {
  readonly init: ProxyInit
  readonly random: Random
  readonly bucket: TokenBucket | undefined
  readonly counts: { passed: number; most: number }
  /** Resolves when bytes may pass. */
  readonly passing: () => Promise<void>
  readonly cut: () => void
}

/** One direction: what comes waits for its time in a queue of bounded size. */
function carry(from: Socket, to: Socket, { init, random, bucket, counts, passing, cut }: Carrying): void {
  const { delayMs = 0, jitterMs = 0, cutProbability = 0, maxBytesUnderWay = defaultBytesUnderWay } = init
  const queue: Piece[] = []
  let queuedBytes = 0
  let ended = false
  let carrying = false
  let lastAt = 0
  const run = async (): Promise<void> => {
    if (carrying) return
    carrying = true
    for (let piece = queue.shift(); piece !== undefined; piece = queue.shift()) {
      const waitMs = piece.at - performance.now()
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs))
      await passing()
      await bucket?.take(piece.bytes.byteLength)
      if (to.destroyed) return
      if (!to.write(piece.bytes)) await roomIn(to)
      queuedBytes -= piece.bytes.byteLength
      counts.passed += piece.bytes.byteLength
      if (from.isPaused() && queuedBytes < maxBytesUnderWay / 2) from.resume()
    }
    carrying = false
    if (ended) to.end()
  }
  from.on('data', (bytes: Buffer) => {
    if (cutProbability > 0 && random.nextFloat() < cutProbability) return cut()
    lastAt = Math.max(lastAt, performance.now() + delayMs + jitterMs * random.nextFloat())
    queue.push({ at: lastAt, bytes })
    queuedBytes += bytes.byteLength
    counts.most = Math.max(counts.most, queuedBytes)
    if (queuedBytes >= maxBytesUnderWay) from.pause()
    void run()
  })
  from.on('end', () => {
    ended = true
    void run()
  })
}

function roomIn(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      socket.off('drain', settle)
      socket.off('close', settle)
      resolve()
    }
    socket.on('drain', settle)
    socket.on('close', settle)
  })
}
