/** Works through the cells of a table that are not there yet, says beforehand how long it will take, and keeps each. */
import { initialParameters } from '../../src/model/index.ts'
import type { Backend } from '../../src/runtime/index.ts'
import { createSyncMethod } from '../../src/sync/index.ts'
import { Trainer } from '../../src/train/index.ts'
import { durationText } from './markdown.ts'
import { provenance, type ResultsFile } from './results.ts'
import {
  byteModel,
  equalTokens,
  innerSettings,
  type TextSource,
  type TrainingKey,
  type TrainingValue,
  trainCell,
} from './training-cell.ts'

export type TrainingResults = ResultsFile<TrainingKey, TrainingValue>

export interface PlanOptions {
  readonly keys: readonly TrainingKey[]
  readonly results: TrainingResults
  readonly backend: Backend
  readonly text: TextSource
  /** Begin no further cell after so long. */
  readonly minutes: number
  readonly say: (text: string) => void
  /** After each new cell. */
  readonly onCell?: () => void
}

/** On top of inner steps: exchanges, merges, measurements. */
const overhead = 1.5

/** Whether every cell is there now. */
export async function workThrough(options: PlanOptions): Promise<boolean> {
  const { keys, results, backend, text, minutes, say } = options
  const missing = keys.filter((key) => results.find(key) === undefined)
  say(`${keys.length} cells, ${keys.length - missing.length} of them measured before.`)
  if (missing.length === 0) return true
  const stepSeconds = new Map<string, number>()
  let estimate = 0
  for (const key of missing) {
    const share = equalTokens(key.shape, key.replicas, createSyncMethod(key.sync).innerSteps)
    const kind = `${key.model}, ${share.replicaBatch} sequences, ${key.optimiser.kind}`
    if (!stepSeconds.has(kind)) stepSeconds.set(kind, await measureStep(key, backend))
    estimate += overhead * share.steps * key.replicas * stepSeconds.get(kind)!
  }
  for (const [kind, seconds] of stepSeconds) say(`A step (${kind}): ${(1000 * seconds).toFixed(0)} ms.`)
  say(`The ${missing.length} that are missing will take about ${durationText(estimate)}.`)
  const started = performance.now()
  for (const [index, key] of missing.entries()) {
    if (performance.now() - started > 60_000 * minutes) {
      say(`${minutes} minutes are over: ${missing.length - index} cells are left for the next time.`)
      return false
    }
    const value = await trainCell(key, { backend, text })
    results.put({ key, value, provenance: provenance() })
    const { method, model, replicas, seed } = key
    say(
      `${index + 1}/${missing.length}: ${method}, ${model}, ${replicas} replica${replicas === 1 ? '' : 's'}, seed ${seed}: ` +
        `loss ${value.losses.at(-1)!.loss.toFixed(3)} in ${durationText(value.seconds)}.`,
    )
    options.onCell?.()
  }
  return true
}

/** The median of a few steps, the first of which, with its preparations, does not count. */
export async function measureStep(key: TrainingKey, backend: Backend): Promise<number> {
  const { config } = byteModel(key.model)
  const share = equalTokens(key.shape, key.replicas, 1)
  const settings = innerSettings(key, share)
  const parameters = initialParameters(config, 1)
  await using trainer = await Trainer.create({ backend, config, parameters, settings })
  const tokens = new Int32Array(share.replicaBatch * (key.shape.sequenceLength + 1)).fill(101)
  const times: number[] = []
  for (let i = 0; i < 6; i++) {
    const start = performance.now()
    await trainer.step(tokens)
    if (i > 0) times.push((performance.now() - start) / 1000)
  }
  return times.toSorted((a, b) => a - b)[2]!
}
