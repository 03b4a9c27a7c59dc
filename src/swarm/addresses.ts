/**
 * Multiaddresses (https://multiformats.io/multiaddr/) as people write them, and what is wrong with those that cannot
 * be dialled or listened on, in words.
 */
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { GroundswellError, messageOf } from '../core/index.ts'
import { type PeerId, parsePeerId } from './peer-id.ts'

export function parseAddress(text: string): Multiaddr {
  try {
    return multiaddr(text)
  } catch (cause) {
    throw invalidAddress(text, 'it is not a multiaddress', cause)
  }
}

/** The peer that an address ends in. */
export function peerIn(address: Multiaddr): PeerId {
  const last = address.getComponents().at(-1)
  if (last?.name !== 'p2p' || last.value === undefined) {
    throw invalidAddress(String(address), 'it does not end in /p2p/<PeerId>')
  }
  return parsePeerId(last.value)
}

function invalidAddress(text: string, why: string, cause?: unknown): GroundswellError {
  return new GroundswellError(`“${text.slice(0, 120)}” is not the address of a peer: ${why}.`, {
    code: 'peer/invalid-address',
    remedy: 'An address looks like /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW….',
    cause,
  })
}

/** libp2p tells in its message which address it could not listen on and why. */
export function cannotListen(thrown: unknown, listen: readonly Multiaddr[]): GroundswellError {
  const where = listen.join(', ')
  const text = messageOf(thrown)
  if (text.includes('EADDRINUSE')) {
    const port = /EADDRINUSE[^\n]*:(\d+)/.exec(text)?.[1] ?? where
    return new GroundswellError(`Port ${port} is in use by another program.`, {
      code: 'transport/port-in-use',
      remedy: 'End that program, or listen on another port; port 0 takes a free one.',
      cause: thrown,
    })
  }
  const reason = text.includes('EACCES')
    ? 'this user may not use that port'
    : text.includes('EADDRNOTAVAIL')
      ? 'this machine does not have that address'
      : 'the address is not one for TCP or WebSockets'
  return new GroundswellError(`Cannot listen on ${where}: ${reason}.`, {
    code: 'transport/cannot-listen',
    remedy: 'Use an address such as /ip4/0.0.0.0/tcp/0.',
    cause: thrown,
  })
}
