/**
 * The errors that all transports give in the same words.
 */
import { GroundswellError } from '../core/index.ts'
import type { PeerId } from './peer-id.ts'

export function stopped(): GroundswellError {
  return new GroundswellError('The transport has stopped.', { code: 'transport/stopped' })
}

export function unreachable(peer: PeerId, cause?: unknown): GroundswellError {
  return new GroundswellError(`Peer ${peer} cannot be reached.`, {
    code: 'peer/unreachable',
    remedy: 'Check that it is running and that its address is right.',
    cause,
  })
}

export function broken(peer: PeerId, cause?: unknown): GroundswellError {
  return new GroundswellError(`The connection to ${peer} broke.`, { code: 'peer/closed', cause })
}

export function oversizedReply(peer: PeerId, bytes: number, maxReplyBytes: number): GroundswellError {
  return new GroundswellError(
    `Peer ${peer} announced a reply of ${bytes} bytes where at most ${maxReplyBytes} were asked for.`,
    { code: 'peer/oversized' },
  )
}

export function malformedReply(peer: PeerId): GroundswellError {
  return new GroundswellError(`Peer ${peer} sent a reply that is none.`, { code: 'peer/malformed' })
}
