/**
 * Table 3, `npm run bench -- table-utilisation`: which share of their time peers compute at 100 Mb/s down and 20 Mb/s up,
 * from bytes and codec speeds measured in the same run, beside what INTELLECT-1 and Covenant-72B published.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openBackend } from '../../src/runtime/index.ts'
import { createSyncMethod } from '../../src/sync/index.ts'
import { type ExchangeOptions, type MeasuredCost, measureExchange } from './exchange-cost.ts'
import { bytesText, durationText, markdownTable, percent, verdict } from './markdown.ts'
import { type Provenance, provenance, writeWhole } from './results.ts'
import { type MethodCase, methodCase } from './settings.ts'
import { byteModel, textSource } from './training-cell.ts'
import {
  covenantAtItsCaps,
  innerStepsFor,
  type PeerSettings,
  published,
  recomputed,
  stepSeconds,
  type Utilisation,
  utilisationOf,
} from './utilisation-arithmetic.ts'

const target = 0.97
const innerSteps = 30
const sparse = 'SparseLoCo'
const overlapSteps = 3
const sparseOverlapping = `SparseLoCo, τ = ${overlapSteps}`

/** Machines that stand behind such lines, as far as anything does: consumer cards, 165 TFLOP/s each in bfloat16. */
const sizes = [
  { name: '100M', parameters: 1e8, cards: 1 },
  { name: '1B', parameters: 1e9, cards: 1 },
  { name: '10B', parameters: 1e10, cards: 8 },
] as const

interface Candidate {
  readonly label: string
  readonly method: MethodCase
}

/** By the cards, with H = 30 for all that have an H. */
function candidates(): readonly Candidate[] {
  const of = (label: string, name: string, sync: object): Candidate => {
    const method = methodCase(name)
    return { label, method: { ...method, sync: { ...method.sync, ...sync } as MethodCase['sync'] } }
  }
  return [
    of(sparse, 'sparse-loco', { innerSteps }),
    of(sparseOverlapping, 'sparse-loco', { innerSteps, overlapSteps }),
    of('DiLoCo, float32', 'diloco', { innerSteps, encoding: 'float32' }),
    of('DiLoCo, int8', 'diloco', { innerSteps, encoding: 'int8' }),
    of('Streaming DiLoCo, fp4, 2 fragments, τ = 1', 'streaming-diloco', { innerSteps }),
    of('MuLoCo, int2', 'muloco', { innerSteps }),
    of('DeMo', 'demo', {}),
    of('DisTrO', 'distro', {}),
    of('data parallelism, float32', 'data-parallel', {}),
  ]
}

interface UtilisationFigures {
  readonly label: string
  readonly cost: MeasuredCost
  readonly sizes: readonly {
    readonly size: string
    readonly peer: PeerSettings
    readonly utilisation: Utilisation
    /** The share with joining, were all codec times at their upper quartiles, and at their lower. */
    readonly overallBetween: readonly [least: number, most: number]
    /** Fewest inner steps that reach the target; null where none do, or where the method has no choice. */
    readonly innerStepsForTarget: number | null
  }[]
}

interface UtilisationAssumptions {
  readonly peers: number
  readonly upMegabits: number
  readonly downMegabits: number
  readonly tokensPerStep: number
  readonly cardFlops: number
  readonly modelFlopsShare: number
  readonly sessionHours: number
}

/** What the codec was measured on. */
interface Measured {
  readonly model: string
  readonly rounds: number
  readonly contributions: number
  readonly text: string
}

export async function runUtilisationTable(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      peers: { type: 'string', default: '16' },
      up: { type: 'string', default: '20' },
      down: { type: 'string', default: '100' },
      'tokens-per-step': { type: 'string', default: '393216' },
      'card-tflops': { type: 'string', default: '165' },
      mfu: { type: 'string', default: '0.4' },
      'session-hours': { type: 'string', default: '24' },
      model: { type: 'string' },
      rounds: { type: 'string' },
      threads: { type: 'string', default: '2' },
      data: { type: 'string' },
      quick: { type: 'boolean', default: false },
      out: { type: 'string' },
    },
  })
  const { quick } = values
  const folder = values.out ?? (quick ? 'bench/results/local' : 'bench/results')
  const assumptions: UtilisationAssumptions = {
    peers: Number(values.peers),
    upMegabits: Number(values.up),
    downMegabits: Number(values.down),
    tokensPerStep: Number(values['tokens-per-step']),
    cardFlops: 1e12 * Number(values['card-tflops']),
    modelFlopsShare: Number(values.mfu),
    sessionHours: Number(values['session-hours']),
  }
  const speeches = '../shared/data/speeches'
  // Threads that wait for the next inner step would count as the codec's processor time.
  await using backend = await openBackend({ name: 'cpu', threads: Number(values.threads), spin: false })
  const text = await textSource(values.data ?? (existsSync(speeches) ? speeches : undefined))
  const measured: Measured = {
    model: values.model ?? (quick ? 'toy' : '3.3M'),
    rounds: Number(values.rounds ?? (quick ? 2 : 20)),
    contributions: Math.min(16, Math.max(2, assumptions.peers)),
    text: text.name,
  }
  const options: ExchangeOptions = {
    ...{ ...measured, backend, text },
    ...{ batchSize: 2, sequenceLength: quick ? 32 : 64 },
  }
  const figures: UtilisationFigures[] = []
  for (const { label, method } of candidates()) {
    process.stderr.write(`${label}…\n`)
    const cost = await measureExchange(method, options)
    figures.push({ label, cost, sizes: sizesOf(method, cost, assumptions) })
  }
  const from = provenance()
  const markdown = utilisationMarkdown(figures, assumptions, measured, from)
  writeWhole(join(folder, 'table-utilisation.md'), markdown)
  const json = {
    assumptions,
    measured,
    figures,
    published,
    covenantAtItsCaps: covenantAtItsCaps(),
    provenance: from,
  }
  writeWhole(join(folder, 'table-utilisation.json'), `${JSON.stringify(json, null, 1)}\n`)
  process.stdout.write(`${markdown}\nWritten to ${folder}.\n`)
}

function sizesOf(
  { sync }: MethodCase,
  cost: MeasuredCost,
  given: UtilisationAssumptions,
): UtilisationFigures['sizes'] {
  const method = createSyncMethod(sync)
  return sizes.map(({ name, parameters, cards }) => {
    const speed = cards * given.cardFlops * given.modelFlopsShare
    const peer: PeerSettings = {
      ...{ parameters, innerSteps: method.innerSteps, overlapSteps: method.overlapSteps, peers: given.peers },
      stepSeconds: stepSeconds(parameters, given.tokensPerStep, speed),
      upBitsPerSecond: 1e6 * given.upMegabits,
      downBitsPerSecond: 1e6 * given.downMegabits,
      sessionSeconds: 3600 * given.sessionHours,
    }
    const fewest = method.quantity === 'gradient' ? undefined : innerStepsFor(target, cost, peer)
    const overall = (at: 'lower' | 'upper'): number => utilisationOf(cost[at], peer).overall
    return {
      ...{ size: name, peer, utilisation: utilisationOf(cost, peer) },
      overallBetween: [overall('upper'), overall('lower')] as const,
      innerStepsForTarget: fewest ?? null,
    }
  })
}

function utilisationMarkdown(
  figures: readonly UtilisationFigures[],
  given: UtilisationAssumptions,
  measured: Measured,
  { date, machine, commit }: Provenance,
): string {
  const { peers, upMegabits, downMegabits, tokensPerStep, sessionHours } = given
  const rows = figures.flatMap(({ label, cost, sizes: each }) =>
    each.map(({ size, peer, utilisation, overallBetween: [least, most], innerStepsForTarget }) => [
      label,
      size,
      durationText(utilisation.computeSeconds),
      durationText(utilisation.upSeconds),
      durationText(utilisation.downSeconds),
      durationText(utilisation.codecSeconds),
      percent(utilisation.linesAlone),
      percent(utilisation.steady),
      durationText(utilisation.catchUpSeconds),
      `${percent(utilisation.overall)} (${(100 * least).toFixed(1)}–${(100 * most).toFixed(1)})`,
      verdict(utilisation.overall >= target),
      peer.innerSteps === 1 ? '–' : innerStepsForTarget === null ? 'none' : String(innerStepsForTarget),
      bytesText((cost.bitsPerParameter * peer.parameters) / 8),
    ]),
  )
  const nanoseconds = (seconds: number): string => (1e9 * seconds).toFixed(2)
  const perParameter = (cost: MeasuredCost, what: 'encode' | 'decode' | 'add' | 'outerStep'): string =>
    `${nanoseconds(cost[what])} (${nanoseconds(cost.lower[what])}–${nanoseconds(cost.upper[what])})`
  const costs = figures.map(({ label, cost }) => [
    label,
    cost.bitsPerParameter.toFixed(3),
    perParameter(cost, 'encode'),
    perParameter(cost, 'decode'),
    perParameter(cost, 'add'),
    perParameter(cost, 'outerStep'),
    cost.stateBytesPerParameter.toFixed(1),
  ])
  const caps = covenantAtItsCaps()
  const stepTimes = sizes.map(({ name, parameters, cards }) => {
    const seconds = stepSeconds(parameters, tokensPerStep, cards * given.cardFlops * given.modelFlopsShare)
    return `${name}: ${cards} card${cards > 1 ? 's' : ''}, ${durationText(seconds)} per step`
  })
  const reached = (wanted: string): string => {
    const found = figures.find(({ label }) => label === wanted)
    const shares = found?.sizes.map(
      ({ size, utilisation: { overall } }) => `${size} ${percent(overall)} (${verdict(overall >= target)})`,
    )
    return shares?.join(', ') ?? 'not measured'
  }
  return [
    '# Share of time spent computing',
    '',
    `${peers} peers at ${downMegabits} Mb/s down and ${upMegabits} Mb/s up. Each computes H steps, encodes, sends its update ` +
      `once, fetches those of the ${peers - 1} others, merges; on one core, one after the other, but that updates are decoded ` +
      'while others are on the line, and that behind the τ steps of a method that overlaps (on the card) fetching, decoding and ' +
      'merging are hidden. Encoding and sending never are: a peer goes on when the host has its update. A host or mirror with a ' +
      'faster line passes updates on. “With joining” counts ' +
      `that a peer stays ${sessionHours} hours on average and begins by fetching the state and whatever is merged meanwhile; “lines alone” leaves the codec out.`,
    '',
    `**Assumed**: cards of ${given.cardFlops / 1e12} TFLOP/s (bfloat16, the consumer class), ${percent(given.modelFlopsShare, 0)} of it ` +
      `used, ${tokensPerStep} tokens per step and peer (192 sequences of 2048, Covenant-72B’s), 6 operations per ` +
      `parameter and token: ${stepTimes.join('; ')}. Whether the model fits on the cards is not asked. **Measured**: bits and ` +
      `codec times, on updates of a Llama with ${byteModel(measured.model).parameters} parameters in its first ` +
      `${measured.rounds} rounds (${measured.text}), extrapolated in proportion to the parameters.`,
    '',
    `Target: at least ${percent(target, 0)} for SparseLoCo with H = 30, joining included: ${reached(sparse)}; with ${overlapSteps} steps of ` +
      `overlap: ${reached(sparseOverlapping)}. ` +
      'Since computing and exchanging both grow with the parameters, what decides is tokens per step over speed, not size.',
    '',
    markdownTable(
      [
        ...['method', 'model', 'computing', 'sending', 'fetching', 'codec', 'share, lines alone', 'share'],
        ...['catching up', 'with joining', `target ${percent(target, 0)}`, 'least H for it', 'one update'],
      ],
      rows,
      [0, 1, 10],
    ),
    '',
    '## What was measured, per parameter',
    '',
    markdownTable(
      ['method', 'bits', 'encode, ns', 'decode, ns', 'add one, ns', 'outer step, ns', 'state, bytes'],
      costs,
    ),
    '',
    'Processor time of this process, garbage collection included; medians over the second half of the ' +
      `${measured.rounds} rounds (three times as many where every step is one) of seed 1, with the quartiles in brackets; behind the shares above, what they would be ` +
      'were all times at their upper or at their lower quartiles. What adding one up ' +
      `takes is the difference between merging ${measured.contributions} updates, which are those of earlier rounds as far as there ` +
      `are enough, and merging one, divided by ${measured.contributions - 1}. Merges clip to the median norm, as in a run.`,
    '',
    '## Published',
    '',
    markdownTable(
      ['run', 'computing', 'communicating', 'stated', 'recomputed'],
      published.map((row) => [
        row.run,
        `${row.computeSeconds} s`,
        `${row.communicateSeconds} s`,
        percent(row.stated),
        percent(recomputed(row)),
      ]),
    ),
    '',
    'Recomputed as computing / (computing + communicating). Neither counts what a joiner costs, and their lines are not ' +
      'these: both ran on servers in data centres.',
    '',
    `Covenant-72B states at most 110 Mb/s up and 500 Mb/s down. Were these each peer’s, one update of 64 · (12 + 2) bits per 4096 ` +
      `(${bytesText(caps.updateBytes)}) would take ${durationText(caps.upSeconds)} to send and twenty would take ` +
      `${durationText(caps.downSeconds)} to fetch, where 70 s are reported; the share would be ${percent(caps.share)}.`,
    '',
    `Measured ${date} on ${machine}, at commit ${commit}.`,
    '',
  ].join('\n')
}
