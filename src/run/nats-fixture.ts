/**
 * A real `nats-server` with JetStream for tests: on a free port of the loopback, in a folder of its own that is removed
 * with it. Where the program is not installed, tests are skipped and say so.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import type { NatsConnection } from './nats-connection.ts'

// Debian installs it where only root's path leads.
const program = ['nats-server', '/usr/sbin/nats-server'].find(
  (candidate) => spawnSync(candidate, ['--version'], { stdio: 'ignore' }).status === 0,
)

/** Whether there is a server to test with. */
export const natsInstalled: boolean = program !== undefined
if (!natsInstalled) process.stderr.write('No nats-server is installed: the tests with NATS are skipped.\n')

export interface NatsServer extends AsyncDisposable {
  readonly url: string
  /** Ends the process at once, as a crash does; what it keeps stays. */
  kill(): Promise<void>
  /** Starts it again at the same port with the same folder. */
  restart(): Promise<void>
  /** Holds the process (SIGSTOP) and lets it go on: a server that hangs. */
  freeze(): void
  thaw(): void
  /** Ends it and removes its folder, as does the end of an `await using`. */
  stop(): Promise<void>
}

export interface NatsServerOptions {
  readonly jetstream?: boolean
  readonly user?: string
  readonly password?: string
  /** Lines of a configuration file. */
  readonly configuration?: string
  /** Further arguments of the program. */
  readonly settings?: readonly string[]
}

export async function startNatsServer(options: NatsServerOptions = {}): Promise<NatsServer> {
  if (program === undefined) throw new Error('nats-server is not installed')
  const folder = mkdtempSync(join(tmpdir(), 'groundswell-nats-'))
  const { jetstream = true, user, password } = options
  const configurationFile = join(folder, 'server.conf')
  writeFileSync(configurationFile, options.configuration ?? '')
  const settings = [
    '--config',
    configurationFile,
    ...(options.settings ?? []),
    ...(jetstream ? ['--jetstream', '--store_dir', join(folder, 'store')] : []),
    ...(user === undefined ? [] : ['--user', user, '--pass', password ?? '']),
  ]
  const start = async (port: number): Promise<{ child: ChildProcess; port: number }> => {
    const child = spawn(
      program,
      ['--addr', '127.0.0.1', '--port', `${port}`, '--ports_file_dir', folder, ...settings],
      { stdio: 'ignore' },
    )
    const found = await portOf(folder, child)
    return { child, port: found }
  }
  let { child, port } = await start(-1)
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }
  const stop = async (): Promise<void> => {
    await kill()
    rmSync(folder, { recursive: true, force: true })
  }
  return {
    url: `nats://127.0.0.1:${port}`,
    kill,
    restart: async () => {
      await kill()
      ;({ child, port } = await start(port))
    },
    freeze: () => void child.kill('SIGSTOP'),
    thaw: () => void child.kill('SIGCONT'),
    stop,
    [Symbol.asyncDispose]: stop,
  }
}

/** Servers that keep copies of each other's streams. */
export interface NatsCluster extends AsyncDisposable {
  readonly servers: readonly NatsServer[]
}

export async function startNatsCluster(size: number): Promise<NatsCluster> {
  const ports = await Promise.all(Array.from({ length: size }, freePort))
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`)
  const settingsOf = (i: number): string[] => [
    '--name',
    `server-${i}`,
    '--cluster_name',
    'groundswell',
    '--cluster',
    routes[i]!,
    '--routes',
    routes.join(','),
  ]
  const servers = await Promise.all(ports.map((_, i) => startNatsServer({ settings: settingsOf(i) })))
  return {
    servers,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(servers.map((server) => server.stop()))
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/**
 * Lets a test with a virtual clock wait for the real server: resolves when every request that was made on this
 * connection has its answer, and whatever follows from them has been asked and answered too.
 */
export function settling(connection: NatsConnection): () => Promise<void> {
  const request = connection.request.bind(connection)
  let open = 0
  connection.request = async (...asked) => {
    open += 1
    try {
      return await request(...asked)
    } finally {
      open -= 1
    }
  }
  return async () => {
    for (let idle = 0; idle < 5; idle++) {
      await turn()
      if (open > 0) idle = 0
    }
  }
}

/** Waits until the server has written down where it listens, which it does when it is ready. */
async function portOf(folder: string, child: ChildProcess): Promise<number> {
  for (let waited = 0; waited < 1000; waited++) {
    if (child.exitCode !== null) throw new Error(`nats-server ended with ${child.exitCode}`)
    const file = readdirSync(folder).find((name) => name.endsWith(`_${child.pid}.ports`))
    const text = file === undefined ? '' : readFileSync(join(folder, file), 'utf8')
    if (text.endsWith('}')) {
      const { nats } = JSON.parse(text) as { nats: string[] }
      return Number(new URL(nats[0]!).port)
    }
    await sleep(10)
  }
  throw new Error('nats-server does not start')
}
