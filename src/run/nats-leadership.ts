/**
 * A lease in a NATS key-value bucket: one key per run, changed only by who knows its newest revision. Nobody compares
 * clocks: who waits sees that the revision has not changed for a whole term, counted in its own naps, so neither a
 * clock that jumps nor a laptop that slept makes it believe so too early (the way of Kubernetes' leader election).
 */
import { randomUUID } from 'node:crypto'
import type { KV, KvEntry } from '@nats-io/kv'
import { z } from 'zod'
import { type Clock, systemClock, throwIfAborted } from '../core/index.ts'
import { type Leadership, type Lease, leaseLost } from './leadership.ts'
import type { NatsConnection } from './nats-connection.ts'
import { isPassing, jetStreamCode, jetStreamCodes, natsAsk, natsError } from './nats-errors.ts'
import { assertNatsName } from './nats-log.ts'

export interface NatsLeadershipInit {
  readonly connection: NatsConnection
  /** The run's id: letters, digits, “-” and “_”. */
  readonly run: string
  /** Shown to those who wait: a name of this host, at most 64 characters. */
  readonly holder: string
  /**
   * How long a host that says nothing counts as leading; it renews every third of that. By default 15 s: two thirds
   * outlast the election of a new leader within a cluster of servers (4 to 9 s).
   */
  readonly ttlMs?: number
  /** Servers of the cluster that keep a copy. Counts when the bucket is made. */
  readonly replicas?: number
  readonly clock?: Clock
  /** Told who leads, each time that changes while this host waits. */
  readonly onStandby?: (leader: string) => void
}

/** One bucket for the hosts of all runs. */
const bucket = 'groundswell-hosts'
const area = 'leadership'
const subject = 'the lease of the run’s host'
const maxHolderLength = 64
const maxValueBytes = 1024

const leaseSchema = z.object({ holder: z.string().max(maxHolderLength), token: z.string().max(64) })
type LeaseValue = z.infer<typeof leaseSchema>

/** @throws GroundswellError `leadership/bad-name`, `leadership/unreachable`, `leadership/not-allowed` */
export async function natsLeadership(init: NatsLeadershipInit): Promise<Leadership> {
  const { connection, run, ttlMs = 15_000, clock = systemClock(), onStandby } = init
  assertNatsName(run, area)
  const { Kvm } = await import('@nats-io/kv')
  const { jetstream } = await import('@nats-io/jetstream')
  const ask = natsAsk({ area, subject, clock })
  // A renewal may be tried twice before it is late.
  const client = jetstream(connection, { timeout: Math.max(1, Math.floor(ttlMs / 6)) })
  const kv = await ask(() =>
    new Kvm(client).create(bucket, {
      history: 1,
      maxValueSize: maxValueBytes,
      replicas: init.replicas ?? 1,
      allow_direct: false, // only the leader of the stream knows the newest revision
    }),
  )
  const holder = init.holder.slice(0, maxHolderLength)
  return {
    acquire: async (signal) => {
      const value: LeaseValue = { holder, token: randomUUID() }
      let seen: { revision: number; unchangedMs: number } | undefined
      let told: string | undefined
      for (;;) {
        throwIfAborted(signal)
        const before = clock.now()
        const entry = await passingUndefined(kv.get(run))
        if (entry !== undefined) {
          if (entry?.operation === 'PUT' && entry.revision !== seen?.revision) {
            seen = { revision: entry.revision, unchangedMs: 0 }
            const leader = parseLease(entry)?.holder ?? 'somebody'
            if (leader !== told) onStandby?.(leader)
            told = leader
          }
          // Ours: taken in the round before, and the answer was lost.
          const ours = entry !== null && parseLease(entry)?.token === value.token
          const free = ours || entry?.operation !== 'PUT' || (seen?.unchangedMs ?? 0) >= ttlMs
          const taken = free ? await take(kv, run, value, entry?.revision ?? 0) : undefined
          if (taken !== undefined) {
            return keepLease({ kv, key: run, value, revision: taken, renewedAtMs: before, ttlMs, clock })
          }
        }
        await clock.sleep(ttlMs / 3, signal)
        if (seen !== undefined) seen.unchangedMs += ttlMs / 3
      }
    },
  }
}

/** Writes the key if its revision is the one given (0: there is none yet); the new revision, or undefined. */
async function take(kv: KV, key: string, value: LeaseValue, revision: number): Promise<number | undefined> {
  try {
    return await passingUndefined(kv.put(key, JSON.stringify(value), { previousSeq: revision }))
  } catch (thrown) {
    if (jetStreamCode(thrown) === jetStreamCodes.wrongLastSequence) return undefined
    throw thrown
  }
}

interface HeldLease {
  readonly kv: KV
  readonly key: string
  readonly value: LeaseValue
  readonly revision: number
  /** When the renewal that counts was sent. */
  readonly renewedAtMs: number
  readonly ttlMs: number
  readonly clock: Clock
}

function keepLease({ kv, key, value, ttlMs, clock, ...start }: HeldLease): Lease {
  const lost = new AbortController()
  const ended = new AbortController()
  let { revision, renewedAtMs } = start
  /** Whoever waits takes over after a whole term; what has taken two thirds of one is late. */
  const isLate = (): boolean => clock.now() - renewedAtMs >= (2 * ttlMs) / 3

  /** Whether the lease is still ours; undefined where nobody answered. */
  const renew = async (): Promise<boolean | undefined> => {
    const sentAtMs = clock.now()
    try {
      const renewed = await take(kv, key, value, revision)
      if (renewed !== undefined) revision = renewed
      else {
        // Somebody else has it, or our own renewal arrived and its answer did not.
        const entry = await passingUndefined(kv.get(key))
        if (entry === undefined) return undefined
        if (entry === null || parseLease(entry)?.token !== value.token) return false
        revision = entry.revision
      }
      renewedAtMs = sentAtMs
      return true
    } catch {
      return undefined
    }
  }

  const keep = async (): Promise<void> => {
    let pauseMs = ttlMs / 3
    while (!ended.signal.aborted) {
      await clock.sleep(pauseMs, ended.signal).catch(() => undefined)
      if (ended.signal.aborted) return
      // A process that was frozen wakes up here.
      if (clock.now() - renewedAtMs >= ttlMs) return lost.abort(leaseLost('it was not heard of for too long'))
      const held = await renew()
      if (ended.signal.aborted) return
      if (held === false) return lost.abort(leaseLost('another host has taken over'))
      if (held === undefined && isLate()) return lost.abort(leaseLost('NATS does not answer'))
      pauseMs = held ? ttlMs / 3 : ttlMs / 12
    }
  }
  const keeping = keep()

  return {
    signal: lost.signal,
    release: async () => {
      if (ended.signal.aborted) return
      ended.abort()
      await keeping
      if (lost.signal.aborted) return
      // Whatever goes wrong here, the lease runs out.
      await kv.delete(key, { previousSeq: revision }).catch(() => undefined)
    },
  }
}

function parseLease(entry: KvEntry): LeaseValue | undefined {
  if (entry.operation !== 'PUT' || entry.value.byteLength > maxValueBytes) return undefined
  try {
    return leaseSchema.parse(entry.json())
  } catch {
    return undefined // not ours; it runs out like any other
  }
}

/** Undefined for a request that nobody answered. */
async function passingUndefined<Answer>(asked: Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await asked
  } catch (thrown) {
    if (isPassing(thrown)) return undefined
    throw natsError(area, subject, thrown)
  }
}
