/**
 * `train`: a run on this machine alone. It resumes where an interrupted one stopped, because the state of the run
 * lies beside its checkpoint; Ctrl-C ends it after the step at hand and puts both away whole.
 */
import { systemClock } from '../../core/index.ts'
import { validationBitsPerByte } from '../../data/index.ts'
import { countParameters, writeCheckpoint } from '../../model/index.ts'
import { evaluateOn, localRun, saveTrainingState, Trainer, type TrainingProgress } from '../../train/index.ts'
import { fastestBackend, openChosenBackend } from '../backend.ts'
import type { TrainCommandLine } from '../command-lines.ts'
import { absolute, type CommandContext, loadRunFile } from '../context.ts'
import { checkRoom, cidOfFile, claimFolder } from '../disk.ts'
import { counted, formatCount, formatDuration, formatLoss } from '../format.ts'
import { checkTraining } from '../memory.ts'
import type { Output } from '../output.ts'
import { prepareRun } from '../prepare.ts'
import { createProgress } from '../progress.ts'
import type { RunFile } from '../run-file-schema.ts'
import { findSavedRun, identityOf, type SavedRun } from '../saved-run.ts'

/** Steps over which the reported training loss is averaged. */
const lossWindow = 20

export async function train(context: CommandContext, path: string, options: TrainCommandLine): Promise<void> {
  const { output, files, signal } = context
  const run = await loadRunFile(context, path, options)
  const out = absolute(context, run.out!)
  await using _claim = await claimFolder(out)
  const share = options.share ?? { replica: 0, replicas: 1 }
  const prepared = await prepareRun(context, run, async (shape) => {
    const count = countParameters(shape)
    await checkTraining(count, run, () => fastestBackend(signal))
    // Weights, two moments, the weights again in the checkpoint, and the new state beside the old one.
    await checkRoom(out, count * 4 * 7)
  })
  const { config, dataset, tokenizer } = prepared
  const parameters = countParameters(config)
  const identity = await identityOf(run, prepared, { share, out })
  const resumed = options.restart === true ? undefined : await findSavedRun(files, out, identity)

  await using backend = await openChosenBackend(run.runtime, signal)
  await using trainer = await Trainer.create({
    backend,
    config,
    parameters: prepared.parameters,
    settings: run.training,
    signal,
  })
  if (resumed !== undefined) await trainer.restore(resumed.snapshot)
  const { steps, batchSize, gradientAccumulation, sequenceLength } = run.training
  const tokensPerStep = batchSize * gradientAccumulation * sequenceLength
  output.line(
    `Model: ${formatCount(parameters)} parameters (${counted(config.layers, 'layer')}, hidden ${config.hiddenSize}, ` +
      `${counted(config.attentionHeads, 'head')}, vocabulary ${config.vocabularySize})`,
  )
  output.line(
    `Backend: ${backend.name}, ${counted(backend.threads, 'thread')}; ` +
      `step compiled in ${formatCount(trainer.compileMs)} ms`,
  )
  if (resumed !== undefined) sayResumed(output, out, resumed, run)
  output.event({
    event: 'start',
    parameters,
    backend: backend.name,
    threads: backend.threads,
    compileMs: trainer.compileMs,
    step: trainer.steps,
    steps,
  })

  const progressAt = (): TrainingProgress => ({
    step: trainer.steps,
    seed: run.seed,
    ...share,
    data: prepared.built.manifestCid,
    identity,
    steps,
    tokensSeen: trainer.steps * tokensPerStep,
  })
  let saved = trainer.steps
  const putCheckpoint = async (): Promise<void> =>
    writeCheckpoint(files, out, { config, parameters: await trainer.parameters(), tokenizer })
  const save = async (): Promise<void> => {
    // The state first: it holds the weights too, and a checkpoint without one would be taken for somebody else's.
    await saveTrainingState(files, out, { snapshot: await trainer.snapshot(), progress: progressAt() })
    await putCheckpoint()
    saved = trainer.steps
    output.event({ event: 'checkpoint', step: trainer.steps, checkpoint: out })
  }

  const progress = createProgress(output, {
    total: steps,
    unit: 'step',
    now: () => performance.now(),
  })
  const losses: number[] = []
  const speed = new Speed()
  let validation: { step: number; loss: number } | undefined
  try {
    const happenings = localRun({
      trainer,
      dataset,
      settings: run.training,
      seed: run.seed,
      ...share,
      clock: systemClock(),
      signal,
    })
    for await (const happening of happenings) {
      switch (happening.kind) {
        case 'step': {
          const { report, durationMs } = happening
          losses.push(report.loss)
          speed.add(report.tokens, durationMs)
          output.event({ event: 'step', ...report, tokensPerSecond: speed.tokensPerSecond })
          progress.update(
            report.step,
            `loss ${formatLoss(mean(losses.slice(-lossWindow)))}  ${formatCount(speed.tokensPerSecond)} tokens/s`,
          )
          break
        }
        case 'evaluation': {
          const { step, validationLoss } = happening
          validation = { step, loss: validationLoss }
          const bitsPerByte = validationBitsPerByte(dataset.manifest, validationLoss)
          output.event({ event: 'evaluation', step, validationLoss, bitsPerByte })
          output.line(
            `step ${step}: validation loss ${formatLoss(validationLoss)} (${bitsPerByte.toFixed(3)} bits per byte)`,
          )
          break
        }
        case 'checkpoint':
          await save()
          break
        default:
          throw new TypeError(`no event ${String(happening satisfies never)}`)
      }
    }
  } catch (thrown) {
    if (!signal.aborted) throw thrown
  }
  progress.finish()
  if (signal.aborted) {
    if (trainer.steps > saved) await save()
    if (trainer.steps > 0)
      output.note(`Stopped after step ${trainer.steps}; the same command resumes from ${out}.`)
    throw signal.reason
  }
  if (validation?.step !== trainer.steps) {
    // Nothing was left to train: the run had ended before, if not with this checkpoint.
    await putCheckpoint()
    const loss = await evaluateOn(trainer, dataset, run.training, signal)
    validation = { step: trainer.steps, loss }
  }
  const trainLoss = losses.length === 0 ? null : mean(losses.slice(-lossWindow))
  const peakRssBytes = process.resourceUsage().maxRSS * 1024
  output.line(
    `Done: ${counted(trainer.steps, 'step')}, validation loss ${formatLoss(validation.loss)}, training loss ` +
      `${formatLoss(trainLoss ?? undefined)}, ${formatCount(speed.tokensPerSecond)} tokens/s, ` +
      `${formatDuration(speed.seconds)} of training`,
  )
  output.line(`Checkpoint: ${out}`)
  output.event({
    event: 'done',
    step: trainer.steps,
    tokensPerSecond: speed.tokensPerSecond,
    trainLoss,
    validationLoss: validation.loss,
    bitsPerByte: validationBitsPerByte(dataset.manifest, validation.loss),
    parameters,
    peakRssBytes,
    checkpoint: out,
    checkpointCid: await cidOfFile(`${out}/model.safetensors`),
  })
}

/** From where the run goes on, and in what it may not be what it would have been. */
function sayResumed(output: Output, out: string, resumed: SavedRun, { training }: RunFile): void {
  const { snapshot, steps: before, unchecked } = resumed
  const { steps, schedule } = training
  output.line(`Resuming after step ${snapshot.step} of ${steps}, from ${out}`)
  if (before !== undefined && before !== steps && schedule.kind !== 'constant') {
    output.line(
      `The run was to have ${before} steps and now has ${steps}: the rest of its ${schedule.kind} schedule is another one`,
    )
  }
  if (unchecked.length > 0) {
    output.line(
      `An earlier version saved this state and did not note ${unchecked.join(', ')}: make sure they are the same`,
    )
  }
  output.event({ event: 'resume', step: snapshot.step, steps, stepsBefore: before ?? null, unchecked })
}

/** Tokens per second over the steps themselves; the first, in which buffers are made, counts only while alone. */
class Speed {
  private first: { tokens: number; ms: number } | undefined
  private tokens = 0
  private ms = 0

  add(tokens: number, ms: number): void {
    if (this.first === undefined) {
      this.first = { tokens, ms }
      return
    }
    this.tokens += tokens
    this.ms += ms
  }

  get tokensPerSecond(): number {
    if (this.ms > 0) return (this.tokens / this.ms) * 1000
    return this.first === undefined ? 0 : (this.first.tokens / this.first.ms) * 1000
  }

  get seconds(): number {
    return ((this.first?.ms ?? 0) + this.ms) / 1000
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
