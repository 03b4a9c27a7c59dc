/**
 * Table 2, `npm run bench -- table-wallclock`: the loss of Table 1 against time, with peers whose lines carry 1, 10 and
 * 100 Mb/s. What is learnt at equal tokens does not depend on the clock, since equal peers all arrive in time; so the
 * curves are Table 1's, and the simulator, with the bytes that were measured there and step and codec times measured
 * here, says when each of their points is reached.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { noChurn, roundPolicySchema, simulate } from '../../src/run/index.ts'
import { type Backend, openBackend } from '../../src/runtime/index.ts'
import { createSyncMethod } from '../../src/sync/index.ts'
import { measureExchange } from './exchange-cost.ts'
import { ascending, newestCode, type TrainingCell, withTodaysSettings } from './loss-cells.ts'
import { measuredHow } from './loss-markdown.ts'
import { markdownTable, median, percent, timesText } from './markdown.ts'
import { measureStep } from './plan.ts'
import { provenance, ResultsFile, writeWhole } from './results.ts'
import { methodCase } from './settings.ts'
import { lineChart } from './svg.ts'
import { type TextSource, type TrainingKey, type TrainingValue, textSource } from './training-cell.ts'
import type { ExchangeCost } from './utilisation-arithmetic.ts'

export interface Timing {
  /** Of one replica, with its share of the batch. */
  readonly stepSeconds: number
  readonly cost: ExchangeCost
}

/** One method at one rate. */
export interface ClockRow {
  readonly method: string
  readonly megabits: number
  readonly computing: number
  /** Medians over the seeds of Table 1. */
  readonly curve: readonly { readonly seconds: number; readonly loss: number }[]
  /** Until the loss to reach, by seed; null where the run ended before. */
  readonly bySeed: readonly { readonly seed: number; readonly seconds: number | null }[]
  /** Their median. */
  readonly secondsToLoss: number | null
}

export async function runWallclockTable(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      from: { type: 'string', default: 'bench/results/table-loss.json' },
      model: { type: 'string' },
      replicas: { type: 'string', default: '4' },
      rates: { type: 'string', default: '1,10,100' },
      loss: { type: 'string' },
      data: { type: 'string' },
      threads: { type: 'string', default: '2' },
      out: { type: 'string', default: 'bench/results' },
    },
  })
  const replicas = Number(values.replicas)
  const chosen = withTodaysSettings(
    newestCode(new ResultsFile<TrainingKey, TrainingValue>(values.from).all()),
  ).filter(({ key }) => key.replicas === replicas || key.method === 'data-parallel')
  const { model = chosen.at(-1)?.key.model } = values
  const cells = newestShape(chosen.filter(({ key }) => key.model === model))
  if (cells.length === 0) {
    throw new Error(`${values.from} has no cells with ${replicas} replicas; run table-loss first.`)
  }
  const goal = values.loss === undefined ? worstEnd(cells) : Number(values.loss)
  const text = await textSource(values.data)
  await using backend = await openBackend({ name: 'cpu', threads: Number(values.threads) })
  const rows: ClockRow[] = []
  const stepTimes = new Map<string, number>()
  const timings: Record<string, Timing> = {}
  for (const [method, group] of Map.groupBy(cells, ({ key }) => key.method)) {
    process.stderr.write(`${method}…\n`)
    const key = { ...group[0]!.key, replicas }
    // One time for all that take the same step: differences between them would be noise.
    const { kind } = key.optimiser
    if (!stepTimes.has(kind)) stepTimes.set(kind, await measureStep(key, backend))
    const timing = { stepSeconds: stepTimes.get(kind)!, cost: await measureCost(key, { backend, text }) }
    timings[method] = timing
    for (const megabits of values.rates.split(',').map(Number)) {
      rows.push(await clockRow(group, { replicas, megabits, timing, goal }))
    }
  }
  const markdown = wallclockMarkdown({ cells, rows, timings, goal, replicas })
  writeWhole(join(values.out, 'table-wallclock.md'), markdown)
  const json = { replicas, goal, timings, rows, provenance: provenance() }
  writeWhole(join(values.out, 'table-wallclock.json'), `${JSON.stringify(json, null, 1)}\n`)
  for (const [megabits, group] of Map.groupBy(rows, (row) => row.megabits)) {
    writeWhole(join(values.out, `table-wallclock-${megabits}.svg`), clockChart(megabits, group))
  }
  process.stdout.write(`${markdown}\nWritten to ${values.out}.\n`)
}

/** Those of the run shape that was measured last: shapes do not mix. */
function newestShape(cells: readonly TrainingCell[]): readonly TrainingCell[] {
  const shape = JSON.stringify(cells.at(-1)?.key.shape)
  return cells.filter(({ key }) => JSON.stringify(key.shape) === shape)
}

/** The loss that even the last of the methods reaches: everybody's time to it can be told. */
export function worstEnd(cells: readonly TrainingCell[]): number {
  return Math.max(...cells.map(({ value }) => Math.min(...value.losses.map(({ loss }) => loss))))
}

async function measureCost(
  key: TrainingKey,
  { backend, text }: { readonly backend: Backend; readonly text: TextSource },
): Promise<ExchangeCost> {
  const { batchSize, sequenceLength } = key.shape
  const options = { backend, text, model: key.model, batchSize: batchSize / key.replicas, sequenceLength }
  return await measureExchange(methodCase(key.method, key.model), { ...options, rounds: 3 })
}

export async function clockRow(
  group: readonly TrainingCell[],
  given: {
    readonly replicas: number
    readonly megabits: number
    readonly timing: Timing
    readonly goal: number
  },
): Promise<ClockRow> {
  const { replicas, megabits, timing, goal } = given
  const { key, value } = group[0]!
  const method = createSyncMethod(key.sync)
  const { parameters, rounds } = value
  const { cost, stepSeconds } = timing
  const milliseconds = (perParameter: number): number => 1000 * perParameter * parameters
  const rate = (1e6 * megabits) / 8
  const ratesOfHost = { hostUpBytesPerSecond: 1.25e8, hostDownBytesPerSecond: 1.25e8 }
  const report = await simulate({
    seed: 1,
    policy: roundPolicySchema.parse({
      ...{ rounds, minimumPeers: replicas, maximumPeers: replicas, quorum: 1, maxRoundMs: 7 * 86_400_000 },
    }),
    ...{ innerSteps: method.innerSteps, overlapSteps: method.overlapSteps },
    batchTokens: (key.shape.batchSize / replicas) * key.shape.sequenceLength,
    costs: {
      updateBytes: Math.round(value.bytesPerParameterPerRound * parameters),
      pairwise: !method.replicated,
      stateBytes: Math.round(cost.stateBytesPerParameter * parameters),
      ...{ setupBytes: 0, setupMs: 0 },
      encodeMs: milliseconds(cost.encode),
      checkMs: milliseconds(cost.decode),
      addMs: milliseconds(cost.add),
      outerStepMs: milliseconds(cost.outerStep),
    },
    world: {
      ...{ peers: replicas, speedSpread: 1, linkSpread: 1, stepMs: 1000 * stepSeconds, jitter: 0 },
      ...{ latencyMs: 40, arrivalMs: 0, reachableShare: 1 },
      ...{ upBytesPerSecond: rate, downBytesPerSecond: rate },
      ...ratesOfHost,
      churn: noChurn,
    },
  })
  const roundTokens = value.losses.at(-1)!.tokens / rounds
  const timed = (losses: readonly { readonly tokens: number; readonly loss: number }[]): ClockRow['curve'] =>
    losses.map(({ tokens, loss }) => {
      const row = report.rounds[Math.round(tokens / roundTokens) - 1]!
      return { seconds: (row.mergedAtMs ?? row.closedAtMs) / 1000, loss }
    })
  const middle = value.losses.map(({ tokens }, i) => ({
    ...{ tokens, loss: median(group.flatMap((cell) => cell.value.losses[i]?.loss ?? [])) },
  }))
  const bySeed = group.map((cell) => ({
    seed: cell.key.seed,
    seconds: timeToLoss(timed(cell.value.losses), goal) ?? null,
  }))
  // Who never gets there is the last; where the middle one is, so is the median.
  const toLoss = median(bySeed.map(({ seconds }) => seconds ?? Number.POSITIVE_INFINITY))
  return {
    ...{ method: key.method, megabits, computing: report.time.computing, curve: timed(middle), bySeed },
    secondsToLoss: Number.isFinite(toLoss) ? toLoss : null,
  }
}

/** When a falling curve first reaches a loss, linearly between its points. */
export function timeToLoss(
  curve: readonly { readonly seconds: number; readonly loss: number }[],
  goal: number,
): number | undefined {
  const at = curve.findIndex(({ loss }) => loss <= goal)
  if (at < 0) return undefined
  const { seconds, loss } = curve[at]!
  const before = curve[at - 1]
  if (before === undefined) return seconds
  return before.seconds + ((before.loss - goal) / (before.loss - loss)) * (seconds - before.seconds)
}

function wallclockMarkdown(given: {
  readonly cells: readonly TrainingCell[]
  readonly rows: readonly ClockRow[]
  readonly timings: Readonly<Record<string, Timing>>
  readonly goal: number
  readonly replicas: number
}): string {
  const { cells, rows, timings, goal, replicas } = given
  const rates = [...new Set(rows.map(({ megabits }) => megabits))]
  const baselines = rows.filter(({ method }) => method === 'data-parallel')
  const table = [...Map.groupBy(rows, ({ method }) => method)].map(([method, group]) => [
    method,
    `${(1000 * timings[method]!.stepSeconds).toFixed(0)} ms`,
    ...group.map((row) => {
      const baseline = baselines.find(({ megabits }) => megabits === row.megabits)?.secondsToLoss ?? null
      if (row.secondsToLoss === null) return 'not reached'
      const times = baseline === null ? '' : `, ${timesText(baseline / row.secondsToLoss)}`
      return `${timeText(row.secondsToLoss, row)}${times}`
    }),
    ...group.map(({ computing }) => percent(computing, 0)),
  ])
  const ahead = rates.map((megabits) => {
    const best = rows
      .filter((row) => row.megabits === megabits && row.secondsToLoss !== null)
      .toSorted((a, b) => a.secondsToLoss! - b.secondsToLoss!)[0]
    return `${best?.method ?? 'none'} at ${megabits} Mb/s`
  })
  const seeds = ascending(cells.map(({ key }) => key.seed))
  const slowest = rates[0]!
  const timeOf = (method: string): number | null =>
    rows.find((row) => row.method === method && row.megabits === slowest)?.secondsToLoss ?? null
  const [sparse, parallel] = [timeOf('sparse-loco'), timeOf('data-parallel')]
  const met = sparse !== null && parallel !== null && sparse * 10 <= parallel
  return [
    '# Loss against wall-clock',
    '',
    `${replicas} equal peers, ${cells[0]!.key.model} parameters, the curves of Table 1 (${cells.length} runs) on the ` +
      'simulator’s clock: the same line up and down for each peer, 40 ms to a host at 1 Gb/s, peers fetch from each other, ' +
      'nobody leaves. Step and codec times were measured here. ' +
      `Time until the validation loss is ${goal.toFixed(3)} nats per byte: the median over the seeds ` +
      `(${seeds.join(', ')}), in brackets the least and the greatest, and as a multiple of data parallelism’s speed. Then the share of ` +
      'time that peers compute, which no seed changes.',
    '',
    markdownTable(
      [
        ...['method', 'step'],
        ...rates.map((rate) => `to that loss at ${rate} Mb/s`),
        ...rates.map((rate) => `computing at ${rate} Mb/s`),
      ],
      table,
    ),
    '',
    `First there: ${ahead.join(', ')}. Target: SparseLoCo at least 10 times as fast as data parallelism at ` +
      `${slowest} Mb/s: ${sparse === null || parallel === null ? '**missed** (a loss that one of them does not reach)' : met ? 'met' : '**missed**'}.`,
    '',
    ...measuredHow(cells),
    '',
  ].join('\n')
}

/** A median time with the least and the greatest of the seeds in brackets, where there are several: `229 s (221–240)`. */
function timeText(middle: number, { bySeed }: ClockRow): string {
  const [size, unit] = middle < 600 ? [1, 's'] : middle < 7200 ? [60, 'min'] : [3600, 'h']
  const figure = (seconds: number): string =>
    Number.isFinite(seconds) ? String(Number((seconds / size).toPrecision(3))) : 'never'
  const sorted = bySeed.map(({ seconds }) => seconds ?? Number.POSITIVE_INFINITY).toSorted((a, b) => a - b)
  const spread = sorted.length < 2 ? '' : ` (${figure(sorted[0]!)}–${figure(sorted.at(-1)!)})`
  return `${figure(middle)} ${unit}${spread}`
}

function clockChart(megabits: number, rows: readonly ClockRow[]): string {
  return lineChart({
    title: `Loss against wall-clock at ${megabits} Mb/s`,
    xLabel: 'seconds, simulated',
    yLabel: 'validation loss, nats per byte',
    logarithmicX: true,
    curves: rows.map(({ method, curve }) => ({
      label: method,
      points: curve.map(({ seconds, loss }) => ({ x: seconds, y: loss })),
      dashed: method === 'data-parallel',
    })),
  })
}
