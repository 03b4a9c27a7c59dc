/**
 * What must hold at the end of a run, whatever happened in it; each sentence that comes back says one thing that does not.
 */
import { join } from 'node:path'
import { messageOf } from '../../src/core/index.ts'
import { readCheckpoint } from '../../src/model/index.ts'
import { nodeFiles } from '../../src/run/index.ts'
import { fileBlobs } from '../../src/swarm/index.ts'
import type { Member } from './faults.ts'
import { LogReader } from './log-reader.ts'

/** A contribution that a peer was told is accepted. */
export interface Told {
  readonly peer: string
  /** Of its lease. */
  readonly round: number
}

export interface Evidence {
  /** Has read the log of the host while it grew. */
  readonly reader: LogReader
  readonly logFile: string
  readonly told: readonly Told[]
  /** What the host said when it opened a round. */
  readonly opened: readonly { readonly round: number; readonly checkpoint: string }[]
  readonly host: Member
  readonly peers: readonly Member[]
  /** Where the host has written the model. */
  readonly out: string
}

export function lostContributions({ told, reader }: Pick<Evidence, 'told' | 'reader'>): Told[] {
  return told.filter(({ peer, round }) => !reader.hasContribution(peer, round))
}

export async function violationsAtEnd(evidence: Evidence): Promise<string[]> {
  const found: string[] = []
  if (!evidence.reader.catchUp()) found.push('the host’s log cannot be read')
  found.push(...evidence.reader.violations.splice(0))
  found.push(...logIsWhatItWas(evidence))
  found.push(...nothingIsLost(evidence))
  found.push(...everybodyAgrees(evidence))
  found.push(...(await nothingIsHalfWritten(evidence)))
  return found
}

/** Reading it again gives every entry that was seen before, and the checkpoints that the host spoke of. */
function logIsWhatItWas({ reader, logFile, opened }: Evidence): string[] {
  const again = new LogReader(logFile)
  const same = again.catchUp() && again.digest() === reader.digest()
  const found = same ? [] : ['the log is not the one that was read while it grew']
  for (const { round, checkpoint } of opened) {
    const logged = reader.checkpointOf(round - 1) ?? 'nothing'
    if (logged !== checkpoint)
      found.push(`the host opened round ${round} on ${checkpoint}; its log has ${logged}`)
  }
  return found
}

/** What a peer was told is in the log, and what is in the log is counted by one closed round. */
function nothingIsLost(evidence: Evidence): string[] {
  const { reader, peers } = evidence
  const nameOf = (peer: string): string => peers.find((each) => each.peer === peer)?.program.name ?? peer
  const found = lostContributions(evidence).map(
    ({ peer, round }) =>
      `${nameOf(peer)} was told that its work of round ${round} is accepted, and the log has none`,
  )
  if (reader.state?.phase !== 'finished') {
    return [...found, `the run is not finished but ${reader.state?.phase ?? 'not begun'}`]
  }
  return [...found, ...reader.uncounted().map((key) => `no closed round counts contribution ${key}`)]
}

/** The host, its log and every peer end with the same checkpoint, and with the same account of who did what. */
function everybodyAgrees({ reader, host, peers }: Evidence): string[] {
  const { state } = reader
  if (state?.phase !== 'finished') return []
  const { checkpoint } = state.checkpoint
  const found = [host, ...peers]
    .filter(({ finished }) => finished?.runCheckpoint !== checkpoint)
    .map(
      ({ program, finished }) =>
        `${program.name} ends with ${String(finished?.runCheckpoint)}, the log with ${checkpoint}`,
    )
  const members = (host.finished?.members ?? []) as readonly { peer: string; contributions: number }[]
  for (const { peer, contributions } of members) {
    const logged = reader.contributionsOf(peer)
    if (logged !== contributions) found.push(`the host counts ${contributions} of ${peer}, its log ${logged}`)
  }
  return found
}

async function nothingIsHalfWritten({ host, peers, out }: Evidence): Promise<string[]> {
  const found: string[] = []
  for (const { home, program } of [host, ...peers]) {
    const damaged: string[] = []
    const blobs = await fileBlobs(join(home, 'blobs'), { onDamaged: (cid) => damaged.push(cid) })
    for (const { cid } of await blobs.list()) await blobs.get(cid)
    found.push(...damaged.map((cid) => `${program.name} has a damaged blob ${cid}`))
  }
  if (host.finished !== undefined) {
    try {
      await readCheckpoint(nodeFiles(), out)
    } catch (thrown) {
      found.push(`the host’s model cannot be read: ${messageOf(thrown)}`)
    }
  }
  return found
}
