/**
 * One request and its reply on one stream: the asking and the answering side. Every way in which the other side may
 * misbehave ends in a counted refusal and a clean error, and never in more memory than was agreed.
 */
import type { Stream } from '@libp2p/interface'
import { GroundswellError, messageOf } from '../core/index.ts'
import type { Deadline } from './deadline.ts'
import { broken, malformedReply, oversizedReply } from './errors.ts'
import {
  type Answer,
  decodeWireError,
  encodeWireError,
  type HandlerTable,
  oversizedRequest,
} from './handlers.ts'
import type { PeerLedger } from './ledger.ts'
import { finish, receiveFrame, StreamBroken, sendAll } from './libp2p-stream.ts'
import type { Pacer } from './pacing.ts'
import type { PeerId } from './peer-id.ts'
import { errorFrom, type ProtocolId, transportLimits, type WireError } from './transport.ts'
import {
  decodeReplyHeader,
  decodeRequestHeader,
  encodeReplyHeader,
  encodeRequestHeader,
  replyHeaderBytes,
  requestHeaderBytes,
} from './wire.ts'

/** What both sides need of the transport. */
export interface Exchanging {
  readonly ledger: PeerLedger
  readonly pacer: Pacer
  readonly protocol: ProtocolId
  /** Runs work that ends with its deadline or with the transport. */
  readonly within: <Result>(
    deadline: Omit<Deadline, 'clock'>,
    work: (signal: AbortSignal, progress: () => void) => Promise<Result>,
  ) => Promise<Result>
}

export interface Asking extends Exchanging {
  readonly peer: PeerId
  readonly bytes: Uint8Array
  /** Hears of what came, for the cap. */
  readonly onReceived: (bytes: number) => void
  readonly maxReplyBytes: number
  readonly signal: AbortSignal
  readonly progress: () => void
}

/** How long the other side may take to close its half of a stream on which all was said. */
const lingerMs = 5000

export async function askOn(stream: Stream, asking: Asking): Promise<Uint8Array> {
  const { ledger, pacer, protocol, peer, bytes, signal, progress } = asking
  const reply = receiveFrame(stream, {
    headerBytes: replyHeaderBytes,
    bodyBytes: (header) => replyBytes(header, asking),
    signal,
    onReceived: (count) => {
      ledger.received(peer, count)
      asking.onReceived(count)
      progress()
    },
  })
  const onSent = (count: number): void => {
    ledger.sent(peer, count)
    pacer.sent(protocol, count)
    progress()
  }
  const send = async (): Promise<void> => {
    const sending = { signal, onSent, pace: pacer.paceOf(protocol) }
    await sendAll(stream, encodeRequestHeader(bytes.byteLength), sending)
    await sendAll(stream, bytes, sending)
    await stream.close({ signal })
  }
  // Not awaited: when sending fails, so does the reply, unless it is on its way already and tells the reason.
  send().catch(() => undefined)
  try {
    const { header, body } = await reply
    void finish(stream, (work) => asking.within({ timeoutMs: lingerMs, what: 'Closing a stream' }, work))
    if (decodeReplyHeader(header)?.status === 'answer') return body
    const error = decodeWireError(body)
    if (error !== undefined) throw errorFrom(peer, error)
    ledger.refused(peer, 'reply-malformed')
    throw malformedReply(peer)
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError) || stream.status === 'open') stream.abort(asError(thrown))
    if (!(thrown instanceof StreamBroken)) throw thrown
    ledger.refused(peer, 'reply-broken')
    throw broken(peer, thrown)
  }
}

/** The length of a reply by its header, if that is acceptable. */
function replyBytes(bytes: Uint8Array, { ledger, peer, maxReplyBytes }: Asking): number {
  const header = decodeReplyHeader(bytes)
  if (header === undefined) {
    ledger.refused(peer, 'reply-malformed')
    throw malformedReply(peer)
  }
  const most = header.status === 'answer' ? maxReplyBytes : transportLimits.maxErrorBytes
  if (header.bodyBytes > most) {
    ledger.refused(peer, 'reply-oversized')
    throw oversizedReply(peer, header.bodyBytes, most)
  }
  return header.bodyBytes
}

export interface Serving extends Exchanging {
  readonly handlers: HandlerTable
  readonly from: PeerId
  /** Aborted when the transport stops. */
  readonly stopping: AbortSignal
}

/** Never rejects: whatever goes wrong is counted, told to the other side if it listens, and over. */
export async function serveOn(stream: Stream, serving: Serving): Promise<void> {
  const { handlers, protocol, from, stopping } = serving
  const gone = new AbortController()
  stream.addEventListener('close', () => gone.abort(broken(from)), { once: true })
  const ousted = new AbortController()
  const signal = AbortSignal.any([gone.signal, stopping, ousted.signal])
  const admitted = handlers.admit(protocol, from)
  const isRefused = 'code' in admitted
  using place = isRefused ? undefined : admitted
  try {
    const request = await receiveRequest(stream, serving, isRefused ? admitted : undefined, signal)
    const answer: Answer =
      request instanceof Uint8Array
        ? await handlers.answer(protocol, { from, bytes: request, signal })
        : { ok: false, error: request }
    // A question that was taken back, as one for news is when there is something new to say, is no offence.
    gone.signal.throwIfAborted()
    const onReplied = place?.replying(() => ousted.abort(new PlaceTaken()))
    await sendReply(stream, answer, serving, { signal, onReplied })
    void finish(stream, (work) => serving.within({ timeoutMs: lingerMs, what: 'Closing a stream' }, work))
  } catch (thrown) {
    stream.abort(asError(thrown))
  }
}

/**
 * The request, or the error to answer with: `refusal` if there is one, else that it is too long. Either is told when
 * the header has come, as the other side listens by then, and what follows is dropped.
 */
async function receiveRequest(
  stream: Stream,
  { handlers, protocol, from, ledger, pacer, within }: Serving,
  refusal: WireError | undefined,
  signal: AbortSignal,
): Promise<Uint8Array | WireError> {
  const { maxRequestBytes } = handlers.limitsOf(protocol)!
  let error: WireError | undefined
  const bodyBytes = (header: Uint8Array): number => {
    const bytes = decodeRequestHeader(header)
    if (refusal === undefined && bytes <= maxRequestBytes) return bytes
    if (refusal === undefined) ledger.refused(from, 'request-oversized')
    error = refusal ?? oversizedRequest(bytes, maxRequestBytes)
    throw new StreamBroken(error.message)
  }
  const timeoutMs = transportLimits.readRequestTimeoutMs
  try {
    const { body } = await within({ timeoutMs, signal, what: 'Reading a request' }, (until) =>
      receiveFrame(stream, {
        headerBytes: requestHeaderBytes,
        bodyBytes,
        signal: until,
        onReceived: (count) => {
          ledger.received(from, count)
          pacer.received(count)
        },
      }),
    )
    return body
  } catch (thrown) {
    if (error !== undefined) return error
    const late = thrown instanceof GroundswellError && thrown.code === 'peer/timeout'
    ledger.refused(from, late ? 'request-timeout' : 'request-broken')
    throw thrown
  }
}

/** The place of a reply went to a peer that had fewer, which is nobody's offence. */
class PlaceTaken extends Error {
  override readonly name = 'PlaceTaken'
}

async function sendReply(
  stream: Stream,
  answer: Answer,
  serving: Serving,
  sending: { readonly signal: AbortSignal; readonly onReplied: ((bytes: number) => void) | undefined },
): Promise<void> {
  const { protocol, from, ledger, pacer, within } = serving
  const { signal, onReplied } = sending
  using place = answer.ok ? pacer.admit(protocol, answer.bytes.byteLength) : undefined
  if (answer.ok && place === undefined) {
    ledger.refused(from, 'too-many-requests')
    const message = 'The peer’s own cap on what it sends is used up for the moment.'
    return sendReply(stream, { ok: false, error: { code: 'peer/busy', message } }, serving, sending)
  }
  const body = answer.ok ? answer.bytes : encodeWireError(answer.error)
  const timeoutMs = transportLimits.stalledReaderTimeoutMs
  const wholeMs = timeoutMs + (body.byteLength / transportLimits.slowestBytesPerSecond) * 1000
  try {
    await within({ timeoutMs, wholeMs, signal, what: 'Sending a reply' }, async (until, progress) => {
      const onSent = (count: number): void => {
        ledger.sent(from, count)
        pacer.sent(protocol, count)
        onReplied?.(count)
        progress()
      }
      const frames = { signal: until, onSent, pace: pacer.paceOf(protocol) }
      const header = encodeReplyHeader(answer.ok ? 'answer' : 'error', body.byteLength)
      await sendAll(stream, header, frames)
      await sendAll(stream, body, frames)
    })
  } catch (thrown) {
    if (thrown instanceof PlaceTaken) throw thrown
    const stalled = thrown instanceof GroundswellError && thrown.code === 'peer/timeout'
    ledger.refused(from, stalled ? 'reader-stalled' : 'connection-broken')
    throw thrown
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new StreamBroken(messageOf(thrown))
}
