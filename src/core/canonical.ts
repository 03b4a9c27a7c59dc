/**
 * Canonical bytes for plain data: DAG-CBOR (https://ipld.io/specs/codecs/dag-cbor/spec/), in which a value has
 * exactly one encoding. Whatever is signed, hashed or sent between peers is encoded here.
 */
import * as dagCbor from '@ipld/dag-cbor'
import { GroundswellError } from './errors.ts'

/** Encodes plain data (no undefined, no NaN or infinities, no class instances). */
export function encodeCanonical(value: unknown): Uint8Array {
  return dagCbor.encode(value)
}

/**
 * Decodes bytes that may come from anyone.
 * @throws GroundswellError `message/oversized` above `maxBytes`, `message/malformed` when they are not DAG-CBOR
 */
export function decodeCanonical(bytes: Uint8Array, maxBytes: number): unknown {
  if (bytes.byteLength > maxBytes) {
    throw new GroundswellError(`Message of ${bytes.byteLength} bytes exceeds the limit of ${maxBytes}.`, {
      code: 'message/oversized',
    })
  }
  try {
    return dagCbor.decode(bytes)
  } catch (cause) {
    throw new GroundswellError('Message is not valid DAG-CBOR.', { code: 'message/malformed', cause })
  }
}
