/**
 * The learning rate as a pure function of the step, so that a run resumed anywhere, or a peer that joins late, uses
 * the rate that it would have used without the interruption.
 *
 * Cosine: https://arxiv.org/abs/1608.03983. Warm-up, stable, decay: https://arxiv.org/abs/2404.06395, with the
 * 1 − √ form of the decay from https://arxiv.org/abs/2405.18392. The warm-up is linear and its first step already
 * learns ((step + 1) / warmupSteps): a first step at rate 0, as in other libraries, is a step of work thrown away.
 *
 * Some methods merge with this rate, so it has the same bits on every machine.
 */
import { cosineOfPi } from '../core/index.ts'

interface WarmedUp {
  readonly peak: number
  /** Steps of linear warm-up; the last of them, and none before, has the peak rate. */
  readonly warmupSteps: number
}

interface Ending extends WarmedUp {
  /** The rate at `totalSteps` and after. */
  readonly floor: number
  readonly totalSteps: number
}

export type LearningRateSchedule =
  | ({ readonly kind: 'constant' } & WarmedUp)
  | ({ readonly kind: 'cosine' } & Ending)
  | ({
      readonly kind: 'wsd'
      readonly decaySteps: number
      readonly decayShape: 'linear' | 'one-minus-sqrt'
    } & Ending)

/** The learning rate of step `step`, the first being 0. */
export function learningRateAt(schedule: LearningRateSchedule, step: number): number {
  const { kind, peak, warmupSteps } = schedule
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps
  switch (kind) {
    case 'constant':
      return peak
    case 'cosine': {
      const progress = share(step - warmupSteps, schedule.totalSteps - warmupSteps)
      return between(schedule, 0.5 * (1 + cosineOfPi(progress, 1)))
    }
    case 'wsd': {
      const progress = share(step - (schedule.totalSteps - schedule.decaySteps), schedule.decaySteps)
      return between(schedule, 1 - (schedule.decayShape === 'linear' ? progress : Math.sqrt(progress)))
    }
    default:
      throw new TypeError(`no schedule ${String(kind satisfies never)}`)
  }
}

/** `done / of` held to [0, 1]; an empty phase is over as soon as it starts. */
function share(done: number, of: number): number {
  if (done < 0) return 0
  return of <= 0 ? 1 : Math.min(1, done / of)
}

/** Floor at 0, peak at 1. */
function between({ floor, peak }: Ending, fraction: number): number {
  return floor + (peak - floor) * fraction
}
