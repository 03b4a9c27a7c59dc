/**
 * Framing of one exchange on one stream, version 1 of every protocol id that ends in `/1`:
 * the request is `length u32 | bytes`, the reply `status u8 | length u32 | bytes`, numbers big-endian. Status 0 is the
 * answer, 1 a dag-cbor error `{ code, message, remedy? }`. Each side closes its half after its frame; whoever reads
 * knows from the header how much will come and has agreed to it before memory is taken.
 */

export const requestHeaderBytes = 4
export const replyHeaderBytes = 5

export type ReplyStatus = 'answer' | 'error'

export function encodeRequestHeader(bodyBytes: number): Uint8Array {
  const header = new Uint8Array(requestHeaderBytes)
  new DataView(header.buffer).setUint32(0, bodyBytes)
  return header
}

export function decodeRequestHeader(header: Uint8Array): number {
  return new DataView(header.buffer, header.byteOffset).getUint32(0)
}

export function encodeReplyHeader(status: ReplyStatus, bodyBytes: number): Uint8Array {
  const header = new Uint8Array(replyHeaderBytes)
  header[0] = status === 'answer' ? 0 : 1
  new DataView(header.buffer).setUint32(1, bodyBytes)
  return header
}

/** The header of a reply; undefined when it is none. */
export function decodeReplyHeader(
  header: Uint8Array,
): { status: ReplyStatus; bodyBytes: number } | undefined {
  const status = header[0]
  if (status !== 0 && status !== 1) return undefined
  const bodyBytes = new DataView(header.buffer, header.byteOffset).getUint32(1)
  return { status: status === 0 ? 'answer' : 'error', bodyBytes }
}
