/**
 * Names of content: CIDv1 with SHA-256 (https://github.com/multiformats/cid), as base32 text.
 */
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'
import { sha256 } from 'multiformats/hashes/sha2'
import { GroundswellError } from './errors.ts'

/** A CIDv1, sha2-256, codec raw or dag-cbor, in base32. */
export type Cid = string & { readonly _: 'Cid' }

export type CidCodec = 'raw' | 'dag-cbor'

const codes: Record<CidCodec, number> = { raw: 0x55, 'dag-cbor': 0x71 }

/** The name of these bytes. */
export async function cidOf(bytes: Uint8Array, codec: CidCodec = 'raw'): Promise<Cid> {
  return CID.createV1(codes[codec], await sha256.digest(bytes)).toString() as Cid
}

/** The name of bytes whose SHA-256 digest (32 bytes) is already known, as after hashing a stream. */
export function cidOfDigest(digest: Uint8Array, codec: CidCodec = 'raw'): Cid {
  return CID.createV1(codes[codec], Digest.create(sha256.code, digest)).toString() as Cid
}

/** Whether `bytes` are what `cid` names. */
export async function matchesCid(bytes: Uint8Array, cid: Cid): Promise<boolean> {
  const codec = CID.parse(cid).code === codes['dag-cbor'] ? 'dag-cbor' : 'raw'
  return (await cidOf(bytes, codec)) === cid
}

/**
 * Checks text that claims to be a CID.
 * @throws GroundswellError `cid/invalid` when it is not a CIDv1 with sha2-256 and codec raw or dag-cbor
 */
export function parseCid(text: string): Cid {
  try {
    const cid = CID.parse(text)
    const known = cid.code === codes.raw || cid.code === codes['dag-cbor']
    if (cid.version === 1 && known && cid.multihash.code === sha256.code && cid.toString() === text) {
      return text as Cid
    }
  } catch {
    // Falls through to the one error that says what was expected.
  }
  throw new GroundswellError(`“${text.slice(0, 80)}” is not a CIDv1 with SHA-256.`, { code: 'cid/invalid' })
}
