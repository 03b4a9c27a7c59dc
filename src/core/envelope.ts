/**
 * Signed statements: DAG-CBOR content, the Ed25519 key of its maker and a signature over a domain and the content,
 * so that a statement made for one purpose cannot be replayed for another.
 */
import { z } from 'zod'
import { decodeCanonical, encodeCanonical } from './canonical.ts'
import { fastestEd25519 } from './ed25519.ts'
import { GroundswellError } from './errors.ts'

const ed25519 = fastestEd25519()

/** Whoever can sign: 32-byte Ed25519 public key, 64-byte signatures (RFC 8032). */
export interface Signer {
  readonly publicKey: Uint8Array
  sign(bytes: Uint8Array): Uint8Array
}

/** A signer over a 32-byte Ed25519 seed. */
export function ed25519Signer(seed: Uint8Array): Signer {
  return { publicKey: ed25519.publicKey(seed), sign: ed25519.signerOf(seed) }
}

export interface OpenedEnvelope {
  readonly content: unknown
  /** The key that signed, 32 bytes. Whether its owner may say this is the caller's business. */
  readonly publicKey: Uint8Array
}

/** Bytes beyond the content that an envelope takes at most. */
export const envelopeOverheadBytes = 256

const envelopeSchema = z.strictObject({
  content: z.instanceof(Uint8Array),
  key: z.instanceof(Uint8Array).refine((key) => key.byteLength === 32),
  signature: z.instanceof(Uint8Array).refine((signature) => signature.byteLength === 64),
})

/** Signs `content` for `domain` (such as `groundswell/report/1`). */
export function sealEnvelope(domain: string, content: unknown, signer: Signer): Uint8Array {
  const bytes = encodeCanonical(content)
  return encodeCanonical({
    content: bytes,
    key: signer.publicKey,
    signature: signer.sign(signedBytes(domain, bytes)),
  })
}

/**
 * Opens an envelope that may come from anyone; the content is still to be validated.
 * @throws GroundswellError `message/oversized`, `message/malformed` or `message/bad-signature`
 */
export function openEnvelope(domain: string, bytes: Uint8Array, maxBytes: number): OpenedEnvelope {
  const parsed = envelopeSchema.safeParse(decodeCanonical(bytes, maxBytes))
  if (!parsed.success)
    throw new GroundswellError('Message is not an envelope.', { code: 'message/malformed' })
  const { content, key, signature } = parsed.data
  if (!ed25519.verify(signature, signedBytes(domain, content), key)) {
    throw new GroundswellError('Message signature does not match its key and content.', {
      code: 'message/bad-signature',
    })
  }
  return { content: decodeCanonical(content, maxBytes), publicKey: key }
}

function signedBytes(domain: string, content: Uint8Array): Uint8Array {
  return encodeCanonical([domain, content])
}
