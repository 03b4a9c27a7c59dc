/** Bytes in the order in which they follow one another; some may be views of what somebody else holds. */
export type Pieces = readonly Uint8Array[]

/** All of them in one, as a copy. */
export function joinPieces(pieces: Pieces): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((total, { byteLength }) => total + byteLength, 0))
  let byteOffset = 0
  for (const piece of pieces) {
    whole.set(piece, byteOffset)
    byteOffset += piece.byteLength
  }
  return whole
}
