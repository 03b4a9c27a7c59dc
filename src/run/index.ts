/** Floor 4: a run and the roles in it. The state machine, its log, the host and the trainer. */
export * from './events.ts'
export { Host, type HostInit, openHost } from './host.ts'
export { type Leadership, type Lease, soleLeadership } from './leadership.ts'
export * from './log.ts'
export * from './manifest.ts'
export { type NatsBlobsInit, natsBlobs } from './nats-blobs.ts'
export { connectNats, type NatsConnection, type NatsOptions } from './nats-connection.ts'
export { type NatsLeadershipInit, natsLeadership } from './nats-leadership.ts'
export { type NatsLogInit, natsLog } from './nats-log.ts'
export * from './node-files.ts'
export type { PeerPhase, Progress } from './protocol.ts'
export * from './policy.ts'
export { publishRun, type RunDescription } from './publish.ts'
export * from './queries.ts'
export * from './reducer.ts'
export * from './replay.ts'
export * from './sqlite-log.ts'
export * from './state.ts'
export type { HostStatus, MemberReport } from './status.ts'
export {
  type InnerTrainer,
  type PeerEvent,
  type PeerResult,
  type PeerStatus,
  type PrepareContext,
  TrainerPeer,
  type TrainerPeerInit,
  type Workload,
} from './trainer-peer.ts'
export { type OpenedWorkload, openWorkload } from './workload.ts'
