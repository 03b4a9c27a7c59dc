/** How fast a machine is at this run, before its first lease: afterwards the host measures. */
import { type Clock, GroundswellError } from '../core/index.ts'
import type { SyncMethod } from '../sync/index.ts'
import type { Workload } from './inner-trainer.ts'

/**
 * Inner steps per second from two throw-away steps, of which the first warms up and the second counts; null when they
 * come to nothing. Of the optimiser's state nothing remains; the parameters are to be set afterwards.
 */
export async function measureSpeed(
  { quantity }: SyncMethod,
  { trainer, batch }: Workload,
  clock: Clock,
): Promise<number | null> {
  let elapsedMs = 0
  try {
    const tokens = await batch(0)
    for (let i = 0; i < 2; i++) {
      const startedAtMs = clock.steady()
      if (quantity === 'gradient') await trainer.gradient(tokens)
      else await trainer.step(tokens, { scheduleStep: 0, rateScale: 0 })
      elapsedMs = clock.steady() - startedAtMs
    }
    await trainer.reset()
  } catch (thrown) {
    if (!(thrown instanceof GroundswellError) || thrown.code !== 'train/diverged') throw thrown
  }
  return elapsedMs > 0 ? 1000 / elapsedMs : null
}
