/**
 * The one thing that a simulated machine is at, and the account of its time: something that takes so long, a transfer,
 * or an answer that is waited for. Sleep suspends it, and waking takes it up: what takes time goes on where it was,
 * transfers and questions begin anew.
 */
import type { PeerClock } from './peer-account.ts'

/** May train for real, and so take its time outside the simulation as well. */
export type Action = () => void | Promise<void>

export interface VirtualTime {
  readonly nowMs: number
  after(delayMs: number, action: Action): void
}

interface Activity {
  /** When it is done, where nothing but time is needed. */
  readonly endMs?: number
  /** Stops it, and gives what takes it up again. */
  readonly suspend: () => () => void
}

export class Occupation {
  private readonly time: VirtualTime
  private readonly clock: PeerClock
  private activity: Activity | undefined

  constructor(time: VirtualTime, clock: PeerClock) {
    this.time = time
    this.clock = clock
  }

  get something(): boolean {
    return this.activity !== undefined
  }

  /** When it is done, where that depends on nothing but time. */
  get endMs(): number | undefined {
    return this.activity?.endMs
  }

  nothing(): void {
    this.begin(undefined, 'waiting')
  }

  /** Time that passes, unless the machine is switched off. */
  spend(ms: number, as: 'computing' | 'preparing', done: Action): void {
    const endMs = this.time.nowMs + ms
    const activity: Activity = {
      endMs,
      suspend: () => {
        const leftMs = Math.max(0, endMs - this.time.nowMs)
        return () => this.spend(leftMs, as, done)
      },
    }
    this.begin(activity, as)
    this.time.after(ms, this.ifStill(activity, done))
  }

  /** @param start begins a transfer and gives what breaks it off */
  transfer(start: (done: Action) => () => void, done: Action): void {
    let stop: () => void = () => undefined
    const activity: Activity = {
      suspend: () => {
        stop()
        return () => this.transfer(start, done)
      },
    }
    this.begin(activity, 'communicating')
    stop = start(this.ifStill(activity, done))
  }

  /** Something was asked, and whoever gets the answer ends it. */
  expect(askAgain: () => void): void {
    this.begin({ suspend: () => askAgain }, 'communicating')
  }

  /** Stops whatever it is; what takes it up again. */
  suspend(): (() => void) | undefined {
    const resume = this.activity?.suspend()
    this.nothing()
    return resume
  }

  private ifStill(activity: Activity, done: Action): Action {
    return () => {
      if (this.activity !== activity) return
      this.nothing()
      return done()
    }
  }

  private begin(
    activity: Activity | undefined,
    as: 'computing' | 'communicating' | 'preparing' | 'waiting',
  ): void {
    this.activity = activity
    this.clock.switchTo(as, this.time.nowMs)
  }
}
