/**
 * Numbers as people read them: sizes, durations, rates, and columns of a table.
 */

/** 1,234 or 12.3k or 3.4M: at most three digits that matter above a thousand. */
export function formatCount(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) < 10_000) return Math.round(value).toLocaleString('en-US')
  const [divisor, unit] = value < 1e6 ? [1e3, 'k'] : value < 1e9 ? [1e6, 'M'] : [1e9, 'G']
  const scaled = value / divisor
  return `${scaled < 100 ? scaled.toFixed(1) : scaled.toFixed(0)}${unit}`
}

/** 1 step, 2 steps, 12.3k steps. */
export function counted(value: number, noun: string): string {
  return `${formatCount(value)} ${value === 1 ? noun : `${noun}s`}`
}

/** Bytes with decimal units, as disks and networks count them. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${Math.round(bytes)} B`
  const units = ['kB', 'MB', 'GB', 'TB']
  let scaled = bytes / 1000
  let unit = 0
  while (scaled >= 999.5 && unit < units.length - 1) {
    scaled /= 1000
    unit++
  }
  return `${scaled < 10 ? scaled.toFixed(2) : scaled < 100 ? scaled.toFixed(1) : scaled.toFixed(0)} ${units[unit]}`
}

/** 8 s, 3 min 20 s, 2 h 5 min. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–'
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return `${whole} s`
  const minutes = Math.floor(whole / 60)
  if (minutes < 60) return whole % 60 === 0 ? `${minutes} min` : `${minutes} min ${whole % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** A loss, or a dash where there is none yet. */
export function formatLoss(loss: number | undefined): string {
  return loss === undefined || !Number.isFinite(loss) ? '–' : loss.toFixed(3)
}

/** Columns aligned by their widest cell; `right` names the columns that hold numbers. */
export function formatTable(rows: readonly (readonly string[])[], right: ReadonlySet<number>): string[] {
  const widths: number[] = []
  for (const row of rows) {
    for (const [column, cell] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, cell.length)
    }
  }
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const padding = ' '.repeat(widths[column]! - cell.length)
        return right.has(column) ? padding + cell : cell + padding
      })
      .join('  ')
      .trimEnd(),
  )
}

/** A name from the code, such as `coolingDown`, as words. */
export function asWords(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
}

/** Text with its control characters shown rather than obeyed: samples of a model and names of peers are not trusted. */
export function printable(text: string): string {
  let shown = ''
  for (const character of text) {
    const code = character.codePointAt(0)!
    const control = (code < 32 && character !== '\n' && character !== '\t') || (code >= 127 && code < 160)
    shown += control ? '�' : character
  }
  return shown
}
