/** Tables as Markdown, and the few figures that they are made of. */

export function markdownTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  /** Of these columns, counted from 0, the text is at the left; figures are at the right. */
  textColumns: readonly number[] = [0],
): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const rule = header.map((_, i) => (textColumns.includes(i) ? '---' : '--:'))
  return [header, rule, ...rows].map(line).join('\n')
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export interface Quartiles {
  readonly lower: number
  readonly median: number
  readonly upper: number
}

/** Linear between neighbours, as most statistics packages have it. */
export function quartiles(values: readonly number[]): Quartiles {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number): number => {
    const place = share * (sorted.length - 1)
    const below = Math.floor(place)
    const next = sorted[Math.min(below + 1, sorted.length - 1)]!
    return sorted[below]! + (place - below) * (next - sorted[below]!)
  }
  return { lower: at(0.25), median: at(0.5), upper: at(0.75) }
}

/** The median, and how far the others lie from it where there are any: `2.104 (2.101–2.110)`. */
export function medianAndSpread(values: readonly number[], digits = 3): string {
  if (values.length === 0) return '–'
  const middle = median(values).toFixed(digits)
  if (values.length === 1) return middle
  return `${middle} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`
}

export function bytesText(bytes: number): string {
  for (const [unit, size] of [
    ['TB', 1e12],
    ['GB', 1e9],
    ['MB', 1e6],
    ['KB', 1e3],
  ] as const) {
    if (bytes >= size) return `${(bytes / size).toPrecision(3)} ${unit}`
  }
  return `${Math.round(bytes)} B`
}

/** Rounded to what one reads: `41 s`, `12 min`, `3.4 h`. */
export function durationText(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–'
  if (seconds < 100) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`
  return `${(seconds / 3600).toPrecision(3)} h`
}

export function timesText(ratio: number): string {
  return `${ratio < 1000 ? ratio.toPrecision(3) : ratio.toFixed(0)}×`
}

export function percent(share: number, digits = 1): string {
  return `${(100 * share).toFixed(digits)} %`
}

/** Whether a target was met, in the words of the tables. */
export function verdict(met: boolean): string {
  return met ? 'met' : 'missed'
}
