/** Line charts as SVG text: a few curves, axes with round numbers, a legend at the right. */

interface Curve {
  readonly label: string
  readonly points: readonly { readonly x: number; readonly y: number }[]
  /** For what the others are compared with. */
  readonly dashed?: boolean
}

export interface ChartOptions {
  readonly title: string
  readonly xLabel: string
  readonly yLabel: string
  readonly curves: readonly Curve[]
  /** For what spans powers of ten; all x are then above 0. */
  readonly logarithmicX?: boolean
}

const width = 720
const height = 400
const area = { left: 64, right: 540, top: 44, bottom: 344 }
/** Colours that are told apart without seeing red and green (Okabe and Ito 2008). */
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#666666']

/** @throws RangeError when there is no point at all */
export function lineChart({ title, xLabel, yLabel, curves, logarithmicX }: ChartOptions): string {
  const points = curves.flatMap((curve) => curve.points)
  if (points.length === 0) throw new RangeError('A chart needs points.')
  const x = (logarithmicX === true ? decadesOf : scaleOf)(
    points.map((point) => point.x),
    area.left,
    area.right,
  )
  const y = scaleOf(
    points.map((point) => point.y),
    area.bottom,
    area.top,
  )
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(area.left, 24, title, 'font-size="15" font-weight="600"'),
    ...y.ticks.flatMap((tick) => [
      `<path d="M${area.left} ${place(y.at(tick))}H${area.right}" stroke="#e4e4e4"/>`,
      text(area.left - 8, y.at(tick) + 4, shortNumber(tick), 'text-anchor="end"'),
    ]),
    ...x.ticks.map((tick) => text(x.at(tick), area.bottom + 18, shortNumber(tick), 'text-anchor="middle"')),
    `<path d="M${area.left} ${area.top}V${area.bottom}H${area.right}" fill="none" stroke="#222222"/>`,
    text((area.left + area.right) / 2, area.bottom + 40, xLabel, 'text-anchor="middle"'),
    `<text transform="translate(18 ${(area.top + area.bottom) / 2}) rotate(-90)" text-anchor="middle">${escaped(yLabel)}</text>`,
  ]
  curves.forEach((curve, index) => {
    const colour = colours[index % colours.length]!
    // Where colours begin anew, curves are dotted.
    const dashes = curve.dashed === true ? '5 4' : index >= colours.length ? '2 2' : undefined
    const style = `stroke="${colour}" stroke-width="2"${dashes === undefined ? '' : ` stroke-dasharray="${dashes}"`}`
    const path = curve.points.map((point) => `${place(x.at(point.x))} ${place(y.at(point.y))}`).join('L')
    if (path !== '') lines.push(`<path d="M${path}" fill="none" ${style}/>`)
    const row = area.top + 12 + 20 * index
    lines.push(`<path d="M${area.right + 16} ${row}h24" ${style}/>`)
    lines.push(text(area.right + 46, row + 4, curve.label))
  })
  return `${lines.join('\n')}\n</svg>\n`
}

interface Scale {
  at(value: number): number
  readonly ticks: readonly number[]
}

function extentOf(values: readonly number[]): readonly [least: number, most: number] {
  return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))]
}

function scaleOf(values: readonly number[], from: number, to: number): Scale {
  const [least, most] = extentOf(values)
  const range = most - least || 1
  const step = roundStep(range / 5)
  const start = Math.floor(least / step) * step
  const end = Math.ceil(most / step) * step || step
  const count = Math.round((end - start) / step)
  return {
    at: (value) => from + ((value - start) / (end - start || 1)) * (to - from),
    ticks: Array.from({ length: count + 1 }, (_, i) => start + i * step),
  }
}

function decadesOf(values: readonly number[], from: number, to: number): Scale {
  const [least, most] = extentOf(values)
  const start = Math.floor(Math.log10(least))
  const end = Math.max(start + 1, Math.ceil(Math.log10(most)))
  return {
    at: (value) => from + ((Math.log10(value) - start) / (end - start)) * (to - from),
    ticks: Array.from({ length: end - start + 1 }, (_, i) => 10 ** (start + i)),
  }
}

/** The least of 1, 2 and 5 times a power of ten that is not below. */
export function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least))
  return power * ([1, 2, 5].find((factor) => factor * power >= least * (1 - 1e-9)) ?? 10)
}

function shortNumber(value: number): string {
  const magnitude = Math.abs(value)
  if (magnitude >= 1e6) return `${Number((value / 1e6).toFixed(2))}M`
  if (magnitude >= 1e3) return `${Number((value / 1e3).toFixed(2))}k`
  return String(Number(value.toPrecision(6)))
}

function place(value: number): string {
  return String(Math.round(10 * value) / 10)
}

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${place(x)}" y="${place(y)}"${attributes === '' ? '' : ` ${attributes}`}>${escaped(content)}</text>`
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
