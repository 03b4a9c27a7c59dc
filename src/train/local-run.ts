/**
 * A run on one machine, as a stream of what happens: whoever consumes it decides what to show and where to save,
 * and may stop between any two events. Batches are taken by step number alone, so the run goes on from whatever
 * step the trainer stands at.
 */
import type { Clock } from '../core/index.ts'
import { batchAt, type Dataset, validationBatches } from '../data/index.ts'
import type { TrainingSettings } from './settings.ts'
import type { StepReport, Trainer } from './trainer.ts'

export interface LocalRunOptions {
  readonly trainer: Trainer
  readonly dataset: Dataset
  readonly settings: TrainingSettings
  readonly seed: number
  /** Which share of the data is this machine's, of how many. */
  readonly replica: number
  readonly replicas: number
  readonly clock: Clock
  readonly signal?: AbortSignal
}

export type LocalRunEvent =
  | { readonly kind: 'step'; readonly report: StepReport; readonly durationMs: number }
  | { readonly kind: 'evaluation'; readonly step: number; readonly validationLoss: number }
  /** A good moment to save; the trainer stands still until the next event is asked for. */
  | { readonly kind: 'checkpoint'; readonly step: number }

/** Trains up to `settings.steps`. Ends early, after a whole step, when the signal is aborted. */
export async function* localRun(options: LocalRunOptions): AsyncGenerator<LocalRunEvent> {
  const { trainer, dataset, settings, clock, signal } = options
  const { batchSize, gradientAccumulation, sequenceLength } = settings
  const batch = {
    seed: options.seed,
    replica: options.replica,
    replicas: options.replicas,
    batchSize: batchSize * gradientAccumulation,
    sequenceLength,
  }
  const stopped = (): boolean => signal?.aborted === true
  while (trainer.steps < settings.steps && !stopped()) {
    const started = clock.now()
    const report = await trainer.step(batchAt(dataset, { ...batch, step: trainer.steps }))
    yield { kind: 'step', report, durationMs: clock.now() - started }
    const last = report.step === settings.steps
    if (stopped()) return
    if (last || isDue(report.step, settings.evaluateEvery)) {
      const validationLoss = await evaluateOn(trainer, dataset, settings, signal)
      yield { kind: 'evaluation', step: report.step, validationLoss }
    }
    if (last || isDue(report.step, settings.checkpointEvery)) yield { kind: 'checkpoint', step: report.step }
  }
}

/** Mean validation loss over at most `evaluationBatches` batches of what is held out. */
export function evaluateOn(
  model: Pick<Trainer, 'evaluate'>,
  dataset: Dataset,
  settings: Pick<TrainingSettings, 'batchSize' | 'sequenceLength' | 'evaluationBatches'>,
  signal?: AbortSignal,
): Promise<number> {
  const { batchSize, sequenceLength, evaluationBatches } = settings
  return model.evaluate(
    validationBatches(dataset, { batchSize, sequenceLength, maxBatches: evaluationBatches }),
    signal,
  )
}

function isDue(step: number, every: number): boolean {
  return every > 0 && step % every === 0
}
