/**
 * What a run costs and withstands, one measure per file of `run/`: `npm run bench -- run`, or some with
 * `--only NAME`. Prints Markdown tables and writes everything as JSON.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { churn } from './run/churn.ts'
import { computingShare } from './run/computing-share.ts'
import { coordinator } from './run/coordinator.ts'
import { hostRestart } from './run/host-restart.ts'
import type { Measure, MeasureTable } from './run/measure.ts'
import { returnTime } from './run/return-time.ts'
import { roundOverhead } from './run/round-overhead.ts'

const measures: readonly Measure[] = [
  coordinator,
  churn,
  computingShare,
  roundOverhead,
  returnTime,
  hostRestart,
]

export async function runRunBench(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string', multiple: true, default: measures.map(({ name }) => name) },
      seed: { type: 'string', multiple: true, default: ['7'] },
      rounds: { type: 'string' },
      threads: { type: 'string', default: '2' },
      data: { type: 'string' },
      parameters: { type: 'string', default: '124000000' },
      'step-ms': { type: 'string', default: '1000' },
      out: { type: 'string', default: 'bench-run.json' },
    },
  })
  const chosen = values.only.map((name) => {
    const measure = measures.find((each) => each.name === name)
    if (measure !== undefined) return measure
    throw new Error(
      `There is no measure “${name}”; choose from ${measures.map((each) => each.name).join(', ')}.`,
    )
  })
  const results: Record<string, unknown> = {}
  for (const { name, run } of chosen) {
    const table = await run({
      seeds: values.seed.map(Number),
      rounds: values.rounds === undefined ? undefined : Number(values.rounds),
      threads: Number(values.threads),
      data: values.data,
      parameters: Number(values.parameters),
      stepMs: Number(values['step-ms']),
      progress: (text) => process.stderr.write(`${name}: ${text}\n`),
    })
    print(table)
    results[name] = table.values
    writeFileSync(values.out, `${JSON.stringify(results, null, 2)}\n`)
  }
  process.stdout.write(`Written to ${values.out}.\n`)
}

function print({ title, header, rows, notes }: MeasureTable): void {
  const lines = [header, header.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`)
  process.stdout.write(`\n${title}\n\n${lines.join('\n')}\n\n${notes.join('\n')}\n\n`)
}
