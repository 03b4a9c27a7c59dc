/**
 * Ed25519 (RFC 8032): by OpenSSL where Node has it, which is ten times as fast and decides how many members a host can
 * answer, and everywhere else by @noble/curves. Both give the same signatures, byte for byte, and take the same keys:
 * none of small order, for which one signature fits every message, and none that is encoded in a second way.
 * Of signatures made with a component of small order, which no honest signer makes, OpenSSL refuses some that the
 * other takes (https://hdevalence.ca/blog/2020-10-04-its-25519am): nobody's own word is lost by that.
 */
import { ed25519 } from '@noble/curves/ed25519.js'
import { base16 } from 'multiformats/bases/base16'

export interface Ed25519 {
  /** 32 bytes from a seed of 32 bytes. */
  readonly publicKey: (seed: Uint8Array) => Uint8Array
  /** Signs with that seed; a signature has 64 bytes. */
  readonly signerOf: (seed: Uint8Array) => (bytes: Uint8Array) => Uint8Array
  /** False also for what is no signature or no key at all. */
  readonly verify: (signature: Uint8Array, bytes: Uint8Array, key: Uint8Array) => boolean
}

export const portableEd25519: Ed25519 = {
  publicKey: (seed) => ed25519.getPublicKey(seed),
  signerOf: (seed) => (bytes) => ed25519.sign(bytes, seed),
  verify: (signature, bytes, key) => {
    try {
      return ed25519.verify(signature, bytes, key, { zip215: false })
    } catch {
      return false // not a point on the curve
    }
  },
}

/** By Node's crypto module; undefined where there is none, as in a browser. */
export function nativeEd25519(): Ed25519 | undefined {
  const crypto = globalThis.process?.getBuiltinModule?.('node:crypto')
  if (crypto === undefined) return undefined
  return {
    publicKey: portableEd25519.publicKey,
    signerOf: (seed) => {
      const der = Buffer.concat([pkcs8Prefix, seed])
      const key = crypto.createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
      return (bytes) => new Uint8Array(crypto.sign(null, bytes, key))
    },
    verify: (signature, bytes, key) => {
      if (signature.byteLength !== 64 || key.byteLength !== 32 || isWeak(key)) return false
      try {
        const der = Buffer.concat([spkiPrefix, key])
        return crypto.verify(null, bytes, { key: der, format: 'der', type: 'spki' }, signature)
      } catch {
        return false // not a point on the curve
      }
    },
  }
}

/** What to sign and verify with here. */
export function fastestEd25519(): Ed25519 {
  return nativeEd25519() ?? portableEd25519
}

// SubjectPublicKeyInfo with id-Ed25519 (1.3.101.112), up to the 32 bytes of the key: RFC 8410 §4
const spkiPrefix = base16.baseDecode('302a300506032b6570032100')
/** OneAsymmetricKey v1 with id-Ed25519 and a CurvePrivateKey, up to its 32 bytes: RFC 8410 §7. */
export const pkcs8Prefix: Uint8Array = base16.baseDecode('302e020100300506032b657004220420')

/** The y of the points whose order divides 8, that is 0, ±1 and the two of order 8; of each x there are up to two. */
const smallOrder: ReadonlySet<string> = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
])

/** Whether a key has small order, or a y of 2²⁵⁵ − 19 and more. */
function isWeak(key: Uint8Array): boolean {
  const y = key.slice()
  y[31]! &= 0x7f // the sign of x
  const beyondTheField = y[31] === 0x7f && y[0]! >= 0xed && y.subarray(1, 31).every((byte) => byte === 0xff)
  return beyondTheField || smallOrder.has(base16.baseEncode(y))
}
