/**
 * One run under faults: a host and its peers as processes, each peer behind a line of its own; the faults of a plan at
 * their times; and a judge that looks on all the while. Whoever is ended by a fault is started again with the same home.
 * When the plan is over everything is healed, the run is ended as its owner would, and what everybody has is compared.
 */
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { seededRandom } from '../../src/core/index.ts'
import { encodeEvent, sqliteLog } from '../../src/run/index.ts'
import { canMount, mountDisk, unmountOrphans, workFolderPrefix } from './disks.ts'
import { bringAbout, describeFault, type Member } from './faults.ts'
import { type Evidence, lostContributions, type Told, violationsAtEnd } from './invariants.ts'
import { LogReader } from './log-reader.ts'
import { lookOn } from './onlooker.ts'
import { endOfPlan, type Fault, type FaultKind, planFaults, type Target } from './plan.ts'
import { type Exit, Program, type ProgramEvent } from './processes.ts'
import { startProxy, type TcpProxy } from './proxy.ts'
import { type ChaosReport, formatMib } from './report.ts'
import { freePort, runFile, someText, throughProxy } from './setting.ts'

export interface ChaosOptions {
  readonly seed: number
  readonly faults: number
  readonly peers: number
  /** How long the faults take in all, about. */
  readonly minutes: number
  readonly without: readonly FaultKind[]
  /** Keeps the logs also when all is well. */
  readonly keep: boolean
  readonly signal: AbortSignal
  /** One line for people. */
  readonly tell: (text: string) => void
}

const mebibyte = 1024 * 1024

const limits = {
  diskBytes: 64 * mebibyte,
  /** No round closes for so long although nothing lasts longer than a few seconds. */
  stuckMs: 60_000,
  /** For everybody to be there, and to finish. */
  settleMs: 90_000,
  sampleEveryMs: 500,
  readEveryMs: 2000,
  restartAfterMs: 300,
  /** An error of a full disk, or of a host out of reach, is told within that time of its cause. */
  aftermathMs: 15_000,
} as const

/** Of any process of this tiny run: nearly all of it is Node and ONNX Runtime. */
export const rssLimitBytes: number = 512 * mebibyte

const peerNames = ['ada', 'bea', 'cyd', 'dot', 'eve', 'fay', 'gil', 'hal']
export const mostPeers: number = peerNames.length

/** @throws whatever keeps a run from being made at all; what goes wrong in it is in the report */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  await unmountOrphans()
  const folder = await mkdtemp(workFolderPrefix(process.pid))
  options.tell(`Work folder: ${folder}`)
  await using run = new ChaosRun(options, folder)
  return await run.run()
}

/** Something that must not be, found while waiting for something else. */
class Violation extends Error {}

class ChaosRun implements AsyncDisposable {
  private readonly options: ChaosOptions
  private readonly folder: string
  private readonly violations: string[] = []
  private readonly stopping = new AbortController()
  private readonly told: Told[] = []
  private readonly opened: { round: number; checkpoint: string }[] = []
  private readonly happened = new Map<FaultKind, number>()
  private readonly background: Promise<void>[] = []
  private readonly reader: LogReader
  private readonly peers: Member[] = []
  private host!: Member
  private hostLink: string | undefined
  private skipped = 0
  private gaveUp = 0
  private ending = false
  private kept: string | undefined

  constructor(options: ChaosOptions, folder: string) {
    this.options = options
    this.folder = folder
    this.reader = new LogReader(this.logFile)
  }

  async run(): Promise<ChaosReport> {
    const { options, stopping } = this
    const { signal } = stopping
    const startedAt = performance.now()
    options.signal.addEventListener('abort', () => stopping.abort(options.signal.reason), { once: true })
    options.signal.throwIfAborted()
    const mountable = await canMount(this.folder)
    if (!mountable) options.tell('No disk is filled: mounting a tmpfs needs Linux and root.')
    await this.setUp(mountable)
    this.background.push(this.watchMemory(signal), this.watchLog(signal))
    try {
      await this.startAll()
      const { seed, faults, peers } = options
      const meanGapMs = (options.minutes * 60_000) / faults
      const without: FaultKind[] = [...options.without, ...(mountable ? [] : (['disk'] as const))]
      await this.inflictAll(planFaults({ seed, faults, peers, meanGapMs, without }))
      await this.finishRun()
    } catch (thrown) {
      const reason: unknown = signal.aborted ? signal.reason : thrown
      if (!(reason instanceof Violation)) throw reason
      this.violate(reason.message)
    }
    await this.stopAll()
    for (const violation of await violationsAtEnd(this.evidence)) this.violate(violation)
    if (this.violations.length > 0 || options.keep) await this.keepLogs()
    return this.report((performance.now() - startedAt) / 1000)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopAll()
    for (const { lines, disk, program, target } of this.members) {
      await program.closeLog()
      if (target !== 'host') for (const line of lines) await line[Symbol.asyncDispose]()
      await disk?.[Symbol.asyncDispose]()
    }
    if (this.kept === undefined) await rm(this.folder, { recursive: true, force: true })
  }

  private get logFile(): string {
    return join(this.folder, 'host', 'log.sqlite')
  }

  private get out(): string {
    return join(this.folder, 'out')
  }

  private get members(): Member[] {
    return this.host === undefined ? [] : [this.host, ...this.peers]
  }

  private get evidence(): Evidence {
    const { reader, logFile, told, opened, host, peers, out } = this
    return { reader, logFile, told, opened, host, peers, out }
  }

  // Setting up

  private async setUp(disks: boolean): Promise<void> {
    const { folder, options } = this
    await mkdir(join(folder, 'logs'), { recursive: true })
    const port = await freePort()
    const text = join(folder, 'text.txt')
    await writeFile(text, someText())
    await writeFile(join(folder, 'run.yaml'), stringify(runFile(text, port, options.seed)))
    const lines: TcpProxy[] = []
    for (let i = 0; i < options.peers; i++) {
      lines.push(await startProxy({ targetPort: port, random: seededRandom('line', options.seed, i) }))
    }
    this.host = await this.makeMember('host', 'host', lines, disks)
    for (const [i, line] of lines.entries()) {
      this.peers.push(await this.makeMember(peerNames[i]!, i, [line], disks))
    }
  }

  private async makeMember(
    name: string,
    target: Target,
    lines: readonly TcpProxy[],
    ownDisk: boolean,
  ): Promise<Member> {
    const home = join(this.folder, name)
    const program = new Program({
      name,
      logFile: join(this.folder, 'logs', `${name}.log`),
      clockFile: join(this.folder, `${name}.clock`),
      arguments: () => this.argumentsOf(member),
      onEvent: (event) => (target === 'host' ? this.onHostEvent(event) : this.onPeerEvent(member, event)),
      onExit: (exit) => this.onExit(member, exit),
    })
    const member: Member = {
      ...{ program, target, home, lines, link: '', peer: undefined, finished: undefined },
      disk: ownDisk ? await mountDisk(home, limits.diskBytes) : undefined,
      ...{ lastStatus: undefined, diskIsFull: false, held: false },
      ...{ diskTroubleUntil: Number.NEGATIVE_INFINITY, lineTroubleUntil: Number.NEGATIVE_INFINITY },
    }
    return member
  }

  private argumentsOf({ program, target, home, link }: Member): string[] {
    const common = ['--home', home, '--backend', 'cpu', '--threads', '1']
    return target === 'host'
      ? ['host', join(this.folder, 'run.yaml'), '--out', this.out, ...common]
      : ['join', link, '--name', program.name, ...common]
  }

  private async startAll(): Promise<void> {
    this.host.program.start()
    await this.until('the host listens', () => this.hostLink !== undefined)
    this.background.push(lookOn(this.hostLink!, (status) => this.reader.hear(status), this.stopping.signal))
    for (const peer of this.peers) {
      peer.link = throughProxy(this.hostLink!, peer.lines[0]!.port)
      peer.program.start()
    }
    await this.untilAllContribute('everybody contributes')
  }

  // What the processes say

  private onHostEvent(event: ProgramEvent): void {
    if (event.event === 'listening') this.hostLink = String(event.link)
    else if (event.event === 'done') this.host.finished = event
    else if (event.event === 'round') {
      this.opened.push({ round: Number(event.round), checkpoint: String(event.checkpoint) })
    }
  }

  private onPeerEvent(member: Member, event: ProgramEvent): void {
    if (event.event === 'status') member.lastStatus = event
    else if (event.event === 'joined') member.peer = String(event.peer)
    else if (event.event === 'accepted') this.told.push({ peer: member.peer!, round: Number(event.round) })
    else if (event.event === 'done') member.finished = event
    else if (event.event === 'disagreed') {
      const { name } = member.program
      this.violate(`${name} got another checkpoint for round ${String(event.round)} than the host`)
    }
  }

  private onExit(member: Member, exit: Exit): void {
    const { name } = member.program
    if (exit.wanted) {
      if (!isClean(exit)) this.violate(`${name} was asked to leave and ended with ${describeExit(exit)}`)
      return
    }
    if (exit.code === 0 && this.ending) return
    if (this.mayGiveUp(member, exit)) {
      this.gaveUp += 1
      this.options.tell(`            ${name} ended and said why: ${exit.error}`)
    } else {
      this.violate(`${name} ended by itself with ${describeExit(exit)}`)
    }
    this.restartSoon(member)
  }

  /** Whether it ended for a reason that the faults gave, and named the reason. */
  private mayGiveUp(member: Member, { error = '', code }: Exit): boolean {
    const recent = (until: number): boolean => performance.now() - until < limits.aftermathMs
    if (code !== 1) return false
    if (error.endsWith('/disk-full')) return recent(member.diskTroubleUntil)
    if (error === 'join/unreachable' || error === 'run/host-gone') {
      return recent(member.lineTroubleUntil) || recent(this.host.lineTroubleUntil)
    }
    return false
  }

  private restartSoon(member: Member): void {
    setTimeout(() => {
      if (this.stopping.signal.aborted || member.held || member.program.isRunning) return
      if (this.ending && !this.host.program.isRunning) return // nobody is there to join
      if (member.diskIsFull) this.restartSoon(member)
      else member.program.start()
    }, limits.restartAfterMs)
  }

  // From the first fault to the end

  private async inflictAll(plan: readonly Fault[]): Promise<void> {
    const { signal } = this.stopping
    const processes = this.members.map(({ program }) => `${program.name} is process ${program.pid ?? '?'}`)
    this.options.tell(`All are there: ${processes.join(', ')}`)
    this.options.tell(`${plan.length} faults in ${Math.round(endOfPlan(plan) / 1000)} s`)
    const startedAt = performance.now()
    const underWay: Promise<void>[] = []
    for (const fault of plan) {
      const waitMs = Math.max(0, startedAt + fault.atMs - performance.now())
      await sleep(waitMs, undefined, { signal }).catch(() => undefined)
      if (signal.aborted) break
      underWay.push(this.inflict(fault))
    }
    for (const outcome of await Promise.allSettled(underWay)) {
      if (outcome.status === 'rejected' && !signal.aborted) throw outcome.reason
    }
    signal.throwIfAborted()
  }

  private async inflict(fault: Fault): Promise<void> {
    const { kind, target, number, atMs } = fault
    const { signal } = this.stopping
    const member = target === 'host' ? this.host : this.peers[target]!
    const { program } = member
    const text = describeFault(fault)
    const { entries, closedRounds, contributions } = this.reader.reading
    this.options.tell(
      `${minutesAndSeconds(atMs)} ${String(number).padStart(4)}  ${program.name.padEnd(5)} ${text.padEnd(26)} ` +
        `round ${closedRounds}, ${contributions} contributions, ${entries} events`,
    )
    program.note(`fault ${number}: ${text}`)
    const wait = (durationMs: number): Promise<void> => sleep(durationMs, undefined, { signal })
    if (await bringAbout(fault, member, wait)) this.happened.set(kind, (this.happened.get(kind) ?? 0) + 1)
    else this.skipped += 1
  }

  private async finishRun(): Promise<void> {
    this.options.tell('All is healed; the run ends once everybody has contributed again')
    await this.untilAllContribute('everybody contributes again')
    await this.endRun()
    this.ending = true
    this.host.program.start()
    await this.until('everybody finishes', () =>
      this.members.every(({ finished, program }) => finished !== undefined && !program.isRunning),
    )
  }

  /** The open round shall be the last: written into the log while no host runs, as its owner might do it. */
  private async endRun(): Promise<void> {
    const { host } = this
    host.held = true
    await host.program.leave()
    this.reader.catchUp()
    const log = sqliteLog(this.logFile)
    await log.append(encodeEvent({ type: 'ending', atMs: 0 }), { expect: await log.length() })
    await log.close()
    host.held = false
  }

  private async stopAll(): Promise<void> {
    this.stopping.abort(new Error('The run is over.'))
    await Promise.allSettled(this.background)
    await Promise.all(this.members.map(({ program }) => program.kill()))
  }

  private async untilAllContribute(what: string): Promise<void> {
    const before = this.told.length
    await this.until(what, () => {
      const since = new Set(this.told.slice(before).map(({ peer }) => peer))
      return this.peers.every(({ peer }) => peer !== undefined && since.has(peer))
    })
  }

  /** @throws Violation when it takes too long */
  private async until(what: string, satisfied: () => boolean): Promise<void> {
    const deadline = performance.now() + limits.settleMs
    while (!satisfied()) {
      if (performance.now() > deadline) {
        throw new Violation(`${limits.settleMs / 1000} s are not enough until ${what}; ${this.situation()}`)
      }
      await sleep(50, undefined, { signal: this.stopping.signal })
    }
  }

  // Looking on

  private async watchMemory(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (const { program } of this.members) {
        await program.sampleMemory()
        const text = `${program.name} holds more than ${formatMib(rssLimitBytes)} of memory`
        if (program.rssBytes > rssLimitBytes && !this.violations.includes(text)) this.violate(text)
      }
      await sleep(limits.sampleEveryMs, undefined, { signal }).catch(() => undefined)
    }
  }

  private async watchLog(signal: AbortSignal): Promise<void> {
    let rounds = -1
    let progressAt = performance.now()
    while (!signal.aborted) {
      this.reader.catchUp()
      for (const violation of this.reader.violations.splice(0)) this.violate(violation)
      const { closedRounds } = this.reader.reading
      if (closedRounds > rounds || this.ending) progressAt = performance.now()
      rounds = closedRounds
      if (performance.now() - progressAt > limits.stuckMs) {
        const text = `no round has closed for ${limits.stuckMs / 1000} s; ${this.situation()}`
        this.stopping.abort(new Violation(text))
      }
      await sleep(limits.readEveryMs, undefined, { signal }).catch(() => undefined)
    }
  }

  private situation(): string {
    const phase = this.reader.state?.phase ?? 'not begun'
    const peers = this.peers.map(({ program, lastStatus }) => {
      const doing = `${String(lastStatus?.phase)} ${String(lastStatus?.why)}`
      return `${program.name} ${program.isRunning ? doing : 'is not running'}`
    })
    return `the run is ${phase}; ${peers.join('; ')}`
  }

  private violate(text: string): void {
    this.violations.push(text)
    this.options.tell(`VIOLATED    ${text}`)
  }

  /** Homes on disks of their own are gone with their mounts: copies stay. */
  private async keepLogs(): Promise<void> {
    for (const { program, home, disk } of this.members) {
      const copy = join(this.folder, 'homes', program.name)
      if (disk !== undefined) {
        await cp(home, copy, { recursive: true, filter: (path) => !path.endsWith('ballast') })
      }
    }
    this.kept = this.folder
  }

  private report(seconds: number): ChaosReport {
    const { told, reader, skipped, gaveUp, violations, kept } = this
    const byName = (value: (program: Program) => number): Record<string, number> =>
      Object.fromEntries(this.members.map(({ program }) => [program.name, value(program)]))
    return {
      ...{ violations, skipped, gaveUp, seconds, kept, ...reader.reading },
      faults: Object.fromEntries(this.happened),
      told: told.length,
      compared: reader.compared,
      lost: lostContributions({ told, reader }).length + reader.uncounted().length,
      restarts: byName(({ starts }) => Math.max(0, starts - 1)),
      peakRssBytes: byName(({ peakRssBytes }) => peakRssBytes),
    }
  }
}

/** What is asked to leave says so with its code, unless it was asked before it could listen. */
function isClean({ code, signal, error, spoke, late }: Exit): boolean {
  if (late) return false
  if (signal !== null) return signal === 'SIGKILL' || !spoke
  return code === 0 || error === 'interrupted'
}

function describeExit({ code, signal, error, complaint }: Exit): string {
  const how = signal ?? `code ${code ?? '?'}`
  return [how, error, complaint.split('\n').slice(0, 3).join(' ')].filter((part) => part).join(': ')
}

function minutesAndSeconds(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  return `${String(Math.floor(seconds / 60)).padStart(4)}:${String(seconds % 60).padStart(2, '0')}`
}
