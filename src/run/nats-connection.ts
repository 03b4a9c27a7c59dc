/**
 * A connection to NATS (https://docs.nats.io) that says in words what is wrong, and does not give up once it stood: a
 * server that restarts is found again (only credentials that were accepted before and are refused twice end it). The
 * packages are loaded when the first connection is made, so that
 * whoever keeps a run in a file does not pay for them.
 */
import { readFile } from 'node:fs/promises'
import type { NatsConnection, NodeConnectionOptions } from '@nats-io/transport-node'
import { GroundswellError, messageOf } from '../core/index.ts'
import { natsErrorNames } from './nats-errors.ts'

export type { NatsConnection } from '@nats-io/transport-node'

export interface NatsOptions {
  /** A `.creds` file as NATS' own tools make it: a JWT and the seed of its key. */
  readonly credentialsFile?: string
  /** Certificate authorities (PEM) to believe instead of those that Node knows; implies encryption. */
  readonly caFile?: string
  /** Shown to whoever looks after the server. */
  readonly name?: string
  /** How long the first contact may take, per server. */
  readonly connectWithinMs?: number
  /** Between two attempts to find a server again; up to a fifth more, at random. */
  readonly reconnectAfterMs?: number
}

/** A server that does not answer two signs of life in a row counts as gone. */
const pingEveryMs = 10_000
const protocols = new Set(['nats:', 'tls:'])

/**
 * Connects to a server of `nats://[user:password@|token@]host[:port]`, or `tls://` to insist on encryption; several
 * servers of one cluster are separated by commas. JetStream must be enabled for the account.
 * @throws GroundswellError `nats/bad-url`, `nats/credentials`, `nats/unreachable`, `nats/not-authorised`, `nats/tls`,
 *   `nats/no-jetstream`
 */
export async function connectNats(url: string, options: NatsOptions = {}): Promise<NatsConnection> {
  const servers = url.split(',').map((part) => parseServer(part.trim()))
  const where = servers.map(({ address }) => address).join(', ')
  const { connect, credsAuthenticator } = await import('@nats-io/transport-node')
  const { jetstreamManager } = await import('@nats-io/jetstream')
  const { credentialsFile, caFile, name = 'groundswell' } = options
  const { connectWithinMs = 5000, reconnectAfterMs = 1000 } = options
  const credentials = await readIfGiven(credentialsFile)
  const authenticator = credentials === undefined ? undefined : credsAuthenticator(credentials)
  try {
    authenticator?.('nonce') // else the file would be read only when a server asks, and seem to be the server's fault
  } catch (cause) {
    throw new GroundswellError(`The file “${credentialsFile}” holds no NATS credentials.`, {
      code: 'nats/credentials',
      remedy: 'Make it anew, for instance with “nsc generate creds”.',
      cause,
    })
  }
  const ca = await readIfGiven(caFile)
  const insists = servers.some(({ encrypted }) => encrypted) || ca !== undefined
  const login = servers.find(({ user }) => user !== undefined)
  const settings: NodeConnectionOptions = {
    servers: servers.map(({ address }) => address),
    name,
    timeout: connectWithinMs,
    maxReconnectAttempts: -1,
    reconnectTimeWait: reconnectAfterMs,
    reconnectJitter: reconnectAfterMs / 5,
    reconnectJitterTLS: reconnectAfterMs / 5,
    pingInterval: pingEveryMs,
    maxPingOut: 2,
    ...(insists ? { tls: ca === undefined ? {} : { ca: new TextDecoder().decode(ca) } } : {}),
    ...(login?.user === undefined
      ? {}
      : login.password === undefined
        ? { token: login.user }
        : { user: login.user, pass: login.password }),
    ...(authenticator === undefined ? {} : { authenticator }),
  }
  const connection = await connect(settings).catch((cause: unknown) => {
    throw connectError(where, cause)
  })
  try {
    await jetstreamManager(connection, { timeout: connectWithinMs })
  } catch (cause) {
    await connection.close()
    throw natsErrorNames(cause).has('JetStreamNotEnabled')
      ? new GroundswellError(`The NATS server at ${where} keeps nothing: JetStream is not enabled.`, {
          code: 'nats/no-jetstream',
          remedy: 'Start it with “nats-server -js -sd FOLDER”, or enable JetStream for this account.',
          cause,
        })
      : connectError(where, cause)
  }
  return connection
}

interface ServerAddress {
  /** Host and port, without what is secret. */
  readonly address: string
  readonly encrypted: boolean
  readonly user: string | undefined
  readonly password: string | undefined
}

function parseServer(text: string): ServerAddress {
  const parsed = URL.canParse(text) ? new URL(text) : undefined
  if (parsed === undefined || !protocols.has(parsed.protocol) || parsed.hostname === '') {
    // Without what stands before an @: it may be a password.
    const shown = text.replace(/^.*@/, '…@').slice(0, 80)
    throw new GroundswellError(`“${shown}” is not the address of a NATS server.`, {
      code: 'nats/bad-url',
      remedy: 'Write it as nats://HOST:4222, or tls://HOST:4222 with encryption.',
    })
  }
  return {
    address: `${parsed.hostname}:${parsed.port || '4222'}`,
    encrypted: parsed.protocol === 'tls:',
    user: unescaped(parsed.username),
    password: unescaped(parsed.password),
  }
}

/** Part of an address; what is no escape after a “%” is meant as it stands. */
function unescaped(part: string): string | undefined {
  if (part === '') return undefined
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

async function readIfGiven(path: string | undefined): Promise<Uint8Array | undefined> {
  if (path === undefined) return undefined
  try {
    return await readFile(path)
  } catch (cause) {
    throw new GroundswellError(`The file “${path}” for the NATS connection cannot be read.`, {
      code: 'nats/credentials',
      remedy: 'Check its name and that you may read it.',
      cause,
    })
  }
}

function connectError(where: string, cause: unknown): GroundswellError {
  const names = natsErrorNames(cause)
  const why = messageOf(cause)
  const say = (code: string, message: string, remedy: string): GroundswellError =>
    new GroundswellError(message, { code, remedy, cause })
  if (names.has('AuthorizationError') || names.has('UserAuthenticationExpiredError')) {
    return say(
      'nats/not-authorised',
      `The NATS server at ${where} does not accept these credentials.`,
      'Give user and password in the address (nats://USER:PASSWORD@HOST), or a credentials file.',
    )
  }
  if (/tls|certificate|ssl|self-signed/i.test(why)) {
    return say(
      'nats/tls',
      `No encrypted connection to the NATS server at ${where}: ${why}.`,
      'Write nats:// if the server offers none, or name its certificate authority.',
    )
  }
  return say(
    'nats/unreachable',
    `No NATS server answers at ${where}: ${why}.`,
    'Check the address and that the server runs.',
  )
}
