/**
 * `join`: trains with a swarm until the run is finished or Ctrl-C. It says at any moment what it is doing, why it
 * waits, and which was its last contribution that counted.
 */
import { join as joinPath } from 'node:path'
import { seededRandom, systemClock } from '../../core/index.ts'
import {
  countParameters,
  layoutOf,
  parseTokenizerJson,
  unflatten,
  writeCheckpoint,
} from '../../model/index.ts'
import {
  fileLocalStore,
  type Manifest,
  type OpenedWorkload,
  openWorkload,
  type PeerEvent,
  type PeerStatus,
  TrainerPeer,
} from '../../run/index.ts'
import {
  decodeJoinLink,
  fileBlobs,
  type JoinLink,
  libp2pTransport,
  loadOrCreateIdentity,
  shortPeerId,
} from '../../swarm/index.ts'
import { createSyncMethod } from '../../sync/index.ts'
import { openChosenBackend } from '../backend.ts'
import type { JoinCommandLine } from '../command-lines.ts'
import { absolute, type CommandContext } from '../context.ts'
import { claimFolder } from '../disk.ts'
import { usageError } from '../failures.ts'
import { counted, formatBytes, formatCount } from '../format.ts'
import { openFreeHome, openHome } from '../home.ts'
import { checkJoining } from '../memory.ts'
import { peerMetrics } from '../metrics.ts'
import { startMetrics } from '../metrics-server.ts'
import type { Output } from '../output.ts'
import { type LastWork, peerLine } from '../peer-line.ts'

const statusEveryMs = 250
const plainEveryMs = 10_000
const maxTokenizerBytes = 64 * 1024 * 1024

export async function join(context: CommandContext, text: string, options: JoinCommandLine): Promise<void> {
  const { output, files, signal } = context
  const link = decodeJoinLink(text)
  const out = options.out === undefined ? undefined : absolute(context, options.out)
  if (out !== undefined && (await files.exists(`${out}/config.json`))) {
    throw usageError(
      'out-occupied',
      `“${out}” holds a checkpoint already.`,
      'Choose another folder with --out.',
    )
  }
  await using _claim = out === undefined ? undefined : await claimFolder(out)
  await using home =
    options.home === undefined
      ? await openFreeHome(absolute(context, joinPath('runs', `peer-${link.runId.slice(-10)}`)))
      : await openHome(absolute(context, options.home))
  const identity = await loadOrCreateIdentity(joinPath(home.folder, 'identity.pem'), (into) =>
    crypto.getRandomValues(into),
  )
  const blobs = await fileBlobs(joinPath(home.folder, 'blobs'), { durable: false }) // the host keeps what must not be lost
  await using backend = await openChosenBackend(options, signal)
  const { listen, announce, relay: relays, up, down } = options
  const transport = await libp2pTransport({
    identity,
    listen: listen ?? [listenAddress(link)],
    ...(announce === undefined ? {} : { announce }),
    ...(relays === undefined ? {} : { relays }),
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
  let manifest: Manifest | undefined
  let tokenizerBytes: Uint8Array | undefined
  let workload: OpenedWorkload | undefined
  const peer: TrainerPeer = new TrainerPeer({
    ...{ link, transport, blobs, signer: identity.signer },
    clock: systemClock(),
    random: seededRandom('join', crypto.getRandomValues(new Uint8Array(16))),
    session: crypto.getRandomValues(new Uint8Array(16)),
    name: options.name ?? shortPeerId(transport.self),
    localStore: fileLocalStore(files, home.folder),
    fits: (joining) => checkJoining(joining, backend.name),
    prepare: async (preparation) => {
      manifest = preparation.manifest
      tokenizerBytes = await preparation.fetchArtifact(manifest.tokenizer, { maxBytes: maxTokenizerBytes })
      workload = await openWorkload(preparation, backend)
      const parameters = countParameters(manifest.model)
      output.line(
        `Run “${manifest.name}”: ${formatCount(parameters)} parameters, ${counted(manifest.rounds.rounds, 'round')} of ` +
          `${counted(createSyncMethod(manifest.sync).innerSteps, 'step')}; ${backend.name}, ${counted(backend.threads, 'thread')}`,
      )
      output.event({
        event: 'joined',
        run: manifest.name,
        peer: transport.self,
        parameters,
        backend: backend.name,
      })
      return workload
    },
    onEvent: (event) => follow(event),
  })
  const show = statusLine(output, () => lastWork)
  let lastWork: LastWork | undefined
  const follow = (event: PeerEvent): void => {
    if (event.type === 'accepted') lastWork = { at: new Date(), tokens: event.tokens }
    if (event.type === 'accepted' && signal.aborted) {
      output.note(
        `Round ${event.round}: ${counted(event.steps, 'step')}, ${counted(event.tokens, 'token')}: accepted.`,
      )
    }
    if (event.type === 'refused' || event.type === 'missed' || event.type === 'accepted') {
      output.event({ ...event, event: event.type })
      if (event.type === 'refused') output.note(`Round ${event.round}: ${event.message} ${event.remedy}`)
      if (event.type === 'missed') output.note(`Round ${event.round}: ${event.why}.`)
    } else if (event.type === 'expelled') {
      output.event({ ...event, event: event.type })
      output.note(`Expelled until round ${event.untilRound}: ${event.reason} ${event.remedy}`)
    } else if (event.type === 'disagreed') {
      output.event({ ...event, event: event.type })
      output.note(`Round ${event.round}: this peer’s merge differs from the host’s; fetching the host’s.`)
    } else if (event.type === 'reconnecting') {
      output.event({ event: 'reconnecting', attempt: event.attempt, why: event.why })
    }
    show(peer.status(), event.type === 'phase')
  }
  const onInterrupt = (): void => {
    const { step, leaseSteps, phase } = peer.status()
    if (phase === 'training' && step > 0) output.note(`Handing in ${step} of ${leaseSteps} steps…`)
  }
  signal.addEventListener('abort', onInterrupt, { once: true })
  try {
    await using metrics =
      options.metrics === undefined
        ? undefined
        : await startMetrics(options.metrics, () => peerMetrics(peer.status()))
    if (metrics !== undefined) {
      output.event({ event: 'metrics', url: metrics.url })
      output.line(`Metrics: ${metrics.url}`)
    }
    const result = await peer.run(signal)
    const { status } = result
    show(status, true)
    output.settle()
    if (
      out !== undefined &&
      result.parameters !== undefined &&
      manifest !== undefined &&
      result.reason === 'finished'
    ) {
      await writeCheckpoint(files, out, {
        config: manifest.model,
        parameters: unflatten(result.parameters, layoutOf(manifest.model)),
        tokenizer: parseTokenizerJson(new TextDecoder().decode(tokenizerBytes)),
      })
      output.line(`Checkpoint: ${out}`)
    }
    if (result.reason === 'left') {
      output.note(
        `Left after ${counted(status.contributions, 'accepted contribution')}; the same command joins again.`,
      )
      output.event({ event: 'left', contributions: status.contributions, lastAccepted: status.lastAccepted })
      throw signal.reason
    }
    output.line(
      `Done: ${counted(status.contributions, 'contribution')} accepted, ${formatBytes(status.sentBytes)} sent, ` +
        `${formatBytes(status.receivedBytes)} received`,
    )
    output.event({
      ...statusFields(status),
      event: 'done',
      contributions: status.contributions,
      runCheckpoint: status.checkpoint?.checkpoint ?? null,
      checkpoint: out ?? null,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
    })
  } finally {
    signal.removeEventListener('abort', onInterrupt)
    output.settle()
    await transport.stop()
    await workload?.[Symbol.asyncDispose]()
  }
}

/** Where other peers reach this one: on this machine only if the whole run is on this machine. */
function listenAddress({ addresses }: JoinLink): string {
  const local = addresses.every((address) => /^\/ip4\/127\.|^\/ip6\/::1\//.test(address))
  return local ? '/ip4/127.0.0.1/tcp/0' : '/ip4/0.0.0.0/tcp/0'
}

/** Steps count over the whole run, for whoever joined late too: they decide the learning rate. */
function statusFields(status: PeerStatus): Record<string, unknown> {
  const { phase, why, round, lastRound, innerSteps, loss, tokensPerSecond, lastAccepted } = status
  const done = status.leaseSteps === 0 ? 0 : Math.floor((status.step * innerSteps) / status.leaseSteps)
  return {
    ...{ phase, why, round, rounds: lastRound, loss, tokensPerSecond, lastAccepted },
    ...{ leaseStep: status.step, leaseSteps: status.leaseSteps, share: status.share },
    ...{ stepsPerSecond: status.stepsPerSecond, lastVerdict: status.lastVerdict },
    step: Math.max(0, round - 1) * innerSteps + done,
    bytesUp: status.sentBytes,
    bytesDown: status.receivedBytes,
  }
}

function statusLine(
  output: Output,
  lastWork: () => LastWork | undefined,
): (status: PeerStatus, urgent: boolean) => void {
  let shownAt = Number.NEGATIVE_INFINITY
  return (status, urgent) => {
    const now = performance.now()
    const everyMs = output.interactive || output.json ? statusEveryMs : plainEveryMs
    if (now - shownAt < everyMs && !(urgent && output.json)) return
    shownAt = now
    output.event({ event: 'status', ...statusFields(status) })
    const text = peerLine(status, lastWork())
    if (output.interactive) output.redraw(text)
    else output.line(text)
  }
}
