/** Table 1 as Markdown and charts: losses beside data parallelism's, what was sent, and which cells are not there. */
import {
  absentCells,
  ascending,
  baseline,
  changedSince,
  deviations,
  filledIn,
  finalLoss,
  type Grid,
  referencesOf,
  type TrainingCell,
  withTodaysSettings,
} from './loss-cells.ts'
import { bytesText, markdownTable, median, medianAndSpread, timesText, verdict } from './markdown.ts'
import { type Cell, identityOf } from './results.ts'
import { lineChart } from './svg.ts'

/** Of cells that can be compared, in their order (`comparableCells`). */
export function lossMarkdown(cells: readonly TrainingCell[], asked: Grid): string {
  if (cells.length === 0) return '# Loss at equal tokens\n\nNothing has been measured yet.\n'
  const first = cells[0]!
  const { shape, model, text } = first.key
  const seeds = ascending(cells.map(({ key }) => key.seed))
  const rates = distinct(cells.map(({ key }) => key.optimiser.learningRate))
  const references = referencesOf(cells)
  const groups = Map.groupBy(cells, ({ key }) => identityOf([key.method, filledIn(key), key.replicas]))
  const rows = [...groups.values()].map((group) => {
    const { key, value } = group[0]!
    const gaps = group.flatMap((cell) => {
      const same = references.find((each) => each.key.seed === cell.key.seed)
      return same === undefined ? [] : [finalLoss(cell) - finalLoss(same)]
    })
    const sent =
      references[0] === undefined ? undefined : references[0].value.bytesPerPeer / value.bytesPerPeer
    const sends = key.method !== 'muon'
    return [
      labelOf(group[0]!),
      ...(rates.length > 1 ? [key.optimiser.learningRate.toPrecision(2)] : []),
      ...outerSettings(group[0]!),
      String(key.replicas),
      medianAndSpread(group.map(finalLoss)),
      gaps.length === 0 ? '–' : signed(median(gaps)),
      sends ? value.bytesPerParameterPerRound.toPrecision(3) : '–',
      sends ? String(value.rounds) : '–',
      sends ? bytesText(value.bytesPerPeer) : '–',
      sent === undefined || !sends ? '–' : timesText(sent),
    ]
  })
  const header = [
    ...['method', ...(rates.length > 1 ? ['inner rate'] : []), 'H', 'outer rate', 'outer momentum'],
    ...['replicas', 'loss', 'against data-parallel'],
    ...['bytes per parameter and round', 'rounds', 'sent by a peer', 'less than data-parallel'],
  ]
  return [
    '# Loss at equal tokens',
    '',
    `${model} parameters (a Llama of bytes), ${text}. ${first.value.losses.at(-1)!.tokens} tokens in all: ` +
      `${first.value.steps} steps with ${shape.batchSize} sequences of ${shape.sequenceLength} tokens, of which M ` +
      'replicas do 1/M each. Losses are nats per byte of held-out text at the end; with several seeds medians, and the ' +
      'least and the greatest in brackets.',
    '',
    `Seeds: ${seeds.join(', ')}.${seeds.length < 3 ? ' **Fewer than three: differences of a hundredth may be chance.**' : ''} ` +
      'The gap is to data parallelism with the same seed, which is trained once: with more replicas it differs by rounding ' +
      'alone.',
    '',
    ...coverage(cells, asked),
    markdownTable(header, rows),
    '',
    ...(cells.some(({ key }) => key.optimiser.kind === 'muon')
      ? [
          '`muloco` and the rows that end in `muon` have Muon as their inner optimiser, the others AdamW: their gap to data ' +
            'parallelism is that of both together. `muon` is one machine that trains with the whole batch and sends nothing.',
          '',
        ]
      : []),
    'Inner rates were chosen with seed 1 on this text (bench/tables/settings.ts), so seed 1 flatters all alike.',
    '',
    ...gapTargets(cells, references),
    ...measuredHow(cells),
    '',
  ].join('\n')
}

/** The method, with whatever of its settings is not today's and has no column. */
function labelOf(cell: TrainingCell): string {
  const other = deviations(cell).filter(([name]) => !hasColumn.has(name))
  const words = other.map(
    ([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  return words.length === 0 ? cell.key.method : `${cell.key.method} (${words.join(', ')})`
}

const hasColumn: ReadonlySet<string> = new Set([
  ...['learningRate', 'innerSteps', 'outerLearningRate', 'outerMomentum'],
])

/** H, outer rate and momentum, of methods that have them. */
function outerSettings({ key: { sync } }: TrainingCell): readonly string[] {
  return [
    sync.innerSteps > 1 ? String(sync.innerSteps) : '–',
    'outerLearningRate' in sync ? String(sync.outerLearningRate) : '–',
    'outerMomentum' in sync ? String(sync.outerMomentum) : '–',
  ]
}

/** Which cells are not there, and which were measured with other code than today's. */
function coverage(cells: readonly TrainingCell[], asked: Grid): readonly string[] {
  const { of, absent, words } = absentCells(cells, asked)
  const changed = changedSince(cells)
  return [
    absent === 0
      ? `All ${of} cells are there, with the settings of bench/tables/settings.ts.`
      : `${of - absent} of ${of} cells are there with the settings of bench/tables/settings.ts. Not measured: ${words.join('; ')}.`,
    '',
    ...(changed.length === 0
      ? []
      : [
          `The code of ${changed.length === methodsOf(cells).length ? 'all methods' : changed.join(', ')} has changed since they were ` +
            'measured, and gives other numbers; `--methods` with their names measures them again.',
          '',
        ]),
  ]
}

function methodsOf(cells: readonly TrainingCell[]): readonly string[] {
  return distinct(cells.map(({ key }) => key.method))
}

/** What the published tables let one expect, and whether it shows here. */
function gapTargets(all: readonly TrainingCell[], references: readonly TrainingCell[]): readonly string[] {
  const cells = withTodaysSettings(all)
  const gapOf = (method: string, replicas: number, against = references): number | undefined => {
    const group = cells.filter(({ key }) => key.method === method && key.replicas === replicas)
    const gaps = group.flatMap((cell) => {
      const same = against.find((each) => each.key.seed === cell.key.seed)
      return same === undefined ? [] : [finalLoss(cell) / finalLoss(same) - 1]
    })
    return gaps.length === 0 ? undefined : median(gaps)
  }
  const lines: string[] = []
  const state = (what: string, gap: number | undefined, limit: number): void => {
    if (gap === undefined) return
    lines.push(
      `- ${what}: at most ${(100 * limit).toFixed(0)} % above; measured ${signed(100 * gap, 1)} %: ${judged(gap <= limit)}.`,
    )
  }
  state('DiLoCo with 1 replica ahead of data parallelism', gapOf('diloco', 1), 0)
  for (const replicas of [2, 4, 8]) {
    state(`DiLoCo with ${replicas} replicas`, gapOf('diloco', replicas), replicas === 8 ? 0.04 : 0.02)
    state(
      `SparseLoCo with ${replicas} replicas`,
      gapOf('sparse-loco', replicas),
      replicas === 8 ? 0.04 : 0.02,
    )
  }
  const alone = cells.filter(({ key }) => key.method === 'muon')
  const least: readonly [method: string, times: number][] = [
    ['sparse-loco', 2000],
    ['sparse-muon', 2000],
    ['streaming-diloco', 500],
    ['streaming-muon', 500],
    ['muloco', 500],
  ]
  const targets = least.flatMap(([method, times]) =>
    [2, 4, 8].flatMap((replicas) => {
      const gap = gapOf(method, replicas)
      const cell = cells.find(({ key }) => key.method === method && key.replicas === replicas)
      if (gap === undefined || cell === undefined) return []
      const fewer = references[0]!.value.bytesPerPeer / cell.value.bytesPerPeer
      const met = judged(gap <= 0.01 && fewer >= times)
      const toMuon = cell.key.optimiser.kind === 'muon' ? gapOf(method, replicas, alone) : undefined
      return [
        `- ${method} with ${replicas} replicas, at most 1 % above and ${times}× fewer bytes: ${signed(100 * gap, 1)} % at ${fewer.toFixed(0)}×: ${met}` +
          `${toMuon === undefined ? '' : `; against Muon on one machine ${signed(100 * toMuon, 1)} %`}.`,
      ]
    }),
  )
  const published =
    'Against the published shape (35M parameters, https://arxiv.org/abs/2503.09799: −0.1, +0.7, +2.0 and +3.9 % with 1, 2, 4 and 8 replicas):'
  return [...section('Against the targets of this project:', targets), ...section(published, lines)]
}

/** Nothing where there is nothing to say. */
function section(heading: string, lines: readonly string[]): readonly string[] {
  return lines.length === 0 ? [] : [heading, '', ...lines, '']
}

function judged(met: boolean): string {
  return met ? verdict(true) : `**${verdict(false)}**`
}

/** Where the figures come from, for the foot of a table. */
export function measuredHow(cells: readonly Cell<unknown, unknown>[]): readonly string[] {
  const dates = cells.map(({ provenance }) => provenance.date).toSorted()
  const machines = distinct(cells.map(({ provenance }) => provenance.machine))
  const commits = distinct(cells.map(({ provenance }) => provenance.commit))
  return [
    `Measured from ${dates[0]} to ${dates.at(-1)} on ${machines.join('; ')}, at commit ${commits.join(', ')}.`,
  ]
}

/** One chart per method, with the baseline in each. */
export function lossCharts(all: readonly TrainingCell[]): ReadonlyMap<string, string> {
  const cells = withTodaysSettings(all)
  const charts = new Map<string, string>()
  const reference = curvesOf(referencesOf(cells))
  for (const [method, group] of Map.groupBy(cells, ({ key }) => key.method)) {
    const own = curvesOf(group).map((curve) => ({
      ...curve,
      label: `${curve.label} replica${curve.label === '1' ? '' : 's'}`,
    }))
    const other = method === baseline ? [] : reference
    charts.set(
      method,
      lineChart({
        title: `${method}: loss at equal tokens, ${group[0]!.key.model} parameters`,
        xLabel: 'tokens of all replicas',
        yLabel: 'validation loss, nats per byte',
        curves: [...own, ...other.map((curve) => ({ ...curve, label: 'data-parallel', dashed: true }))],
      }),
    )
  }
  return charts
}

/** A curve for each number of replicas: medians over seeds. */
function curvesOf(cells: readonly TrainingCell[]): { label: string; points: { x: number; y: number }[] }[] {
  return [...Map.groupBy(cells, ({ key }) => key.replicas)].map(([replicas, group]) => ({
    label: String(replicas),
    points: group[0]!.value.losses.map(({ tokens }, i) => ({
      x: tokens,
      y: median(group.flatMap(({ value }) => value.losses[i]?.loss ?? [])),
    })),
  }))
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Set(values)]
}

function signed(value: number, digits = 3): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(digits)}`
}
