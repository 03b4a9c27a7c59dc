/** `npm run bench -- NAME`: measures one thing, prints a table and, where there is something to keep, writes JSON. */
import { runFetchBench } from './fetch.ts'
import { runRunBench } from './run.ts'
import { runReducerBench } from './run-reducer.ts'
import { runCodecsTable } from './tables/codecs.ts'
import { runLossTable } from './tables/loss.ts'
import { runOuterTable } from './tables/outer.ts'
import { runUtilisationTable } from './tables/utilisation.ts'
import { runWallclockTable } from './tables/wallclock.ts'
import { runTokenizerBench } from './tokenizer.ts'
import { runTrainBench } from './train.ts'

const benches: Readonly<Record<string, (args: readonly string[]) => unknown>> = {
  codecs: runCodecsTable,
  run: runRunBench,
  'run-reducer': runReducerBench,
  fetch: runFetchBench,
  'table-loss': runLossTable,
  'table-outer': runOuterTable,
  'table-utilisation': runUtilisationTable,
  'table-wallclock': runWallclockTable,
  tokenizer: ([folder]) => runTokenizerBench(folder),
  train: runTrainBench,
}

const [name = '', ...args] = process.argv.slice(2)
const bench = Object.hasOwn(benches, name) ? benches[name] : undefined
if (bench === undefined) {
  process.stderr.write(`There is no bench “${name}”. Choose one of ${Object.keys(benches).join(', ')}.\n`)
  process.exitCode = 2
} else {
  await bench(args)
}
