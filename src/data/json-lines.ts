/**
 * JSON lines (https://jsonlines.org): one document per line, its text in a named field. Its text is text as that of
 * whole files is: without NUL, which an escape can spell and which ends a document of the byte tokenizer.
 */
import { GroundswellError, messageOf } from '../core/index.ts'
import type { Document } from './documents.ts'

/**
 * The documents of a file; blank lines are passed over.
 * @throws GroundswellError `data/bad-line` with the file and the line
 */
export function* documentsOfJsonLines(path: string, text: string, field: string): Generator<Document> {
  let number = 0
  for (const line of text.split('\n')) {
    number++
    if (line.trim() === '') continue
    const place = `${path}:${number}`
    yield { path: place, text: textOfLine(line, place, field) }
  }
}

function textOfLine(line: string, place: string, field: string): string {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    throw badLine(`“${place}” is not JSON: ${messageOf(cause)}`, 'Repair or remove the line.', cause)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw badLine(`“${place}” is not a JSON object`, 'Put one object with a text field on each line.')
  }
  if (!Object.hasOwn(value, field)) {
    const fields = Object.keys(value).map((name) => `“${name}”`)
    throw badLine(
      `“${place}” has no field “${field}”; it has ${fields.slice(0, 8).join(', ') || 'none'}`,
      'Name the field that holds the text.',
    )
  }
  const text = (value as Record<string, unknown>)[field]
  if (typeof text !== 'string') {
    throw badLine(`The field “${field}” of “${place}” is not text`, 'Name the field that holds the text.')
  }
  const nul = text.indexOf('\0')
  if (nul >= 0) {
    throw badLine(
      `The field “${field}” of “${place}” is not text: character ${nul} is NUL`,
      'Remove the character or the line.',
    )
  }
  return text
}

function badLine(message: string, remedy: string, cause?: unknown): GroundswellError {
  return new GroundswellError(`${message}.`, { code: 'data/bad-line', remedy, cause })
}
