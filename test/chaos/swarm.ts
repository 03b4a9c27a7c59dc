/**
 * One run under faults: a host and its peers as processes, each peer behind a line of its own; the faults of a plan at
 * their times; and a judge that looks on all the while. Whoever is ended by a fault is started again with the same home.
 * When the plan is over everything is healed, the run is ended as its owner would, and what everybody has is compared.
 */
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { seededRandom } from '../../src/core/index.ts'
import { encodeEvent, sqliteLog } from '../../src/run/index.ts'
import { decodeJoinLink, encodeJoinLink } from '../../src/swarm/index.ts'
import { canMount, type Disk, mountDisk, unmountOrphans, workFolderPrefix } from './disks.ts'
import { LogReader } from './invariants.ts'
import { endOfPlan, type Fault, type FaultKind, planFaults, type Target } from './plan.ts'
import { type Exit, Program, type ProgramEvent } from './processes.ts'
import { goodLine, type LineState, type TcpProxy, startProxy } from './proxy.ts'

export interface ChaosOptions {
  readonly seed: number
  readonly faults: number
  readonly peers: number
  /** How long the faults take in all, about. */
  readonly minutes: number
  /** Keeps the logs also when all is well. */
  readonly keep: boolean
  readonly signal: AbortSignal
  /** One line for people. */
  readonly tell: (text: string) => void
}

export interface ChaosReport {
  readonly violations: readonly string[]
  readonly faults: Readonly<Record<string, number>>
  /** Faults whose target was not there when their time came. */
  readonly skipped: number
  readonly rounds: number
  readonly contributions: number
  readonly entries: number
  /** Contributions that peers were told are accepted, and those that the log does not have. */
  readonly toldAccepted: number
  readonly lost: number
  readonly restarts: Readonly<Record<string, number>>
  /** Processes that ended because their disk was full, or the host out of reach, and said so. */
  readonly gaveUp: number
  readonly peakRssBytes: Readonly<Record<string, number>>
  readonly seconds: number
  /** Where the logs and homes of a failed run are. */
  readonly kept: string | undefined
}

export const chaosLimits: Readonly<
  Record<
    | 'rssBytes'
    | 'diskBytes'
    | 'stuckMs'
    | 'settleMs'
    | 'sampleEveryMs'
    | 'readEveryMs'
    | 'restartAfterMs'
    | 'aftermathMs',
    number
  >
> = {
  /** Of any process of this tiny run: nearly all of it is Node and ONNX Runtime. */
  rssBytes: 512 * 1024 * 1024,
  diskBytes: 64 * 1024 * 1024,
  /** No round closes for so long although nothing lasts longer than a few seconds. */
  stuckMs: 60_000,
  /** For everybody to be there, and to finish. */
  settleMs: 90_000,
  sampleEveryMs: 500,
  readEveryMs: 2000,
  restartAfterMs: 300,
  /** An error of a full disk, or of a host out of reach, is told within that time of its cause. */
  aftermathMs: 15_000,
}

const peerNames = ['ada', 'bea', 'cyd', 'dot', 'eve', 'fay', 'gil', 'hal']
export const mostPeers: number = peerNames.length

/** @throws whatever keeps a run from being made at all; what goes wrong in it is in the report */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  await unmountOrphans()
  const folder = await mkdtemp(workFolderPrefix(process.pid))
  await using run = new ChaosRun(options, folder)
  return await run.run()
}

interface Member {
  readonly program: Program
  readonly target: Target
  readonly home: string
  readonly disk: Disk | undefined
  readonly proxy: TcpProxy | undefined
  link: string
  peer: string | undefined
  finished: ProgramEvent | undefined
  lastStatus: ProgramEvent | undefined
  /** When its disk, or its way to the host, was last in trouble; by the clock of `performance`. */
  diskTroubleAt: number
  lineTroubleAt: number
  diskIsFull: boolean
  /** Whether it is down on purpose. */
  held: boolean
}

class ChaosRun implements AsyncDisposable {
  private readonly options: ChaosOptions
  private readonly folder: string
  private readonly violations: string[] = []
  private readonly stopping = new AbortController()
  private readonly told: { peer: string; round: number }[] = []
  private readonly hostRounds: { round: number; checkpoint: string }[] = []
  private readonly done = new Map<string, number>()
  private readonly background: Promise<void>[] = []
  private readonly reader: LogReader
  private host!: Member
  private peers: Member[] = []
  private skipped = 0
  private gaveUp = 0
  private ending = false
  private kept: string | undefined
  private lastProgressAt = performance.now()
  private listening: (link: string) => void = () => {}

  constructor(options: ChaosOptions, folder: string) {
    this.options = options
    this.folder = folder
    this.reader = new LogReader(join(folder, 'host', 'log.sqlite'))
  }

  async run(): Promise<ChaosReport> {
    const { options, stopping } = this
    const startedAt = performance.now()
    const { signal } = stopping
    options.signal.addEventListener('abort', () => stopping.abort(options.signal.reason), { once: true })
    options.signal.throwIfAborted()
    const without: FaultKind[] = []
    if (!(await canMount(this.folder))) {
      without.push('disk')
      options.tell('No disk is filled: mounting a tmpfs needs Linux and root.')
    }
    await this.setUp(without.length === 0)
    this.background.push(this.watchMemory(signal), this.watchLog(signal))
    try {
      await this.startAll(signal)
      const meanGapMs = (options.minutes * 60_000) / options.faults
      const { seed, faults, peers } = options
      await this.inflictAll(planFaults({ seed, faults, peers, meanGapMs, without }), signal)
      await this.finishRun(signal)
    } catch (thrown) {
      const reason: unknown = signal.aborted ? signal.reason : thrown
      if (!(reason instanceof Violation)) throw reason
      this.violate(reason.message)
    }
    stopping.abort(new Error('The run is over.'))
    await Promise.allSettled(this.background)
    await this.stopAll()
    this.judge()
    if (this.violations.length > 0 || options.keep) await this.keepLogs()
    return this.report((performance.now() - startedAt) / 1000)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopping.abort(new Error('The run is over.'))
    await Promise.allSettled(this.background)
    await this.stopAll()
    for (const { proxy, disk, program } of this.members) {
      await program.closeLog()
      await proxy?.[Symbol.asyncDispose]()
      await disk?.[Symbol.asyncDispose]()
    }
    if (this.kept === undefined) await rm(this.folder, { recursive: true, force: true })
  }

  private get members(): Member[] {
    return this.host === undefined ? [] : [this.host, ...this.peers]
  }

  // Setting up

  private async setUp(disks: boolean): Promise<void> {
    const { folder, options } = this
    const logs = join(folder, 'logs')
    await mkdir(logs, { recursive: true })
    const port = await freePort()
    await writeFile(join(folder, 'text.txt'), someText())
    await writeFile(
      join(folder, 'run.yaml'),
      stringify(runFile(join(folder, 'text.txt'), port, options.seed)),
    )
    const member = async (name: string, target: Target): Promise<Member> => {
      const home = join(folder, name)
      const program: Program = new Program({
        name,
        logFile: join(logs, `${name}.log`),
        clockFile: join(folder, `${name}.clock`),
        arguments: () => this.argumentsOf(made),
        onEvent: (event) => (target === 'host' ? this.onHostEvent(event) : this.onPeerEvent(made, event)),
        onExit: (exit) => this.onExit(made, exit),
      })
      const made: Member = {
        ...{ program, target, home, link: '', peer: undefined, finished: undefined, lastStatus: undefined },
        disk: disks ? await mountDisk(home, chaosLimits.diskBytes) : undefined,
        proxy:
          target === 'host'
            ? undefined
            : await startProxy({ targetPort: port, random: seededRandom('line', options.seed, target) }),
        ...{ diskTroubleAt: Number.NEGATIVE_INFINITY, lineTroubleAt: Number.NEGATIVE_INFINITY },
        ...{ diskIsFull: false, held: false },
      }
      return made
    }
    this.host = await member('host', 'host')
    for (let i = 0; i < options.peers; i++) this.peers.push(await member(peerNames[i]!, i))
  }

  private argumentsOf({ program, home, link }: Member): string[] {
    const common = ['--home', home, '--backend', 'cpu', '--threads', '1']
    return program === this.host.program
      ? ['host', join(this.folder, 'run.yaml'), '--out', join(this.folder, 'out'), ...common]
      : ['join', link, '--name', program.name, ...common]
  }

  private async startAll(signal: AbortSignal): Promise<void> {
    const link = new Promise<string>((resolve) => {
      this.listening = resolve
    })
    this.host.program.start()
    const text = await within(chaosLimits.settleMs, link, 'the host does not listen', signal)
    for (const peer of this.peers) {
      peer.link = throughProxy(text, peer.proxy!.port)
      peer.program.start()
    }
    await this.until(
      'every peer has contributed',
      () => {
        const contributed = new Set(this.told.map(({ peer }) => peer))
        return this.peers.every(({ peer }) => peer !== undefined && contributed.has(peer))
      },
      signal,
    )
  }

  // What the processes say

  private onHostEvent(event: ProgramEvent): void {
    if (event.event === 'listening') this.listening(String(event.link))
    else if (event.event === 'round') {
      this.hostRounds.push({ round: Number(event.round), checkpoint: String(event.checkpoint) })
    } else if (event.event === 'done') this.host.finished = event
  }

  private onPeerEvent(member: Member, event: ProgramEvent): void {
    if (event.event === 'status') member.lastStatus = event
    else if (event.event === 'joined') member.peer = String(event.peer)
    else if (event.event === 'accepted') this.told.push({ peer: member.peer!, round: Number(event.round) })
    else if (event.event === 'done') member.finished = event
    else if (event.event === 'disagreed') {
      this.violate(
        `${member.program.name} got another checkpoint for round ${String(event.round)} than the host`,
      )
    }
  }

  private onExit(member: Member, exit: Exit): void {
    const { name } = member.program
    if (exit.wanted) {
      const clean = exit.signal === 'SIGKILL' || exit.code === 0 || exit.error === 'interrupted'
      if (!clean) this.violate(`${name} was asked to leave and ended with ${describe(exit)}`)
      return
    }
    if (exit.code === 0 && this.ending) return
    if (this.mayGiveUp(member, exit)) {
      this.gaveUp += 1
      this.options.tell(`          ${name} ended and said why: ${exit.error}`)
    } else {
      this.violate(`${name} ended by itself with ${describe(exit)}`)
    }
    this.restartSoon(member)
  }

  /** Whether it ended for a reason that the faults gave, and named the reason. */
  private mayGiveUp(member: Member, { error = '', code }: Exit): boolean {
    const recently = (at: number): boolean => performance.now() - at < chaosLimits.aftermathMs
    if (code !== 1) return false
    if (error.endsWith('/disk-full')) return member.diskIsFull || recently(member.diskTroubleAt)
    if (error === 'join/unreachable' || error === 'run/host-gone') {
      return recently(member.lineTroubleAt) || recently(this.host.lineTroubleAt)
    }
    return false
  }

  private restartSoon(member: Member): void {
    setTimeout(() => {
      if (this.stopping.signal.aborted || member.held || member.program.isRunning) return
      if (member.diskIsFull) this.restartSoon(member)
      else member.program.start()
    }, chaosLimits.restartAfterMs)
  }

  // Faults

  private async inflictAll(plan: readonly Fault[], signal: AbortSignal): Promise<void> {
    const { tell } = this.options
    tell(`${plan.length} faults in ${Math.round(endOfPlan(plan) / 1000)} s`)
    const startedAt = performance.now()
    const underWay: Promise<void>[] = []
    for (const fault of plan) {
      const waitMs = Math.max(0, startedAt + fault.atMs - performance.now())
      await sleep(waitMs, undefined, { signal }).catch(() => undefined)
      if (signal.aborted) break
      underWay.push(this.inflict(fault, signal))
    }
    for (const outcome of await Promise.allSettled(underWay)) {
      if (outcome.status === 'rejected' && !signal.aborted) throw outcome.reason
    }
    signal.throwIfAborted()
  }

  private async inflict(fault: Fault, signal: AbortSignal): Promise<void> {
    const { kind, target, durationMs, number } = fault
    const member = target === 'host' ? this.host : this.peers[target]!
    const { entries, closedRounds, contributions } = this.reader.reading
    this.options.tell(
      `${clock(fault.atMs)} ${String(number).padStart(4)} ${describeFault(fault).padEnd(34)} ${member.program.name.padEnd(5)}` +
        `round ${closedRounds}, ${contributions} contributions, ${entries} events`,
    )
    member.program.note(`fault ${number}: ${describeFault(fault)}`)
    const happened = await this.bring(fault, member, (ms = durationMs) => sleep(ms, undefined, { signal }))
    if (happened) this.done.set(kind, (this.done.get(kind) ?? 0) + 1)
    else this.skipped += 1
  }

  /** Does it, waits, and heals it. Returns false when the process was not there. */
  private async bring(fault: Fault, member: Member, wait: (ms?: number) => Promise<void>): Promise<boolean> {
    const { kind, amount } = fault
    const { program } = member
    switch (kind) {
      case 'kill':
      case 'freeze':
      case 'restart':
        return this.disturbProcess(fault, member, wait)
      case 'clock':
        // Never more than two hours off, so that every jump is one hour.
        await program.shiftClock(Math.abs(program.clockOffsetMs + amount) > 7_200_000 ? -amount : amount)
        return true
      case 'disk':
        member.diskIsFull = true
        await member.disk!.fill()
        try {
          await wait()
        } finally {
          await member.disk!.free()
          member.diskIsFull = false
          member.diskTroubleAt = performance.now()
        }
        return true
      case 'cut':
        for (const proxy of this.linesOf(member)) proxy.cut()
        return true
      default: {
        const lines = this.linesOf(member)
        for (const line of lines) line.change(badLine(kind, amount))
        try {
          await wait()
        } finally {
          for (const line of lines) line.change(goodLine)
          member.lineTroubleAt = performance.now()
        }
        return true
      }
    }
  }

  private async disturbProcess(
    { kind, durationMs }: Fault,
    member: Member,
    wait: (ms?: number) => Promise<void>,
  ): Promise<boolean> {
    const { program } = member
    if (!program.isRunning) return false
    member.lineTroubleAt = performance.now() + durationMs
    member.held = true
    try {
      if (kind === 'freeze') program.freeze(durationMs)
      else if (kind === 'kill') await program.kill()
      else if (!(await program.leave())) this.violate(`${program.name} did not leave when it was asked to`)
      await wait()
    } finally {
      member.held = false
      if (kind === 'freeze') program.thaw()
      else if (!program.isRunning && !this.stopping.signal.aborted) program.start()
    }
    return true
  }

  private linesOf(member: Member): TcpProxy[] {
    return member.target === 'host' ? this.peers.map(({ proxy }) => proxy!) : [member.proxy!]
  }

  // The end

  private async finishRun(signal: AbortSignal): Promise<void> {
    this.options.tell('All is healed; waiting for one more contribution of everybody')
    const before = this.told.length
    await this.until(
      'everybody contributes again',
      () => {
        const since = new Set(this.told.slice(before).map(({ peer }) => peer))
        return this.peers.every(({ peer }) => since.has(peer!))
      },
      signal,
    )
    await this.endRun()
    this.ending = true
    this.host.program.start()
    await this.until(
      'everybody finishes',
      () => this.members.every(({ finished }) => finished !== undefined),
      signal,
    )
    await this.until(
      'every process ends',
      () => this.members.every(({ program }) => !program.isRunning),
      signal,
    )
  }

  /** The open round shall be the last: written into the log while no host runs, as its owner might do it. */
  private async endRun(): Promise<void> {
    const { host } = this
    host.held = true
    if (!(await host.program.leave())) this.violate('the host did not leave when it was asked to')
    this.reader.catchUp()
    const log = sqliteLog(join(host.home, 'log.sqlite'))
    await log.append(encodeEvent({ type: 'ending', atMs: 0 }), { expect: await log.length() })
    await log.close()
    host.held = false
  }

  private async stopAll(): Promise<void> {
    await Promise.all(this.members.map(({ program }) => program.kill()))
  }

  // Judging

  private async watchMemory(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (const { program } of this.members) {
        await program.sampleMemory()
        if (program.rssBytes > chaosLimits.rssBytes) {
          this.violateOnce(`${program.name} holds more than ${formatMib(chaosLimits.rssBytes)} of memory`)
        }
      }
      await sleep(chaosLimits.sampleEveryMs, undefined, { signal }).catch(() => undefined)
    }
  }

  private async watchLog(signal: AbortSignal): Promise<void> {
    let rounds = 0
    while (!signal.aborted) {
      this.reader.catchUp()
      for (const violation of this.reader.violations.splice(0)) this.violate(violation)
      if (this.reader.reading.closedRounds > rounds || this.ending) this.lastProgressAt = performance.now()
      rounds = this.reader.reading.closedRounds
      if (performance.now() - this.lastProgressAt > chaosLimits.stuckMs) {
        this.stopping.abort(
          new Violation(`no round has closed for ${chaosLimits.stuckMs / 1000} s; ${this.situation()}`),
        )
      }
      await sleep(chaosLimits.readEveryMs, undefined, { signal }).catch(() => undefined)
    }
  }

  private judge(): void {
    const { reader } = this
    if (!reader.catchUp()) this.violate('the host’s log cannot be read')
    this.violations.push(...reader.violations.splice(0))
    const again = new LogReader(join(this.folder, 'host', 'log.sqlite'))
    if (!again.catchUp() || again.digest() !== reader.digest()) {
      this.violate('the log is not the one that was read while it grew')
    }
    for (const { peer, round } of this.lostContributions()) {
      this.violate(
        `${this.nameOf(peer)} was told that its contribution to round ${round} counts, and the log has none`,
      )
    }
    for (const { round, checkpoint } of this.hostRounds) {
      const logged = reader.checkpointOf(round - 1)
      if (logged !== checkpoint) {
        this.violate(
          `the host opened round ${round} with ${checkpoint}, and the log says ${logged ?? 'nothing'}`,
        )
      }
    }
    if (reader.state?.phase !== 'finished') {
      this.violate(`the run is not finished but ${reader.state?.phase ?? 'not begun'}`)
      return
    }
    for (const key of reader.uncounted()) this.violate(`no closed round counts contribution ${key}`)
    const elected = reader.state.checkpoint.checkpoint
    for (const { program, finished } of this.members) {
      const held = finished?.runCheckpoint
      if (held !== elected)
        this.violate(`${program.name} ends with ${String(held)} and the log with ${elected}`)
    }
  }

  private lostContributions(): { peer: string; round: number }[] {
    return this.told.filter(({ peer, round }) => !this.reader.hasContribution(peer, round))
  }

  private nameOf(peer: string): string {
    return this.peers.find((member) => member.peer === peer)?.program.name ?? peer
  }

  private situation(): string {
    const phase = this.reader.state?.phase ?? 'not begun'
    const peers = this.peers.map(({ program, lastStatus }) => {
      return `${program.name} ${program.isRunning ? `${String(lastStatus?.phase)} ${String(lastStatus?.why)}` : 'is not running'}`
    })
    return `the run is ${phase}, ${peers.join('; ')}`
  }

  private violate(text: string): void {
    this.violations.push(text)
    this.options.tell(`VIOLATED  ${text}`)
  }

  private violateOnce(text: string): void {
    if (!this.violations.includes(text)) this.violate(text)
  }

  private async until(what: string, satisfied: () => boolean, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + chaosLimits.settleMs
    while (!satisfied()) {
      if (performance.now() > deadline) {
        throw new Violation(
          `it takes more than ${chaosLimits.settleMs / 1000} s until ${what}; ${this.situation()}`,
        )
      }
      await sleep(50, undefined, { signal })
    }
  }

  /** Homes on small disks are gone with their mounts: copies stay. */
  private async keepLogs(): Promise<void> {
    const kept = join(this.folder, 'kept')
    for (const { program, home } of this.members) {
      await cp(home, join(kept, program.name), {
        recursive: true,
        filter: (path) => !path.endsWith('ballast'),
      })
    }
    this.kept = this.folder
  }

  private report(seconds: number): ChaosReport {
    const { rounds, contributions, entries } = {
      rounds: this.reader.reading.closedRounds,
      ...this.reader.reading,
    }
    const byName = (value: (program: Program) => number): Record<string, number> =>
      Object.fromEntries(this.members.map(({ program }) => [program.name, value(program)]))
    return {
      violations: this.violations,
      faults: Object.fromEntries(this.done),
      skipped: this.skipped,
      ...{ rounds, contributions, entries },
      toldAccepted: this.told.length,
      lost: this.lostContributions().length + this.reader.uncounted().length,
      restarts: byName(({ starts }) => Math.max(0, starts - 1)),
      gaveUp: this.gaveUp,
      peakRssBytes: byName(({ peakRssBytes }) => peakRssBytes),
      seconds,
      kept: this.kept,
    }
  }
}

/** Something that must not be, found while waiting for something else. */
class Violation extends Error {}

function badLine(kind: FaultKind, amount: number): Partial<LineState> {
  switch (kind) {
    case 'delay':
      return { delayMs: amount }
    case 'loss':
      return { lossProbability: amount }
    case 'narrow':
      return { bytesPerSecond: amount }
    case 'stall':
      return { stalled: true }
    case 'partition':
      return { parted: true }
    default:
      throw new TypeError(`“${kind}” is no state of a line`)
  }
}

function describeFault({ kind, amount, durationMs }: Fault): string {
  const lasting = durationMs === 0 ? '' : ` for ${(durationMs / 1000).toFixed(1)} s`
  const size: Partial<Record<FaultKind, string>> = {
    clock: ` ${amount > 0 ? '+' : '−'}1 h`,
    delay: ` ${Math.round(amount)} ms`,
    loss: ` ${Math.round(100 * amount)} %`,
    narrow: ` ${Math.round(amount / 1000)} kB/s`,
  }
  return `${kind}${size[kind] ?? ''}${lasting}`
}

function describe({ code, signal, error, complaint }: Exit): string {
  const how = signal ?? `code ${code ?? '?'}`
  return [how, error, complaint.split('\n').slice(0, 3).join(' ')].filter((part) => part).join(': ')
}

function clock(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  return `${String(Math.floor(seconds / 60)).padStart(3)}:${String(seconds % 60).padStart(2, '0')}`
}

export function formatMib(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024)} MiB`
}

/** The link with the proxy's port in place of the host's: to peers, the proxy is the host. */
function throughProxy(link: string, port: number): string {
  const decoded = decodeJoinLink(link)
  const addresses = decoded.addresses.map((address) => address.replace(/\/tcp\/\d+/, `/tcp/${port}`))
  return encodeJoinLink({ ...decoded, addresses })
}

/** One that was free a moment ago; the host needs the same one each time it starts. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function within<Result>(
  ms: number,
  work: Promise<Result>,
  complaint: string,
  signal: AbortSignal,
): Promise<Result> {
  const awake = new AbortController()
  const both = AbortSignal.any([awake.signal, signal])
  const late = sleep(ms, undefined, { signal: both }).then(() => {
    throw new Violation(complaint)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    awake.abort()
    await late.catch(() => undefined)
  }
}

const innerSteps = 5

/** A model that costs nothing, so that all the time goes to what is tested. */
function runFile(text: string, port: number, seed: number): object {
  return {
    model: { layers: 1, hiddenSize: 32, intermediateSize: 64, attentionHeads: 2, keyValueHeads: 2 },
    tokenizer: { kind: 'bytes' },
    data: { path: text },
    training: {
      steps: 1_000_000 * innerSteps,
      batchSize: 2,
      sequenceLength: 32,
      optimiser: { learningRate: 1e-3 },
      evaluateEvery: 0,
      evaluationBatches: 1,
      checkpointEvery: 0,
    },
    sync: { method: 'diloco', innerSteps },
    run: {
      ...{ name: 'chaos', host: '127.0.0.1', port },
      ...{ minimumPeers: 1, quorum: 0.5, graceSeconds: 1, vanishAfterSeconds: 3 },
      maxRoundSeconds: 20,
    },
    seed: seed % 1_000_000,
  }
}

function someText(): string {
  return Array.from(
    { length: 3000 },
    (_, i) => `In storm ${i} the swell rose ${(i * 7919) % 1009} times before the ground gave way.`,
  ).join('\n\n')
}
