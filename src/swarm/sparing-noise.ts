/**
 * Noise without a copy of everything that comes. Before it decrypts a frame, @libp2p/noise 17 joins the pieces in which
 * the frame arrived to have a buffer to decrypt into, and Node's cipher then makes its own: an eighth of the time of a fast
 * fetch. Here it gets no such buffer where it would have to be made and is not used, which is with Node's cipher, for
 * frames of 1,200 bytes and more (its crypto/index.ts). Where the library is built otherwise, nothing is changed.
 */
import { noise } from '@libp2p/noise'
import { overriding } from './overriding.ts'

type MakeEncrypter = ReturnType<typeof noise>
type Encrypter = ReturnType<MakeEncrypter>
type Secured = Awaited<ReturnType<Encrypter['secureInbound']>>

/** As `decrypt` of the library reads it. */
type Frame = Uint8Array | Pieces

interface Pieces {
  readonly byteLength: number
  /** A part of it in one piece, copied where it lies in several. */
  subarray(start: number, end: number): Uint8Array
}

/** Shorter frames are decrypted in WebAssembly, into the buffer that is handed in. */
const leastForNode = 1200
const nothing = new Uint8Array(0)

/** What goes into `connectionEncrypters`. */
export function sparingNoise(): MakeEncrypter {
  const make = noise()
  return (components) => {
    const encrypter = make(components)
    const secureInbound = encrypter.secureInbound.bind(encrypter)
    const secureOutbound = encrypter.secureOutbound.bind(encrypter)
    return overriding(encrypter, {
      secureInbound: async (...given) => sparing(await secureInbound(...given)),
      secureOutbound: async (...given) => sparing(await secureOutbound(...given)),
    })
  }
}

function sparing(secured: Secured): Secured {
  const connection = secured.connection as object as { decrypt?: (frame: Frame) => Pieces }
  const { decrypt } = connection
  if (typeof decrypt === 'function' && globalThis.process?.versions?.node !== undefined) {
    connection.decrypt = (frame) => decrypt.call(connection, withoutBuffer(frame))
  }
  return secured
}

function withoutBuffer(frame: Frame): Frame {
  if (frame instanceof Uint8Array || frame.byteLength < leastForNode) return frame
  return overriding(frame, { subarray: () => nothing })
}
