/**
 * Join links: one word to copy into a message, with all that a newcomer needs to find a run. `groundswell:join/`,
 * then in base64url the first four bytes of a SHA-256 and the dag-cbor of the run, the host and its addresses; the
 * checksum tells a link that was cut or changed on its way from one whose host has gone. No character of it means
 * anything to a shell.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { base64url } from 'multiformats/bases/base64'
import { z } from 'zod'
import { type Cid, decodeCanonical, encodeCanonical, GroundswellError, parseCid } from '../core/index.ts'
import { type PeerId, parsePeerId } from './peer-id.ts'

export interface JoinLink {
  readonly runId: Cid
  readonly host: PeerId
  /** Multiaddresses at which the host can be dialled, each ending in `/p2p/<host>`; the best first. */
  readonly addresses: readonly string[]
}

export const linkLimits = { maxAddresses: 16, maxAddressLength: 256, maxLength: 8192 } as const

const scheme = 'groundswell:join/'
const checksumBytes = 4

const linkSchema = z.strictObject({
  run: z.string().max(128),
  host: z.string().max(64),
  at: z.array(z.string().max(linkLimits.maxAddressLength)).min(1).max(linkLimits.maxAddresses),
})

export function encodeJoinLink({ runId, host, addresses }: JoinLink): string {
  const content = encodeCanonical({
    run: runId,
    host,
    at: addresses.slice(0, linkLimits.maxAddresses),
  })
  const bytes = new Uint8Array(checksumBytes + content.byteLength)
  bytes.set(checksumOf(content))
  bytes.set(content, checksumBytes)
  return scheme + base64url.baseEncode(bytes)
}

/**
 * Reads a link that a person pasted: quotes and brackets around it and line breaks within are forgiven.
 * @throws GroundswellError `link/invalid`
 */
export function decodeJoinLink(text: string): JoinLink {
  const word = text.replaceAll(/[\s"'“”<>`]/g, '')
  if (!word.startsWith(scheme)) throw invalidLink(`it does not begin with ${scheme}`)
  if (word.length > linkLimits.maxLength) throw invalidLink('it is far too long')
  const bytes = fromBase64Url(word.slice(scheme.length))
  if (bytes === undefined) throw invalidLink('it holds characters that no link has')
  const content = bytes.subarray(checksumBytes)
  const checksum = checksumOf(content)
  if (bytes.byteLength <= checksumBytes || checksum.some((byte, i) => bytes[i] !== byte)) {
    throw invalidLink('it was cut off or changed')
  }
  const parsed = linkSchema.safeParse(decodeCanonical(content, linkLimits.maxLength))
  if (!parsed.success) throw invalidLink('it was made by another version')
  const { run, host: hostText, at } = parsed.data
  const host = parsePeerId(hostText)
  if (!at.every((address) => address.endsWith(`/p2p/${host}`))) {
    throw invalidLink('it holds an address of another peer')
  }
  return { runId: parseCid(run), host, addresses: at }
}

function checksumOf(content: Uint8Array): Uint8Array {
  return sha256(content).subarray(0, checksumBytes)
}

function fromBase64Url(text: string): Uint8Array | undefined {
  try {
    return base64url.baseDecode(text)
  } catch {
    return undefined // the caller says what is wrong
  }
}

function invalidLink(why: string): GroundswellError {
  return new GroundswellError(`This is not a join link: ${why}.`, {
    code: 'link/invalid',
    remedy: 'Copy the whole link that “groundswell host” printed.',
  })
}
