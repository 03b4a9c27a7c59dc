/**
 * Asking a host without being a peer of its run: for onlookers, for whoever checks the ledger, and for owners.
 */
import { type Clock, GroundswellError, type Signer } from '../core/index.ts'
import {
  isRemote,
  type JoinLink,
  type SignedMessages,
  signedMessages,
  type Transport,
} from '../swarm/index.ts'
import { isTroubleOfTheLine } from './host-link.ts'
import {
  type ControlAction,
  type LedgerPage,
  type MessageKind,
  type Messages,
  type PublicStatus,
  protocolLimits,
} from './protocol.ts'
import { messages } from './protocol-schemas.ts'

export interface HostClientInit {
  readonly link: JoinLink
  readonly transport: Transport
  /** Of the transport's identity. */
  readonly signer: Signer
  readonly clock: Clock
  /** 16 random bytes, fresh for this process. */
  readonly session: Uint8Array
}

const dialTimeoutMs = 5000
/** A host that merges a large model, or whose machine is busy, may not answer for longer than one dial waits. */
const connectForMs = 20_000
const answerTimeoutMs = 20_000
/** A host answers only so many questions in a second; whoever has come too late asks again, for so long. */
const turnPauseMs = 1000
const turnPatienceMs = 60_000

export class HostClient {
  private readonly init: HostClientInit
  private readonly messages: SignedMessages

  constructor(init: HostClientInit) {
    this.init = init
    this.messages = signedMessages({ ...init, runId: init.link.runId })
  }

  /**
   * Dials the addresses of the link: again for 20 s where one of them keeps silent, once where all say that nobody is there.
   * @throws GroundswellError `join/unreachable`
   */
  async connect(signal?: AbortSignal): Promise<void> {
    const { link, transport, clock } = this.init
    const startedMs = clock.steady()
    for (;;) {
      const failures: unknown[] = []
      for (const address of link.addresses) {
        try {
          await transport.dial(address, { timeoutMs: dialTimeoutMs, ...(signal && { signal }) })
          return
        } catch (thrown) {
          signal?.throwIfAborted()
          failures.push(thrown)
        }
      }
      const silent = failures.some((each) => each instanceof GroundswellError && each.code === 'peer/timeout')
      if (!silent || clock.steady() - startedMs >= connectForMs) throw unreachableHost(link, failures.at(-1))
    }
  }

  status(signal?: AbortSignal): Promise<PublicStatus> {
    return this.ask('status', {}, protocolLimits.maxStatusBytes, signal)
  }

  /** Entries from a position of the log on; go on with `next` until it is `length`. */
  ledger(
    options: { readonly from: number; readonly limit?: number },
    signal?: AbortSignal,
  ): Promise<LedgerPage> {
    const { from, limit = protocolLimits.maxLedgerEntries } = options
    return this.ask('ledger', { from, limit }, protocolLimits.maxLedgerBytes, signal)
  }

  /** For owners of the run; the status afterwards. */
  control(action: ControlAction, signal?: AbortSignal): Promise<PublicStatus> {
    return this.ask('control', { action }, protocolLimits.maxStatusBytes, signal)
  }

  private async ask<Kind extends MessageKind>(
    kind: Kind,
    body: Messages[Kind]['body'],
    maxReplyBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<Messages[Kind]['reply']> {
    const { clock, link } = this.init
    const startedMs = clock.steady()
    let dialledAgain = kind === 'control' // a question may be asked twice, an order may not
    for (;;) {
      try {
        return await this.messages.signedRequest<Messages[Kind]['reply']>(link.host, {
          ...{ kind, body, reply: messages[kind].reply, maxReplyBytes, timeoutMs: answerTimeoutMs },
          ...(signal && { signal }),
        })
      } catch (thrown) {
        signal?.throwIfAborted()
        if (isBrokenLine(thrown) && !dialledAgain) {
          dialledAgain = true
          await this.connect(signal)
          continue
        }
        const tooMany = isRemote(thrown, 'question/too-many') || isRemote(thrown, 'message/too-many')
        if (!tooMany || clock.steady() - startedMs >= turnPatienceMs) throw thrown
        await clock.sleep(turnPauseMs, signal)
      }
    }
  }
}

/** Whether a question failed because the host is away or its line is broken: it may answer when it is asked again later. */
export function isHostAway(thrown: unknown): boolean {
  return (
    isTroubleOfTheLine(thrown) || (thrown instanceof GroundswellError && thrown.code === 'join/unreachable')
  )
}

function isBrokenLine(thrown: unknown): boolean {
  if (!(thrown instanceof GroundswellError)) return false
  return thrown.code === 'peer/unreachable' || thrown.code === 'peer/closed'
}

/** What whoever uses a join link sees when nobody is there. */
export function unreachableHost(link: JoinLink, cause: unknown): GroundswellError {
  const where = link.addresses.map((address) => address.replace(/\/p2p\/.*/, '')).join(' or ')
  return new GroundswellError(`Nobody answers at ${where}: the host may have stopped.`, {
    code: 'join/unreachable',
    remedy: 'Check that the host is running, then use the newest link that it printed.',
    cause,
  })
}
