/**
 * Who is still there. A member counts as gone after `silentSweeps` sweeps in which it said nothing; sweeps are counted
 * rather than times compared, so that neither a jump of the clock nor a host that was suspended costs anybody its place.
 */
import type { Clock } from '../core/index.ts'
import type { PeerId } from '../swarm/index.ts'

export const livenessLimits = {
  /** Of which there are so many in `vanishAfterMs`. */
  silentSweeps: 4,
} as const

export interface LivenessInit {
  readonly clock: Clock
  /** Asked before every sweep: the policy may change. */
  readonly vanishAfterMs: () => number
  /** Members that are present. */
  readonly present: () => Iterable<PeerId>
  readonly onVanished: (peer: PeerId) => Promise<void>
  /** After every sweep, to forget what is kept of members that are gone. */
  readonly onSwept: () => void
}

export class Liveness {
  private readonly init: LivenessInit
  private readonly silentFor = new Map<PeerId, number>()

  constructor(init: LivenessInit) {
    this.init = init
  }

  /** The member has said something. */
  heard(peer: PeerId): void {
    this.silentFor.set(peer, 0)
  }

  /** Sweeps until the signal aborts, and rejects then. */
  async run(signal: AbortSignal): Promise<never> {
    const { clock, vanishAfterMs } = this.init
    for (;;) {
      await clock.sleep(vanishAfterMs() / livenessLimits.silentSweeps, signal)
      await this.sweep()
    }
  }

  retain(isKnown: (peer: PeerId) => boolean): void {
    for (const peer of this.silentFor.keys()) if (!isKnown(peer)) this.silentFor.delete(peer)
  }

  private async sweep(): Promise<void> {
    for (const peer of [...this.init.present()]) {
      const silent = (this.silentFor.get(peer) ?? 0) + 1
      this.silentFor.set(peer, silent)
      if (silent > livenessLimits.silentSweeps) await this.init.onVanished(peer)
    }
    this.init.onSwept()
  }
}
