/**
 * Who a peer is: an Ed25519 key, which is its libp2p PeerId and signs its envelopes. Written as PKCS #8 in PEM
 * (RFC 8410), which openssl and every other tool can read. Runs in a browser; the file is in identity-file.ts.
 */
import { base64pad } from 'multiformats/bases/base64'
import { ed25519Signer, GroundswellError, pkcs8Prefix, type Signer } from '../core/index.ts'
import { type PeerId, peerIdOf } from './peer-id.ts'

export interface Identity {
  readonly peerId: PeerId
  readonly signer: Signer
  /** The secret: 32 bytes (RFC 8032). */
  readonly seed: Uint8Array
}

export const seedBytes = 32

/** The identity that belongs to 32 secret bytes. */
export function identityFromSeed(seed: Uint8Array): Identity {
  if (seed.byteLength !== seedBytes) {
    throw new RangeError(`An Ed25519 seed has ${seedBytes} bytes, got ${seed.byteLength}.`)
  }
  const signer = ed25519Signer(seed)
  return { peerId: peerIdOf(signer.publicKey), signer, seed: seed.slice() }
}

const pem = { begin: '-----BEGIN PRIVATE KEY-----', end: '-----END PRIVATE KEY-----' }

export function identityToPem({ seed }: Pick<Identity, 'seed'>): string {
  const der = new Uint8Array([...pkcs8Prefix, ...seed])
  return `${pem.begin}\n${base64pad.baseEncode(der)}\n${pem.end}\n`
}

/**
 * Reads a PEM file that may be damaged or hold another kind of key.
 * @param name what the text is called in an error, such as its path
 */
export function identityFromPem(text: string, name: string): Identity {
  const body = text.trim()
  if (!body.startsWith('-----BEGIN ')) throw foreignKey(name, 'it is not a PEM file')
  if (!body.startsWith(pem.begin)) throw foreignKey(name, 'it holds another kind of key')
  if (!body.endsWith(pem.end)) throw foreignKey(name, 'it is cut off')
  const der = fromBase64(body.slice(pem.begin.length, -pem.end.length))
  if (der === undefined) throw foreignKey(name, 'its base64 is damaged')
  if (
    der.byteLength !== pkcs8Prefix.byteLength + seedBytes ||
    pkcs8Prefix.some((byte, i) => der[i] !== byte)
  ) {
    throw foreignKey(name, 'it does not hold an Ed25519 key')
  }
  return identityFromSeed(der.slice(pkcs8Prefix.byteLength))
}

function fromBase64(text: string): Uint8Array | undefined {
  try {
    return base64pad.baseDecode(text.replaceAll(/\s/g, ''))
  } catch {
    return undefined // the caller says which file
  }
}

function foreignKey(name: string, why: string): GroundswellError {
  return new GroundswellError(`“${name}” is not an identity: ${why}.`, {
    code: 'identity/invalid',
    remedy: 'Restore it from a copy, or move it away to get a new identity.',
  })
}
