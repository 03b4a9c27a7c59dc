/** Asking the host of a run without taking part in it: a connection for as long as one command lasts. */
import { systemClock } from '../core/index.ts'
import { HostClient } from '../run/index.ts'
import { type Identity, identityFromSeed, type JoinLink, libp2pTransport } from '../swarm/index.ts'

/** @param identity whose word it is; somebody new unless stated */
export async function withHost<Result>(
  link: JoinLink,
  signal: AbortSignal,
  work: (client: HostClient) => Promise<Result>,
  identity: Identity = identityFromSeed(crypto.getRandomValues(new Uint8Array(32))),
): Promise<Result> {
  const transport = await libp2pTransport({ identity })
  try {
    const client = new HostClient({
      ...{ link, transport, signer: identity.signer },
      clock: systemClock(),
      session: crypto.getRandomValues(new Uint8Array(16)),
    })
    await client.connect(signal)
    return await work(client)
  } finally {
    await transport.stop()
  }
}
