/** Rates and sizes as people write them: bits with a small b, bytes with a large one, decimal prefixes or binary ones. */

const multiples: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
}

/** Bytes per second of `10Mb/s`, `2MB/s` or `500kB`; a bare number is bytes. Undefined for what cannot be meant. */
export function parseRate(text: string): number | undefined {
  return parseBytes(text.replace(/(\/s|ps)$/, ''))
}

/** Bytes of `20GB`, `64MiB` or `8Mb` (bits); a bare number is bytes. Undefined for what cannot be meant. */
export function parseBytes(text: string): number | undefined {
  const [, digits, prefix = '', unit = 'B'] = /^(\d+(?:\.\d+)?) ?([kKMGT]i?)?([bB])?$/.exec(text.trim()) ?? []
  const multiple = multiples[prefix.toLowerCase()]
  if (digits === undefined || multiple === undefined) return undefined
  const bytes = (Number(digits) * multiple) / (unit === 'b' ? 8 : 1)
  return bytes >= 1 && Number.isSafeInteger(Math.round(bytes)) ? Math.round(bytes) : undefined
}
