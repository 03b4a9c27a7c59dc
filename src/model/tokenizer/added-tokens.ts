/**
 * Cuts added tokens out of text before anything else happens, as Hugging Face's `AddedVocabulary` does: leftmost first,
 * of several at one place the longest; first those that are not `normalized`, then, in what is left, the others.
 */
import type { AddedToken } from './definition.ts'

/** Text to be encoded, or the id of an added token. */
export type Piece = string | number

/** Gives the cutter for these tokens; special ones are left as text unless they are to be parsed. */
export function addedTokenFinder(
  tokens: readonly AddedToken[],
): (text: string, parseSpecial: boolean) => Piece[] {
  const passes = [false, true].map((normalized) =>
    passOver(tokens.filter((token) => token.normalized === normalized)),
  )
  return (text, parseSpecial) => {
    let pieces: Piece[] = text === '' ? [] : [text]
    for (const pass of passes) {
      pieces = pieces.flatMap((piece) => (typeof piece === 'number' ? [piece] : pass(piece, parseSpecial)))
    }
    return pieces
  }
}

function passOver(tokens: readonly AddedToken[]): (text: string, parseSpecial: boolean) => Piece[] {
  if (tokens.length === 0) return (text) => [text]
  const byContent = new Map(tokens.map((token) => [token.content, token]))
  const allSpecial = tokens.every((token) => token.special)
  const alternatives = [...byContent.keys()].sort((a, b) => b.length - a.length).map(escapeExpression)
  const expression = new RegExp(alternatives.join('|'), 'gu')
  return (text, parseSpecial) => {
    if (allSpecial && !parseSpecial) return [text]
    const pieces: Piece[] = []
    let position = 0
    for (const match of text.matchAll(expression)) {
      const token = byContent.get(match[0])!
      // A special token that stays text still hides another one inside it, as in the library.
      if (token.special && !parseSpecial) continue
      if (match.index > position) pieces.push(text.slice(position, match.index))
      pieces.push(token.id)
      position = match.index + match[0].length
    }
    if (position < text.length) pieces.push(text.slice(position))
    return pieces
  }
}

function escapeExpression(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, (character) => `\\${character}`)
}
