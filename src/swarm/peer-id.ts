/**
 * Names of peers. A PeerId as libp2p defines it (https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md):
 * for an Ed25519 key the identity multihash of the key's protobuf, in base58, so the name holds the whole key and
 * the maker of any envelope can be compared with the peer at the other end of a connection. Runs in a browser.
 */

import { base58btc } from 'multiformats/bases/base58'
import { GroundswellError } from '../core/index.ts'

/** An Ed25519 libp2p PeerId as text, `12D3KooW…`. */
export type PeerId = string & { readonly _: 'PeerId' }

// multihash identity (0x00), 36 bytes; protobuf PublicKey { Type: Ed25519 (1), Data: 32 bytes }
const prefix = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20)
const keyBytes = 32

/** The name of the peer that owns this Ed25519 public key. */
export function peerIdOf(publicKey: Uint8Array): PeerId {
  if (publicKey.byteLength !== keyBytes) {
    throw new RangeError(`An Ed25519 public key has ${keyBytes} bytes, got ${publicKey.byteLength}.`)
  }
  const bytes = new Uint8Array(prefix.byteLength + keyBytes)
  bytes.set(prefix)
  bytes.set(publicKey, prefix.byteLength)
  return base58btc.baseEncode(bytes) as PeerId
}

/** The Ed25519 public key that a PeerId embeds. */
export function publicKeyOf(peer: PeerId): Uint8Array {
  return decode(peer).slice(prefix.byteLength)
}

/**
 * Checks text that claims to be a PeerId.
 * @throws GroundswellError `peer/invalid-id` when it is not that of an Ed25519 key
 */
export function parsePeerId(text: string): PeerId {
  decode(text)
  return text as PeerId
}

/** A PeerId short enough for a line of output: its last eight characters, which differ between peers. */
export function shortPeerId(peer: PeerId): string {
  return `…${peer.slice(-8)}`
}

function decode(text: string): Uint8Array {
  try {
    // 38 bytes are 52 characters; anything much longer is not worth the quadratic cost of base58.
    const bytes = text.length <= 64 ? base58btc.baseDecode(text) : undefined
    if (
      bytes?.byteLength === prefix.byteLength + keyBytes &&
      prefix.every((byte, i) => bytes[i] === byte) &&
      base58btc.baseEncode(bytes) === text
    ) {
      return bytes
    }
  } catch {
    // Falls through to the one error that says what was expected.
  }
  throw new GroundswellError(`“${text.slice(0, 80)}” is not the PeerId of an Ed25519 key.`, {
    code: 'peer/invalid-id',
    remedy: 'A PeerId begins with 12D3KooW and has 52 characters.',
  })
}
