/**
 * Asks the living host now and then what state the run is in, as any stranger may, for the judge to compare with what
 * the log leads to. A host that does not answer is no fault here: it may be frozen, or gone.
 */
import { systemClock } from '../../src/core/index.ts'
import { HostClient } from '../../src/run/host-client.ts'
import type { PublicStatus } from '../../src/run/protocol.ts'
import { decodeJoinLink, identityFromSeed, libp2pTransport } from '../../src/swarm/index.ts'

const askEveryMs = 1000
const patienceMs = 3000

/** Tells each answer, until the signal is aborted. */
export async function lookOn(
  link: string,
  onStatus: (status: PublicStatus) => void,
  signal: AbortSignal,
): Promise<void> {
  const clock = systemClock()
  while (!signal.aborted) {
    try {
      const identity = identityFromSeed(crypto.getRandomValues(new Uint8Array(32)))
      const transport = await libp2pTransport({ identity })
      try {
        const client = new HostClient({
          ...{ link: decodeJoinLink(link), transport, signer: identity.signer, clock },
          session: crypto.getRandomValues(new Uint8Array(16)),
        })
        const patience = (): AbortSignal => AbortSignal.any([signal, AbortSignal.timeout(patienceMs)])
        await client.connect(patience())
        for (;;) {
          onStatus(await client.status(patience()))
          await clock.sleep(askEveryMs, signal)
        }
      } finally {
        await transport.stop()
      }
    } catch {
      await clock.sleep(askEveryMs, signal).catch(() => undefined)
    }
  }
}
