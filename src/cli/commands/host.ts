/**
 * `host`: coordinates a run. Everything that must survive lies in its home folder, so the same command goes on with
 * a run that was interrupted, or whose host was killed.
 */
import { flushCompileCache } from 'node:module'
import { join } from 'node:path'
import { type Cid, systemClock } from '../../core/index.ts'
import { countParameters, layoutOf, parseTokenizerJson, unflatten } from '../../model/index.ts'
import { type HostStatus, hostPlaces, openHost, publishRun, runIdOf } from '../../run/index.ts'
import {
  encodeJoinLink,
  fileBlobs,
  libp2pTransport,
  loadOrCreateIdentity,
  parsePeerId,
  readArtifact,
  shortPeerId,
} from '../../swarm/index.ts'
import { createSyncMethod } from '../../sync/index.ts'
import type { CheckpointLoss } from '../checkpoint-loss.ts'
import type { HostCommandLine } from '../command-lines.ts'
import { absolute, type CommandContext, loadRunFile } from '../context.ts'
import { claimFolder } from '../disk.ts'
import { counted, formatBytes, formatCount, formatLoss } from '../format.ts'
import { openHome } from '../home.ts'
import { putCheckpoint, requireOwn, runLeftIn } from '../host-out.ts'
import { homeError, openRun } from '../host-run.ts'
import { openIdentity } from '../identity.ts'
import { openKeep } from '../keep.ts'
import { hostMetrics } from '../metrics.ts'
import { startMetrics } from '../metrics-server.ts'
import type { RunFile } from '../run-file-schema.ts'
import { keepStartLoss, startLossOf } from '../start-loss.ts'
import { swarmTable } from '../swarm-table.ts'
import { ownerFiles } from './owner.ts'

/** How long members have, after the last round, to fetch the last checkpoint and say good-bye. */
const lingerMs = 10_000
/** How long a host that goes on with a run serves before it measures. */
const membersFirstMs = 3000
const plainEveryMs = 10_000
const redrawEveryMs = 250

export async function host(context: CommandContext, path: string, options: HostCommandLine): Promise<void> {
  const { output, files, signal } = context
  const run = await loadRunFile(context, path, options)
  const out = absolute(context, run.out!)
  await using _claim = await claimFolder(out)
  await using owned = await openHome(absolute(context, options.home ?? join('runs', run.run.name)))
  const home = owned.folder
  const left = await runLeftIn(files, { home, out })
  const random = (into: Uint8Array<ArrayBuffer>): Uint8Array => crypto.getRandomValues(into)
  const identity =
    options.identity === undefined
      ? await loadOrCreateIdentity(join(home, 'identity.pem'), random)
      : await openIdentity(context, absolute(context, options.identity))
  const owner = await loadOrCreateIdentity(join(home, ownerFiles.key), random)
  const owners = [owner.peerId, ...(run.run.owners ?? []).map(parsePeerId)]
  const near = await fileBlobs(join(home, 'blobs'))
  const { manifest, described } = await openRun(context, { home, near, run })
  const { model: config } = manifest
  requireOwn(left, { out, run: await runIdOf(manifest) })
  const parameters = countParameters(config)
  const { listen, announce, relays, also = [], up, down } = run.run
  // The other host must not have to wait until this one has prepared, so only what follows is done as the leader.
  await using keep = await openKeep(context, { home, near, manifest, place: run.run.log })
  const { log, blobs } = keep
  const begun = (await log.length()) > 0
  // A log that has begun was begun by a host that had published all of it.
  if (run.run.log !== undefined && !begun) await publishRun(blobs, await described(), signal)
  signal.throwIfAborted()
  const portFile = join(home, 'port')
  const transport = await libp2pTransport({
    identity,
    listen: listen ?? [listenAddress(run, await lastPort(context, portFile))],
    ...(announce === undefined ? {} : { announce }),
    ...(relays === undefined ? {} : { relays }),
    limits: { maxConnections: hostPlaces(manifest.rounds.maximumPeers).connections },
    caps: {
      ...(up === undefined ? {} : { upBytesPerSecond: up }),
      ...(down === undefined ? {} : { downBytesPerSecond: down }),
    },
    onRelay: ({ relay, state, message }) => {
      output.event({ event: 'relay', relay, state, message: message ?? null })
      const said = message === undefined ? '' : `: ${message}`
      if (state !== 'reserved') output.note(`Relay ${shortPeerId(relay)} is ${state}${said}`)
    },
  })
  const randomSeed = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex')
  const coordinator = await openHost({
    ...{ manifest, transport, signer: identity.signer, blobs, log, owners },
    clock: systemClock(),
    session: crypto.getRandomValues(new Uint8Array(16)),
    seed: randomSeed,
    ...(keep.lease === undefined ? {} : { lease: keep.lease }),
  }).catch(async (thrown: unknown) => {
    await transport.stop()
    throw homeError(thrown, home)
  })
  await using metrics =
    run.run.metrics === undefined
      ? undefined
      : await startMetrics(run.run.metrics, () => hostMetrics(coordinator.status()))
  const link = encodeJoinLink({
    runId: coordinator.runId,
    host: transport.self,
    addresses: [...transport.addresses, ...also.map((address) => addressOf(address, transport.self))],
  })
  await files.write(join(home, ownerFiles.link), [new TextEncoder().encode(`${link}\n`)])
  const port = portOf(transport.addresses)
  if (port !== undefined) await files.write(portFile, [new TextEncoder().encode(`${port}\n`)])
  const { rounds } = manifest.rounds
  const { innerSteps } = createSyncMethod(manifest.sync) // of a round, which may be less than the method's H
  output.line(
    `Run “${manifest.name}”: ${formatCount(parameters)} parameters, ${counted(rounds, 'round')} of ${counted(innerSteps, 'step')}`,
  )
  if (begun) {
    const { round, lastRound, totals } = coordinator.status()
    output.event({ event: 'resumed', round, rounds: lastRound, contributions: totals.contributions })
    output.line(
      `Goes on where the log ends: round ${Math.min(round, lastRound)} of ${lastRound}, ` +
        `${counted(totals.contributions, 'contribution')} accepted`,
    )
  }
  output.line('')
  output.line('Others join with:')
  output.line(`  groundswell join ${link}`)
  output.line('')
  output.event({
    event: 'listening',
    link,
    runId: coordinator.runId,
    peer: transport.self,
    addresses: transport.addresses,
    parameters,
    rounds,
  })

  flushCompileCache() // now, as a host that is killed cannot when it ends
  if (metrics !== undefined) {
    output.event({ event: 'metrics', url: metrics.url })
    output.line(`Metrics: ${metrics.url}`)
  }
  const measured: { round: number; loss: number }[] = []
  let checkpointLoss: CheckpointLoss | undefined
  const measure = async (): Promise<void> => {
    signal.throwIfAborted()
    // Of now: rounds go on while a backend is opened, and the first checkpoint is to be measured.
    const { round, parameters: flat } = coordinator.checkpoint()
    if (checkpointLoss === undefined) {
      const { openCheckpointLoss } = await import('../checkpoint-loss.ts')
      checkpointLoss = await openCheckpointLoss({ manifest, blobs: near, run }, signal)
    }
    const { loss, bitsPerByte } = await checkpointLoss.measure(flat)
    if (round === 0) await keepStartLoss(files, { home, run: coordinator.runId }, loss)
    measured.push({ round, loss })
    output.event({ event: 'evaluation', round, validationLoss: loss, bitsPerByte })
    output.line(
      `round ${round}: validation loss ${formatLoss(loss)} (${bitsPerByte.toFixed(3)} bits per byte)`,
    )
  }
  const { evaluateEvery } = run.training
  // Asked for more often than there are checkpoints, it is measured at each of them.
  const everyRounds = evaluateEvery === 0 ? 0 : Math.max(1, Math.round(evaluateEvery / innerSteps))
  const stopFollowing = followRun(context, coordinator, measured)
  try {
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
      if (signal.aborted) reject(signal.reason as Error)
    })
    aborted.catch(() => undefined) // raced below: Ctrl-C while the loss is being measured must find somebody listening
    let finished = false
    const end = coordinator.finished.then(() => {
      finished = true
    })
    end.catch(() => undefined) // as above
    // Members who wait for a host that was away come first: opening a backend takes the machine for a while.
    if (begun) await Promise.race([end, aborted, systemClock().sleep(membersFirstMs)])
    await measure()
    while (!finished) {
      const changed = nextCheckpoint(coordinator, measured.at(-1)!.round, everyRounds)
      await Promise.race([end, aborted, changed.promise])
      changed.cancel()
      if (!finished) await measure()
    }
    if (measured.at(-1)!.round !== coordinator.checkpoint().round) await measure()
    const last = coordinator.checkpoint()
    const { tokenizer } = manifest
    const tokenizerBytes = await readArtifact(near, tokenizer, { maxBytes: Number.MAX_SAFE_INTEGER })
    let checkpointCid: Cid
    try {
      checkpointCid = await putCheckpoint(
        files,
        { home, out, run: coordinator.runId },
        {
          config,
          tokenizer: parseTokenizerJson(new TextDecoder().decode(tokenizerBytes)),
          parameters: unflatten(last.parameters, layoutOf(config)),
        },
      )
    } finally {
      // Members get theirs also where this one cannot be written.
      await coordinator.stop({ lingerMs })
    }
    const status = coordinator.status()
    output.settle()
    const startLoss = await startLossOf(files, { home, run: coordinator.runId })
    const [first, newest] = [measured[0]!, measured.at(-1)!]
    const since = startLoss === undefined ? ` since round ${first.round}` : ''
    output.line(
      `Done: ${counted(status.checkpoint.round, 'round')}, validation loss ${formatLoss(startLoss ?? first.loss)} → ` +
        `${formatLoss(newest.loss)}${since}, ${formatBytes(status.sentBytes)} sent, ${formatBytes(status.receivedBytes)} received`,
    )
    output.line(`Checkpoint: ${out}`)
    output.event({
      event: 'done',
      rounds: status.checkpoint.round,
      validationLossStart: startLoss ?? null,
      validationLoss: newest.loss,
      trainLoss: status.loss,
      parameters,
      members: status.members.map(({ peer, name, status: state, contributions, tokens }) => ({
        ...{ peer, name, status: state, contributions, tokens },
      })),
      refused: status.refused,
      bytesUp: status.sentBytes,
      bytesDown: status.receivedBytes,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      runCheckpoint: last.checkpoint,
      checkpoint: out,
      checkpointCid,
    })
  } catch (thrown) {
    if (signal.aborted) output.note(`The run stands still in ${home}; the same command goes on with it.`)
    throw thrown
  } finally {
    stopFollowing()
    await coordinator.stop()
    await transport.stop()
    await checkpointLoss?.[Symbol.asyncDispose]()
  }
}

/** An address of this host, with its name at the end. */
function addressOf(address: string, self: string): string {
  return address.endsWith(`/p2p/${self}`) ? address : `${address}/p2p/${self}`
}

/** The multiaddress for the host and port of a run file; without a port, the one of last time if there was one. */
function listenAddress({ run }: RunFile, lastPort: number): string {
  const host = run.host === 'localhost' ? '127.0.0.1' : run.host
  const protocol = host.includes(':') ? 'ip6' : /^[\d.]+$/.test(host) ? 'ip4' : 'dns4'
  return `/${protocol}/${host}/tcp/${run.port === 0 ? lastPort : run.port}`
}

/** The port that this home's host listened on, so that its link stays true; 0 when there was none. */
async function lastPort({ files }: CommandContext, path: string): Promise<number> {
  if (!(await files.exists(path))) return 0
  const port = Number(new TextDecoder().decode(await files.read(path, { offset: 0, length: 6 })))
  return Number.isInteger(port) && port > 0 && port < 65_536 ? port : 0
}

/** The TCP port of the first address that is this machine's own. */
function portOf(addresses: readonly string[]): number | undefined {
  const own = addresses.find((address) => !address.includes('/p2p-circuit'))
  const port = /\/tcp\/(\d+)/.exec(own ?? '')?.[1]
  return port === undefined ? undefined : Number(port)
}

/** Resolves once there is a checkpoint `everyRounds` rounds after the one measured last. */
function nextCheckpoint(
  coordinator: Awaited<ReturnType<typeof openHost>>,
  measuredRound: number,
  everyRounds: number,
): { promise: Promise<void>; cancel: () => void } {
  let cancel = (): void => {}
  const promise = new Promise<void>((resolve) => {
    if (everyRounds === 0) return
    const look = (): void => {
      if (coordinator.checkpoint().round >= measuredRound + everyRounds) resolve()
    }
    cancel = coordinator.onChange(look)
    look()
  })
  return { promise, cancel }
}

/** Tells what happens: rounds as events, members in a table. */
function followRun(
  { output }: CommandContext,
  coordinator: Awaited<ReturnType<typeof openHost>>,
  measured: readonly { round: number; loss: number }[],
): () => void {
  let round = 0
  const statuses = new Map<string, string>()
  let drawnAt = Number.NEGATIVE_INFINITY
  const tell = (): void => {
    const status = coordinator.status()
    if (status.phase !== 'waiting' && status.round !== round) {
      round = status.round
      output.event({
        event: 'round',
        round,
        rounds: status.lastRound,
        checkpoint: status.checkpoint.checkpoint,
      })
    }
    for (const { peer, name, status: state, lastRound } of status.members) {
      const now = `${state} ${lastRound}`
      if (statuses.get(peer) === now) continue
      statuses.set(peer, now)
      output.event({ event: 'member', peer, name, status: state, lastAccepted: lastRound })
    }
    draw(status)
  }
  const draw = (status: HostStatus): void => {
    const now = performance.now()
    if (now - drawnAt < (output.interactive ? redrawEveryMs : plainEveryMs)) return
    drawnAt = now
    const table = swarmTable(status, measured.at(-1)?.loss)
    if (output.interactive) output.redraw(table.join('\n'))
    else output.line(table[0]!)
  }
  const stop = coordinator.onChange(tell)
  tell()
  return () => {
    stop()
    output.settle()
  }
}
