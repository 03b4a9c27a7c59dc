/**
 * The demo's swarm as it runs: starts the host and its peers, follows what they say, kills one and lets another
 * join late, and keeps the picture of it all.
 */
import { join } from 'node:path'
import { type Child, type ChildExit, startChild, unexpectedExit } from '../children.ts'
import { demoSettings } from '../demo-settings.ts'
import type { OutputEvent } from '../output.ts'
import type { PeerRow, SwarmView } from './table.ts'

export interface DemoSwarmOptions {
  readonly runFile: string
  readonly workFolder: string
  readonly out: string
  readonly rounds: number
  /** What all processes compute with. */
  readonly backend: string
  readonly now: () => number
  /** Something changed that is worth drawing. */
  readonly onChange: () => void
  readonly onNews: (event: OutputEvent & { readonly text: string }) => void
}

export interface SwarmResult {
  readonly validationLossStart: number
  readonly validationLossEnd: number
  readonly parameters: number
  readonly checkpoint: string
  readonly checkpointCid: string
  readonly killed: number
  readonly joinedLate: number
  /** All peers that contributed, the killed and the late one included. */
  readonly peers: number
  /** Sent and received by a peer that was there from the first round to the last. */
  readonly bytesPerPeer: number
}

const names = ['ada', 'bea', 'cyd', 'dot', 'eve', 'fay', 'gil', 'hal']

export class DemoSwarm {
  private readonly options: DemoSwarmOptions
  private readonly children: Child[] = []
  private readonly rows = new Map<string, PeerRow>()
  private readonly news: string[] = []
  private readonly validation: { round: number; loss: number }[] = []
  private readonly startedAt: number
  private round = 0
  private roundsStartedAt: number | undefined
  private killedPeer: string | undefined
  private latePeer: string | undefined
  private hostDone: OutputEvent | undefined
  private link: string | undefined
  private failed: (error: Error) => void = () => {}

  constructor(options: DemoSwarmOptions) {
    this.options = options
    this.startedAt = options.now()
  }

  get view(): SwarmView {
    const { rounds, now } = this.options
    const done = Math.max(0, this.round - 1)
    const since = this.roundsStartedAt
    const perRound = since === undefined || done === 0 ? undefined : (now() - since) / done
    return {
      round: this.round,
      rounds,
      elapsedSeconds: (now() - this.startedAt) / 1000,
      secondsLeft: perRound === undefined ? undefined : (perRound * (rounds - done)) / 1000,
      validation: this.validation,
      peers: [...this.rows.values()],
      news: this.news,
    }
  }

  /** Runs until the host has finished; throws when a process ends that was not meant to. */
  async run(signal: AbortSignal): Promise<SwarmResult> {
    const failure = new Promise<never>((_, reject) => {
      this.failed = reject
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
      if (signal.aborted) reject(signal.reason as Error)
    })
    try {
      const { runFile, workFolder, out, backend } = this.options
      const host = this.start(
        'host',
        [
          'host',
          runFile,
          '--home',
          join(workFolder, 'host'),
          '--out',
          out,
          '--backend',
          backend,
          '--threads',
          '1',
        ],
        (event) => this.onHostEvent(event),
      )
      const ended = host.exited.then((exit) => {
        if (exit.code !== 0 || this.hostDone === undefined) throw unexpectedExit('host', exit)
      })
      await Promise.race([ended, failure])
      // Peers take the final checkpoint along and leave by themselves.
      const peers = this.children.filter((child) => child !== host)
      await Promise.race([Promise.all(peers.map((peer) => peer.exited)), failure])
      return this.result()
    } finally {
      await this.stop()
    }
  }

  /** Asks every process to leave, and makes those leave that do not. */
  async stop(): Promise<void> {
    const exits = Promise.all(this.children.map((child) => child.exited))
    for (const child of this.children) child.kill('SIGTERM')
    const timer = setTimeout(() => {
      for (const child of this.children) child.kill('SIGKILL')
    }, 3000)
    await exits
    clearTimeout(timer)
  }

  private start(name: string, args: string[], onEvent: (event: OutputEvent) => void): Child {
    const child = startChild({
      name,
      arguments: args,
      onEvent: (event) => {
        onEvent(event)
        this.options.onChange()
      },
    })
    this.children.push(child)
    return child
  }

  private startPeer(name: string): void {
    this.rows.set(name, {
      name,
      phase: 'starting',
      step: 0,
      loss: undefined,
      tokensPerSecond: undefined,
      bytesUp: 0,
      bytesDown: 0,
      lastAccepted: 0,
    })
    const { workFolder, backend } = this.options
    const home = join(workFolder, name)
    const args = ['join', this.link!, '--name', name, '--home', home, '--backend', backend, '--threads', '1']
    const child = this.start(name, args, (event) => this.onPeerEvent(name, event))
    void child.exited.then((exit) => this.onPeerExit(name, exit))
  }

  private onPeerExit(name: string, exit: ChildExit): void {
    if (exit.code === 0) this.change(name, { phase: 'finished' })
    else if (name === this.killedPeer) this.change(name, { phase: 'killed', tokensPerSecond: undefined })
    else if (this.hostDone === undefined) this.failed(unexpectedExit(`peer ${name}`, exit))
  }

  private onHostEvent(event: OutputEvent): void {
    switch (event.event) {
      case 'listening':
        this.link = String(event.link)
        for (const name of names.slice(0, demoSettings.peers)) this.startPeer(name)
        this.tell('started', `the host listens, ${demoSettings.peers} peers join`)
        break
      case 'round':
        this.onRound(Number(event.round))
        break
      case 'evaluation':
        this.validation.push({ round: Number(event.round), loss: Number(event.validationLoss) })
        break
      case 'done':
        this.hostDone = event
        break
    }
  }

  private onRound(round: number): void {
    const { rounds, now } = this.options
    this.round = round
    this.roundsStartedAt ??= now()
    if (this.killedPeer === undefined && round > rounds * demoSettings.killAt) {
      const victim = names[demoSettings.peers - 1]!
      this.killedPeer = victim
      this.children.find(({ name }) => name === victim)!.kill('SIGKILL')
      this.tell('killed', `${victim} is killed with SIGKILL in round ${round}; the others go on`)
    }
    if (this.latePeer === undefined && round > rounds * demoSettings.joinAt) {
      this.latePeer = names[demoSettings.peers]!
      this.startPeer(this.latePeer)
      this.tell(
        'joined-late',
        `${this.latePeer} joins in round ${round} and fetches the checkpoint from the others`,
      )
    }
  }

  private onPeerEvent(name: string, event: OutputEvent): void {
    if (event.event !== 'status') return
    const number = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined)
    this.change(name, {
      phase: String(event.phase),
      step: number(event.step) ?? 0,
      loss: number(event.loss),
      tokensPerSecond: number(event.tokensPerSecond),
      bytesUp: number(event.bytesUp) ?? 0,
      bytesDown: number(event.bytesDown) ?? 0,
      lastAccepted: number(event.lastAccepted) ?? 0,
    })
  }

  private change(name: string, change: Partial<PeerRow>): void {
    this.rows.set(name, { ...this.rows.get(name)!, ...change })
    this.options.onChange()
  }

  private tell(event: string, text: string): void {
    this.news.push(text)
    this.options.onNews({ event, text, processes: this.children.map(({ pid }) => pid) })
  }

  private result(): SwarmResult {
    const done = this.hostDone!
    const rows = [...this.rows.values()]
    const throughout = rows.filter(({ name }) => name !== this.killedPeer && name !== this.latePeer)
    const exchanged = throughout.map(({ bytesUp, bytesDown }) => bytesUp + bytesDown)
    return {
      validationLossStart: Number(done.validationLossStart),
      validationLossEnd: Number(done.validationLoss),
      parameters: Number(done.parameters),
      checkpoint: String(done.checkpoint),
      checkpointCid: String(done.checkpointCid),
      killed: this.killedPeer === undefined ? 0 : 1,
      joinedLate: (this.rows.get(this.latePeer ?? '')?.lastAccepted ?? 0) > 0 ? 1 : 0,
      peers: rows.filter(({ lastAccepted }) => lastAccepted > 0).length,
      bytesPerPeer: Math.round(exchanged.reduce((sum, bytes) => sum + bytes, 0) / exchanged.length),
    }
  }
}
