/** What an option's text must be, and what it means: each parser says in one sentence what it takes. */
import { InvalidArgumentError } from 'commander'
import type { DataShare } from './command-lines.ts'
import { parseBytes, parseRate } from './units.ts'

function number(text: string, expected: string, accepts: (value: number) => boolean): number {
  const value = Number(text)
  if (text.trim() === '' || !accepts(value)) throw new InvalidArgumentError(`It takes ${expected}.`)
  return value
}

export function positive(text: string): number {
  return number(text, 'a whole number above 0', (value) => Number.isSafeInteger(value) && value > 0)
}

export function count(text: string): number {
  return number(text, 'a whole number', (value) => Number.isSafeInteger(value) && value >= 0)
}

export function port(text: string): number {
  return number(
    text,
    'a port from 0 to 65535',
    (value) => Number.isInteger(value) && value >= 0 && value < 65_536,
  )
}

export function dataShare(text: string): DataShare {
  const [, index, of] = /^(\d{1,6})\/(\d{1,6})$/.exec(text) ?? []
  const replica = Number(index) - 1
  const replicas = Number(of)
  if (!(replica >= 0 && replica < replicas)) throw new InvalidArgumentError('It takes a share such as 1/3.')
  return { replica, replicas }
}

export function nonnegative(text: string): number {
  return number(text, 'a number from 0 up', (value) => Number.isFinite(value) && value >= 0)
}

export function share(text: string): number {
  return number(text, 'a number above 0, at most 1', (value) => value > 0 && value <= 1)
}

export function shareFrom0(text: string): number {
  return number(text, 'a number from 0 to 1', (value) => value >= 0 && value <= 1)
}

export function belowOne(text: string): number {
  return number(text, 'a number from 0, below 1', (value) => value >= 0 && value < 1)
}

export function above0(text: string): number {
  return number(text, 'a number above 0', (value) => Number.isFinite(value) && value > 0)
}

export function atLeast1(text: string): number {
  return number(text, 'a number from 1 up', (value) => Number.isFinite(value) && value >= 1)
}

/** Of an option that may be given several times. */
export function several(text: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), text]
}

export function rate(text: string): number {
  const value = parseRate(text)
  if (value === undefined) throw new InvalidArgumentError('It takes a rate such as 10Mb/s or 2MB/s.')
  return value
}

/** Checked here, and read by the run file that it counts instead of. */
export function rateText(text: string): string {
  rate(text)
  return text
}

export function bytes(text: string): number {
  const value = parseBytes(text)
  if (value === undefined) throw new InvalidArgumentError('It takes a size such as 20GB.')
  return value
}

export function metricsAt(text: string): string {
  port(text.slice(text.lastIndexOf(':') + 1))
  return text
}
