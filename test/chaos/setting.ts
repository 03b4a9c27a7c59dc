/**
 * What is run under faults: a model so small that computing costs nothing and a round takes a moment, with deadlines so
 * short that every one of them is met.
 */
import { createServer } from 'node:net'
import { decodeJoinLink, encodeJoinLink } from '../../src/swarm/index.ts'

const innerSteps = 5

/** A model that costs nothing, so that all the time goes to what is tested. */
export function runFile(text: string, port: number, seed: number): object {
  return {
    model: { layers: 1, hiddenSize: 32, intermediateSize: 64, attentionHeads: 2, keyValueHeads: 2 },
    tokenizer: { kind: 'bytes' },
    data: { path: text },
    training: {
      steps: 1_000_000 * innerSteps,
      batchSize: 2,
      sequenceLength: 32,
      optimiser: { learningRate: 1e-3 },
      evaluateEvery: 0,
      evaluationBatches: 1,
      checkpointEvery: 0,
    },
    sync: { method: 'diloco', innerSteps },
    run: {
      ...{ name: 'chaos', host: '127.0.0.1', port },
      ...{ minimumPeers: 1, quorum: 0.5, graceSeconds: 1, vanishAfterSeconds: 3 },
      maxRoundSeconds: 20,
    },
    seed: seed % 1_000_000,
  }
}

/** Text that repeats enough to be learnt from. */
export function someText(): string {
  return Array.from(
    { length: 3000 },
    (_, i) => `In storm ${i} the swell rose ${(i * 7919) % 1009} times before the ground gave way.`,
  ).join('\n\n')
}

/** The link with the proxy's port in place of the host's: to peers, the proxy is the host. */
export function throughProxy(link: string, port: number): string {
  const decoded = decodeJoinLink(link)
  const addresses = decoded.addresses.map((address) => address.replace(/\/tcp\/\d+/, `/tcp/${port}`))
  return encodeJoinLink({ ...decoded, addresses })
}

/** One that was free a moment ago; the host needs the same one each time it starts. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}
