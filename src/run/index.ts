/** Floor 4: a run and the roles in it. The state machine, its log, the host and the trainer. */
export * from './events.ts'
export * from './history.ts'
export { Host, type HostInit, openHost } from './host.ts'
export { HostClient, type HostClientInit, isHostAway } from './host-client.ts'
export { linkPolicy } from './host-link.ts'
export type { InnerTrainer, PrepareContext, StepOptions, Workload } from './inner-trainer.ts'
export { type Evidence, type Judge, type Judgement, judgeInTurn, plausible, rejected } from './judge.ts'
export { type Leadership, type Lease, soleLeadership } from './leadership.ts'
export { verifyLedgerEntry } from './ledger-page.ts'
export { fileLocalStore, type LocalStore } from './local-store.ts'
export * from './log.ts'
export * from './manifest.ts'
export { type NatsBlobsInit, natsBlobs } from './nats-blobs.ts'
export { connectNats, type NatsConnection, type NatsOptions } from './nats-connection.ts'
export { type NatsLeadershipInit, natsLeadership } from './nats-leadership.ts'
export { type NatsLogInit, natsLog } from './nats-log.ts'
export * from './node-files.ts'
export type { PeerEvent, PeerResult, PeerStatus } from './peer-status.ts'
export * from './policy.ts'
export type {
  CheckpointName,
  ControlAction,
  LedgerEntry,
  LedgerPage,
  OpenRoundView,
  PeerPhase,
  Progress,
  PublicMember,
  PublicStatus,
  RunView,
} from './protocol.ts'
export { publishRun, type RunDescription } from './publish.ts'
export * from './queries.ts'
export { RecentRefusals } from './recent-refusals.ts'
export * from './reducer.ts'
export * from './replay.ts'
export * from './simulate/index.ts'
export * from './sqlite-log.ts'
export * from './state.ts'
export type { HostStatus, MemberReport } from './status.ts'
export { TrainerPeer, type TrainerPeerInit } from './trainer-peer.ts'
export { type OpenedWorkload, openWorkload } from './workload.ts'
