/** Floor 3: who a peer is, how peers ask each other, how content travels by name. */
export * from './artifact.ts'
export * from './blobs.ts'
export * from './fetch.ts'
export * from './file-blobs.ts'
export * from './identity.ts'
export * from './identity-file.ts'
export * from './ledger.ts'
export {
  type ConnectionLimits,
  connectionLimits,
  type Libp2pTransportInit,
  libp2pTransport,
} from './libp2p-transport.ts'
export * from './link.ts'
export type { MemoryLink } from './memory-links.ts'
export {
  type MemoryFaults,
  MemoryNetwork,
  type MemoryNetworkInit,
  type MemoryTransportInit,
  memoryTransport,
} from './memory-transport.ts'
export type { RateCaps } from './pacing.ts'
export * from './peer-id.ts'
export { type Relay, type RelayInit, type RelayStatus, startRelay } from './relay.ts'
export type { RelayNews } from './relay-client.ts'
export { type RelayQuotas, type RelayRefusal, relayQuotas } from './relay-quotas.ts'
export * from './signed.ts'
export * from './tiered-blobs.ts'
export * from './transport.ts'
