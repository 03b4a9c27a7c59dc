/**
 * Text from bytes: UTF-8 without NUL, the definition of a text file that catches images, archives and UTF-16 alike.
 */
import { GroundswellError } from '../core/index.ts'

/**
 * The text of a file, without its byte order mark; undefined if it is not text and that is to be skipped.
 * @throws GroundswellError `data/binary`
 */
export function decodeText(bytes: Uint8Array, path: string, onBinary: 'error' | 'skip'): string | undefined {
  const nul = bytes.indexOf(0)
  const text = nul < 0 ? decodeUtf8(bytes) : undefined
  if (text !== undefined || onBinary === 'skip') return text
  const reason = nul < 0 ? 'it is not valid UTF-8' : `byte ${nul} is NUL`
  throw new GroundswellError(`“${path}” is not a text file: ${reason}.`, {
    code: 'data/binary',
    remedy: 'Move it out of the folder, convert it to UTF-8, or choose files by their endings.',
  })
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return undefined
  }
}
