/**
 * Sending and receiving frames on a js-libp2p stream with bounded memory. Two of its conveniences are avoided, as
 * both lose back-pressure (libp2p 3.3.11, @libp2p/utils 7.4.1): `stream.onDrain()` no longer waits after its first
 * use, and `for await (… of stream)` queues without bound. Here the sender waits for the `drain` event, and the
 * receiver copies each message as it comes into a buffer whose size was agreed beforehand.
 */
import type { Stream } from '@libp2p/interface'
import { type Pace, pacingLimits } from './pacing.ts'

/** The other side ended or reset the stream, or sent more than it announced. */
export class StreamBroken extends Error {
  override readonly name = 'StreamBroken'
}

export interface Sending {
  readonly signal: AbortSignal
  /** Hears of each piece that the stream took. */
  readonly onSent: (bytes: number) => void
  /** The cap of one's own, if there is one. */
  readonly pace?: Pace | undefined
}

/** Sends all bytes, at the pace of the reader and within one's own cap. */
export async function sendAll(stream: Stream, bytes: Uint8Array, options: Sending): Promise<void> {
  const { pace } = options
  const frameBytes = pace?.frameBytes ?? pacingLimits.maxFrameBytes
  for (let offset = 0; offset < bytes.byteLength; offset += frameBytes) {
    options.signal.throwIfAborted()
    const frame = bytes.subarray(offset, offset + frameBytes)
    if (pace !== undefined) await pace.take(frame.byteLength, options.signal)
    const ready = stream.send(frame)
    options.onSent(frame.byteLength)
    if (!ready) await drained(stream, options.signal)
  }
}

/** Resolves when the stream takes more. */
function drained(stream: Stream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => (): void => {
      stream.removeEventListener('drain', onDrain)
      stream.removeEventListener('close', onClose)
      signal.removeEventListener('abort', onAbort)
      act()
    }
    const onDrain = settle(resolve)
    const onClose = settle(() => reject(new StreamBroken('closed while there was more to send')))
    const onAbort = settle(() => reject(signal.reason))
    if (!stream.writableNeedsDrain) return resolve()
    if (stream.status !== 'open') return reject(new StreamBroken(`it is ${stream.status}`))
    stream.addEventListener('drain', onDrain)
    stream.addEventListener('close', onClose)
    signal.addEventListener('abort', onAbort)
  })
}

export interface FrameShape {
  readonly headerBytes: number
  /** How long the body is by this header; throws when that is not acceptable. */
  readonly bodyBytes: (header: Uint8Array) => number
  readonly signal: AbortSignal
  readonly onReceived: (bytes: number) => void
}

export interface Frame {
  readonly header: Uint8Array
  readonly body: Uint8Array
}

/**
 * Receives one frame and nothing more: bytes beyond it abort the stream, also after the frame is complete. When it
 * rejects, the stream is still there to be answered or aborted, and whatever else comes on it is dropped. Must be
 * called in the turn in which the stream was obtained, so that no message goes by.
 */
export function receiveFrame(stream: Stream, shape: FrameShape): Promise<Frame> {
  const { signal } = shape
  return new Promise((resolve, reject) => {
    const header = new Uint8Array(shape.headerBytes)
    let body: Uint8Array | undefined
    let filled = 0 // of the header, then of the body
    let settled = false
    let failed = false // what still comes is dropped

    const detach = (): void => {
      stream.removeEventListener('end', onEnd)
      stream.removeEventListener('close', onEnd)
      signal.removeEventListener('abort', onAbort)
    }
    const fail = (reason: unknown): void => {
      if (settled) return
      settled = failed = true
      detach()
      reject(reason)
    }
    const onAbort = (): void => fail(signal.reason)
    const onEnd = (): void => fail(new StreamBroken('it ended before all of the message had come'))
    /** Copies what belongs there; the bytes that are left. */
    const take = (into: Uint8Array, bytes: Uint8Array): Uint8Array => {
      const taken = Math.min(into.byteLength - filled, bytes.byteLength)
      into.set(bytes.subarray(0, taken), filled)
      filled += taken
      return bytes.subarray(taken)
    }
    const accept = (bytes: Uint8Array): void => {
      let rest = bytes
      if (body === undefined) {
        rest = take(header, rest)
        if (filled < header.byteLength) return
        body = new Uint8Array(shape.bodyBytes(header))
        filled = 0
      }
      rest = take(body, rest)
      if (rest.byteLength > 0) {
        const excess = new StreamBroken('more came than was announced')
        fail(excess)
        failed = true
        stream.abort(excess)
      } else if (filled === body.byteLength) {
        settled = true
        detach()
        resolve({ header, body })
      }
    }
    if (signal.aborted) return onAbort()
    // What came during protocol selection is delivered in a microtask after this.
    stream.addEventListener('message', ({ data }) => {
      for (const bytes of data instanceof Uint8Array ? [data] : data) {
        if (failed) return
        shape.onReceived(bytes.byteLength)
        try {
          accept(bytes)
        } catch (thrown) {
          fail(thrown)
        }
      }
    })
    stream.addEventListener('end', onEnd)
    stream.addEventListener('close', onEnd)
    signal.addEventListener('abort', onAbort)
    // An end that came before is not told again; by then what was left has been delivered.
    queueMicrotask(() => {
      if (stream.readableEnded || stream.status !== 'open') onEnd()
    })
  })
}

/**
 * Ends a stream on which all was said: closes this half and, if the other side does not close its own in time,
 * aborts, so that nobody can keep streams open for nothing. Never rejects.
 */
export async function finish(stream: Stream, within: (work: Work) => Promise<void>): Promise<void> {
  try {
    await within(async (signal) => {
      await stream.close({ signal })
      if (stream.status === 'open') await closedByOther(stream, signal)
    })
  } catch (thrown) {
    stream.abort(thrown instanceof Error ? thrown : new StreamBroken('it was left open'))
  }
}

type Work = (signal: AbortSignal) => Promise<void>

function closedByOther(stream: Stream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    stream.addEventListener(
      'close',
      () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      },
      { once: true },
    )
  })
}
