/**
 * A log in one JetStream stream per run, so that the host may die with its machine: another one reads on from NATS. An
 * entry's position is its sequence in the stream less one, and “expected last sequence” is the fence: of two hosts the
 * server takes one (https://docs.nats.io/nats-concepts/jetstream/streams, message headers).
 *
 * An append whose acknowledgement was lost is asked for again under the same message id until it is known what became
 * of it: the entry at that position is ours, or it is somebody else's.
 *
 * What an acknowledged entry survives is up to the server. A file stream outlives a killed server process. A loss of
 * power it outlives with three replicas on machines that do not fail together, or with `sync_interval: always` (servers
 * from 2.10 on); by default a server flushes to the disk every two minutes. A log that lost its tail that way is shorter
 * than its host expects, so that the host stops with `log/conflict` instead of going on.
 */
import { randomUUID } from 'node:crypto'
import type { JetStreamManager, StreamConfig, StreamInfo } from '@nats-io/jetstream'
import { type Clock, GroundswellError, systemClock } from '../core/index.ts'
import { eventLimits } from './events.ts'
import { closedLog, type Log, logConflict } from './log.ts'
import type { NatsConnection } from './nats-connection.ts'
import { jetStreamCode, jetStreamCodes, natsAsk } from './nats-errors.ts'

export interface NatsLogInit {
  /** Stays open when the log is closed. */
  readonly connection: NatsConnection
  /** The run's id: letters, digits, “-” and “_”. */
  readonly run: string
  /** Servers of the cluster that keep a copy: 1 to 5, odd. Counts when the log is made. */
  readonly replicas?: number
  /** A bound on the stream; beyond it the log is full as on a full disk. Counts when the log is made. */
  readonly maxBytes?: number
  /** For reading: a log that is not there is `log/not-found` instead of made. */
  readonly mustExist?: boolean
  readonly clock?: Clock
  /** How long NATS may leave a request without an answer until that is `log/unreachable`. */
  readonly answerWithinMs?: number
}

/** Entries asked for at a time: at most 16 MiB. */
const entriesPerRead = 256
/** Room for the headers of a message, which NATS counts with it. */
const headerBytes = 1024
const messageIdHeader = 'Nats-Msg-Id'

interface Attempt {
  readonly id: string
  readonly position: number
  readonly bytes: Uint8Array
}

/**
 * Opens the run's log, or makes it.
 * @throws GroundswellError `log/bad-name`, `log/not-found`, `log/foreign`, `log/unreachable`, `log/not-allowed`, `log/disk-full`,
 *   `log/refused`
 */
export async function natsLog(init: NatsLogInit): Promise<Log> {
  const { connection, run, clock = systemClock() } = init
  assertNatsName(run, 'log')
  const { jetstream, jetstreamManager } = await import('@nats-io/jetstream')
  const { headers } = await import('@nats-io/transport-node')
  const stream = `groundswell-log-${run}`
  const subject = `groundswell.${run}.log`
  const ask = natsAsk({
    area: 'log',
    subject: `the log of run ${run}`,
    clock,
    ...(init.answerWithinMs === undefined ? {} : { withinMs: init.answerWithinMs }),
  })
  const requests = { timeout: ask.tryMs }
  const publisher = jetstream(connection, requests)
  const manager = await ask(() => jetstreamManager(connection, { ...requests, checkAPI: false }))

  const config = streamConfig(stream, subject, init)
  const existing = await ask(() => nothingWhere(jetStreamCodes.streamNotFound, manager.streams.info(stream)))
  if (existing === undefined && init.mustExist === true) throw notFound(run)
  if (existing === undefined) await ask(() => makeStream(manager, config, run))
  assertOurs(existing ?? (await ask(() => manager.streams.info(stream))), config, run)

  let open = true
  const assertOpen = (): void => {
    if (!open) throw closedLog()
  }
  /** An append that may have arrived although nobody said so. */
  let unanswered: Attempt | undefined

  const length = async (): Promise<number> => {
    const { state } = await ask(() => manager.streams.info(stream))
    const whole = state.messages === state.last_seq && (state.messages === 0 || state.first_seq === 1)
    if (!whole) throw logDamaged(run, `it holds ${state.messages} of ${state.last_seq} entries`)
    return state.last_seq
  }

  const entryAt = async (position: number): Promise<{ id: string; bytes: Uint8Array } | undefined> => {
    const query = { seq: position + 1 }
    // Any replica may answer the first, and may lag behind; the leader answers the second.
    const found =
      (await ask(() => manager.direct.getMessage(stream, query))) ??
      (await ask(() => manager.streams.getMessage(stream, query)))
    return found === null ? undefined : { id: found.header.get(messageIdHeader), bytes: found.data }
  }

  const publish = async ({ id, position, bytes }: Attempt): Promise<void> => {
    // Refusals that say nothing about whether the entry is there come back as answers; the others are errors.
    const refused = await ask(async () => {
      try {
        const expect = { streamName: stream, lastSequence: position, lastSubjectSequence: position }
        await publisher.publish(subject, bytes, { msgID: id, expect, headers: headers() })
        return false
      } catch (thrown) {
        if (jetStreamCode(thrown) === jetStreamCodes.wrongLastSequence) return true
        throw thrown
      }
    })
    if (refused && (await entryAt(position))?.id !== id) throw logConflict(position, await length())
  }

  return {
    length: async () => {
      assertOpen()
      return length()
    },
    append: async (bytes, { expect }) => {
      assertOpen()
      if (bytes.byteLength > eventLimits.maxEventBytes) throw entryTooLong(bytes.byteLength)
      if (expect < 0) throw logConflict(expect, await length())
      const attempt =
        unanswered !== undefined && unanswered.position === expect && isSame(unanswered.bytes, bytes)
          ? unanswered
          : { id: randomUUID(), position: expect, bytes: bytes.slice() }
      unanswered = undefined
      try {
        await publish(attempt)
      } catch (thrown) {
        if (!(thrown instanceof GroundswellError) || thrown.code !== 'log/unreachable') throw thrown
        unanswered = attempt
        throw new GroundswellError(`${thrown.message} Whether entry ${expect} was added is not known.`, {
          code: thrown.code,
          ...(thrown.remedy === undefined ? {} : { remedy: thrown.remedy }),
          cause: thrown,
        })
      }
    },
    read: async function* (from) {
      assertOpen()
      const end = await length()
      for (let start = from; start < end; start += entriesPerRead) {
        assertOpen()
        const positions = Array.from({ length: Math.min(entriesPerRead, end - start) }, (_, i) => start + i)
        const page = await Promise.all(positions.map(entryAt))
        for (const [i, entry] of page.entries()) {
          if (entry === undefined) throw logDamaged(run, `entry ${start + i} is missing`)
          yield { position: start + i, bytes: new Uint8Array(entry.bytes) }
        }
      }
    },
    close: async () => {
      open = false
    },
  }
}

/** @throws GroundswellError `AREA/bad-name` for what cannot be part of NATS' names */
export function assertNatsName(name: string, area: string): void {
  if (/^[\w-]{1,128}$/.test(name)) return
  throw new GroundswellError(`“${name.slice(0, 80)}” cannot be a name on NATS.`, {
    code: `${area}/bad-name`,
    remedy: 'Use letters, digits, “-” and “_”, at most 128 of them.',
  })
}

/** What was asked for, or undefined where JetStream answers with one code. */
export async function nothingWhere<Answer>(
  code: number,
  asked: Promise<Answer>,
): Promise<Answer | undefined> {
  try {
    return await asked
  } catch (thrown) {
    if (jetStreamCode(thrown) === code) return undefined
    throw thrown
  }
}

type LogStream = Partial<StreamConfig> & { name: string; subjects: string[] }

function streamConfig(
  name: string,
  subject: string,
  { replicas = 1, maxBytes = -1 }: NatsLogInit,
): LogStream {
  return {
    name,
    subjects: [subject],
    description: 'The event log of a Groundswell run. Nothing in it may be deleted.',
    storage: 'file',
    retention: 'limits',
    discard: 'new', // refuse what no longer fits, never forget what is there
    max_msgs: -1,
    max_age: 0,
    max_bytes: maxBytes,
    max_msg_size: eventLimits.maxEventBytes + headerBytes,
    num_replicas: replicas,
    deny_delete: true,
    deny_purge: true,
    allow_direct: true,
  }
}

/** Somebody else may make it at the same time: what counts is what is there afterwards. */
async function makeStream(manager: JetStreamManager, config: LogStream, run: string): Promise<void> {
  try {
    await nothingWhere(jetStreamCodes.nameInUse, manager.streams.add(config))
  } catch (thrown) {
    throw jetStreamCode(thrown) === jetStreamCodes.subjectsOverlap ? foreign(config.name, run) : thrown
  }
}

/** A stream of this name that may lose entries, or holds something else, is not a log. */
function assertOurs({ config }: StreamInfo, wanted: LogStream, run: string): void {
  const keeps =
    config.storage === 'file' &&
    config.retention === 'limits' &&
    config.discard === 'new' &&
    config.deny_delete &&
    config.deny_purge &&
    config.max_msgs <= 0 &&
    (config.max_age ?? 0) === 0
  if (keeps && config.subjects.length === 1 && config.subjects[0] === wanted.subjects[0]) return
  throw foreign(wanted.name, run)
}

function notFound(run: string): GroundswellError {
  return new GroundswellError(`NATS has no log of run ${run}.`, {
    code: 'log/not-found',
    remedy: 'Check the id of the run, which “groundswell status” prints, and the server.',
  })
}

function foreign(stream: string, run: string): GroundswellError {
  return new GroundswellError(
    `The NATS stream “${stream}”, or another one with the same subjects, is not the log of run ${run}.`,
    {
      code: 'log/foreign',
      remedy: 'Remove that stream, or use another account of the NATS server.',
    },
  )
}

function logDamaged(run: string, why: string): GroundswellError {
  return new GroundswellError(`The log of run ${run} on NATS is damaged: ${why}.`, {
    code: 'log/damaged',
    remedy: 'Restore its stream from a copy, or start a new run from the newest checkpoint.',
  })
}

function entryTooLong(sizeBytes: number): GroundswellError {
  return new GroundswellError(
    `An entry of ${sizeBytes} bytes exceeds the limit of ${eventLimits.maxEventBytes}.`,
    { code: 'log/oversized' },
  )
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((value, i) => value === b[i])
}
