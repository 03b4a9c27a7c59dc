/**
 * What of a run must survive its host: the log and the blobs, in the home folder, or at a NATS server where a second
 * host stands by. Opening the latter waits until this host leads.
 */
import { hostname } from 'node:os'
import { join } from 'node:path'
import { GroundswellError } from '../core/index.ts'
import {
  connectNats,
  type Log,
  type Manifest,
  natsBlobs,
  natsLeadership,
  natsLog,
  runIdOf,
  sqliteLog,
} from '../run/index.ts'
import { type Blobs, tieredBlobs } from '../swarm/index.ts'
import type { CommandContext } from './context.ts'
import { logFile } from './open-log.ts'

export interface Keep extends AsyncDisposable {
  readonly log: Log
  readonly blobs: Blobs
  /** Aborted when another host leads; absent where there can be none. */
  readonly lease?: AbortSignal
}

export interface KeepInit {
  readonly home: string
  /** On this machine's disk. */
  readonly near: Blobs
  readonly manifest: Manifest
  /** `nats://…`; the home folder when absent. */
  readonly place: string | undefined
}

/** @throws GroundswellError of `nats/`, `log/`, `blob/` and `leadership/`; the signal's reason */
export async function openKeep(
  { output, signal }: CommandContext,
  { home, near, manifest, place }: KeepInit,
): Promise<Keep> {
  if (place === undefined) {
    const log = sqliteLog(join(home, logFile))
    return { log, blobs: near, [Symbol.asyncDispose]: () => log.close() }
  }
  const run = await runIdOf(manifest)
  const connection = await connectNats(place)
  try {
    const log = await natsLog({ connection, run })
    const far = await natsBlobs({ connection, bucket: run })
    let stoodBy = false
    const leadership = await natsLeadership({
      ...{ connection, run, holder: `${hostname()}:${process.pid}` },
      onStandby: (leader) => {
        stoodBy = true
        output.event({ event: 'standby', leader })
        output.line(`Standing by: ${leader} leads; this host takes over when that one is gone.`)
      },
    })
    const lease = await leadership.acquire(signal)
    output.event({ event: 'leading', afterStandby: stoodBy })
    if (stoodBy) output.line('This host leads now: the one before is gone.')
    return {
      ...{ log, blobs: tieredBlobs(near, far), lease: lease.signal },
      [Symbol.asyncDispose]: async () => {
        await lease.release()
        await log.close()
        await connection.close()
      },
    }
  } catch (thrown) {
    await connection.close()
    throw thrown instanceof GroundswellError || signal.aborted ? thrown : wrap(thrown)
  }
}

function wrap(cause: unknown): GroundswellError {
  return new GroundswellError('The run’s shared log could not be opened.', {
    code: 'log/unreachable',
    remedy: 'Check that the NATS server runs.',
    cause,
  })
}
