/**
 * Working on one lease: its batches in order, from the merged parameters, to what the method exchanges. It looks at the
 * newest view between steps: a lease that is gone is not worth another step, and of a round that closes before all
 * steps are done the ones done so far are worth reporting.
 */
import type { Clock } from '../core/index.ts'
import type { SyncMethod } from '../sync/index.ts'
import type { Workload } from './inner-trainer.ts'
import type { LeaseView, RunView } from './protocol.ts'
import { rewarmFactor, schedulePosition } from './schedule-position.ts'
import type { BatchRange } from './state.ts'

/** Of a view, what matters to a lease. */
export interface LeaseNews extends Pick<RunView, 'open' | 'rewarm'> {
  readonly you: Pick<RunView['you'], 'lease'>
}

export interface LeaseWorkInit {
  readonly method: SyncMethod
  readonly workload: Workload
  readonly clock: Clock
  readonly lease: LeaseView
  /** Where the inner steps start from; asked for when `overlapSteps` steps from the peer's own parameters are done. */
  readonly start: () => Promise<Float32Array>
  readonly overlapSteps: number
  /** The newest view, and how old it is. */
  readonly look: () => { readonly view: LeaseNews; readonly ageMs: number }
  /** How long encoding and reporting takes, as far as is known. */
  readonly reportMs: number
  /** Aborted when the peer is to leave: then the steps done so far are the result. */
  readonly leaving: AbortSignal
  readonly onStep: (done: StepDone) => void
}

interface StepDone {
  readonly step: number
  readonly loss: number
  readonly tokensPerSecond: number
}

export interface LeaseResult {
  /** What `encodeUpdate` takes: parameters, or the mean gradient. */
  readonly values: Float32Array
  readonly steps: number
  readonly tokens: number
  /** Mean over the steps. */
  readonly loss: number
}

/** The result, or undefined when the lease was taken back meanwhile. @throws the reason to leave before the first step */
export async function workOnLease(init: LeaseWorkInit): Promise<LeaseResult | undefined> {
  const { method, workload, clock, lease, leaving, overlapSteps } = init
  const { trainer } = workload
  const { innerSteps } = method
  const sum = method.quantity === 'gradient' ? new GradientSum() : undefined
  const startedAtMs = clock.steady()
  let steps = 0
  let tokens = 0
  let losses = 0
  let started = false
  const start = async (): Promise<void> => {
    await trainer.setParameters(await init.start())
    started = true
  }
  leaving.throwIfAborted()
  for (const number of batchNumbers(lease.ranges)) {
    if (!started && steps >= overlapSteps) await start()
    const batch = await workload.batch(number)
    const scheduleStep = schedulePosition({
      round: lease.round,
      index: steps,
      steps: lease.steps,
      innerSteps,
    })
    const rateScale = rewarmFactor(init.look().view.rewarm, scheduleStep, innerSteps)
    const done =
      sum === undefined
        ? await trainer.step(batch, { scheduleStep, rateScale })
        : sum.add(await trainer.gradient(batch))
    steps += 1
    tokens += done.tokens
    losses += done.loss
    const elapsedMs = Math.max(1, clock.steady() - startedAtMs)
    init.onStep({ step: steps, loss: done.loss, tokensPerSecond: (1000 * tokens) / elapsedMs })
    await clock.sleep(0) // lets the network have its turn between steps
    if (!holds(init.look().view, lease)) return undefined
    if (leaving.aborted || mustEndNow(init, { steps, elapsedMs })) break
  }
  if (!started) await start()
  const values = sum === undefined ? await trainer.parameters() : sum.mean()
  return { values, steps, tokens, loss: losses / steps }
}

/** Whether the view still has this lease, and not another one of the same round. */
export function holds({ you }: Pick<LeaseNews, 'you'>, { round, grantedAtMs }: LeaseView): boolean {
  return you.lease !== null && you.lease.round === round && you.lease.grantedAtMs === grantedAtMs
}

/** Whether the lease cannot be done in time, but what is done so far can, and another step cannot. */
function mustEndNow(
  { lease, look, reportMs }: LeaseWorkInit,
  done: { readonly steps: number; readonly elapsedMs: number },
): boolean {
  const { view, ageMs } = look()
  const closesInMs = view.open?.closesInMs ?? null
  if (closesInMs === null || view.open?.round !== lease.round || done.steps >= lease.steps) return false
  const leftMs = closesInMs - ageMs - reportMs
  const stepMs = done.elapsedMs / done.steps
  const needsMs = (lease.steps - done.steps) * stepMs
  return leftMs >= 0 && needsMs > leftMs && stepMs > leftMs
}

function* batchNumbers(ranges: readonly BatchRange[]): Iterable<number> {
  for (const { start, end } of ranges) for (let number = start; number < end; number++) yield number
}

/** The mean of gradients, added up in double precision. */
class GradientSum {
  private sum: Float64Array | undefined
  private count = 0

  add<Done extends { readonly gradient: Float32Array }>(done: Done): Done {
    this.sum ??= new Float64Array(done.gradient.length)
    const { sum } = this
    for (let i = 0; i < sum.length; i++) sum[i]! += done.gradient[i]!
    this.count += 1
    return done
  }

  mean(): Float32Array {
    // Not Float32Array.from with a function, which goes through an iterator and takes a hundred times as long.
    const sum = this.sum!
    const mean = new Float32Array(sum.length)
    for (let i = 0; i < mean.length; i++) mean[i] = sum[i]! / this.count
    return mean
  }
}
