/**
 * Where reported updates come in: each is fetched into quarantine, decoded, judged, stored, and only then written down
 * as a contribution, so that what the log counts is here whatever becomes of its peer. What is thrown out is written
 * down as well, with the peer's own signed report; what was no legal report in the first place is only counted.
 */
import { type Cid, GroundswellError } from '../core/index.ts'
import type { IncomingMessage, PeerId } from '../swarm/index.ts'
import { eventLimits } from './events.ts'
import type { DecodedUpdate, HostStore } from './host-store.ts'
import { type Happening, type Journal, outOfOrder, refusalError } from './journal.ts'
import { type Judge, type Judgement, objectionTo, remedyFor } from './judge.ts'
import type { Report, ReportAnswer } from './protocol.ts'
import { nothingToSay, saidBefore } from './said-before.ts'
import type { Lease } from './state.ts'

export interface ReportDeskInit {
  readonly journal: Journal
  readonly store: HostStore
  readonly judge: Judge
  readonly stopping: AbortSignal
  /** The host's own disk is in trouble. */
  readonly onFailure: (thrown: unknown) => void
}

type Rejection = Extract<Judgement, { accepted: false }>

export class ReportDesk {
  private readonly init: ReportDeskInit
  /** Updates that are being fetched and judged, by the peer that reported them. */
  private readonly underWay = new Map<PeerId, Cid>()
  private readonly updates = new Set<Cid>()

  constructor(init: ReportDeskInit) {
    this.init = init
  }

  async receive(message: IncomingMessage<Report>): Promise<ReportAnswer> {
    const { from, body } = message
    const { journal } = this.init
    const said = saidBefore(journal.state, from, body)
    if (said !== undefined) return said // the first answer was lost on the way
    // Of a peer that does not say which lease it has worked on, it is the one that it has now.
    const grantedAtMs = body.grantedAtMs ?? this.leaseOf(from)?.grantedAtMs
    const contributed = {
      peer: from,
      round: body.round,
      ...(grantedAtMs !== undefined && { grantedAtMs }),
      update: body.update,
      steps: body.steps,
      loss: body.loss,
    }
    const happening: Happening = {
      ...{ type: 'contributed', ...contributed },
      ...{ bytes: 0, norm: 0, report: message.envelope },
    }
    const refusal = journal.objection(happening)
    if (refusal !== undefined) throw refusalError(refusal)
    const tokens = body.steps * journal.state.batchTokens
    if (body.tokens !== tokens) {
      throw new GroundswellError(`${body.steps} inner steps are ${tokens} tokens and not ${body.tokens}.`, {
        code: 'report/wrong-tokens',
        remedy: 'Install the version of Groundswell that the host runs.',
      })
    }
    if (this.underWay.has(from)) {
      throw new GroundswellError('Another report of this peer is being judged.', {
        code: 'report/busy',
        remedy: 'Wait for its answer.',
      })
    }
    if (this.updates.has(body.update)) {
      throw new GroundswellError(`Update ${body.update} is being contributed by another peer.`, {
        code: 'round/copy',
        remedy: 'Train the batches of the lease and send what comes of them.',
      })
    }
    this.underWay.set(from, body.update)
    this.updates.add(body.update)
    try {
      return await this.examine(message, happening)
    } finally {
      this.underWay.delete(from)
      this.updates.delete(body.update)
    }
  }

  private async examine(
    message: IncomingMessage<Report>,
    happening: Extract<Happening, { type: 'contributed' }>,
  ): Promise<ReportAnswer> {
    const { from, body, signal } = message
    const { store, stopping } = this.init
    const lease = this.leaseOf(from)!
    let update: DecodedUpdate
    try {
      update = await store.fetchUpdate(from, body.update, AbortSignal.any([signal, stopping]))
    } catch (thrown) {
      const objection = objectionTo(thrown)
      if (objection === undefined || objection.accepted) throw thrown
      return this.reject(happening, objection)
    }
    const judgement = await this.judge(message, lease, update)
    if (!judgement.accepted) return this.reject(happening, judgement)
    const { bytes, norm } = update
    return this.accept(update, { ...happening, bytes: bytes.byteLength, norm })
  }

  private async judge(
    { from, body }: IncomingMessage<Report>,
    lease: Lease,
    { decoded, norm }: DecodedUpdate,
  ): Promise<Judgement> {
    const { store, journal, judge, onFailure } = this.init
    const { method, layout } = store
    const { steps, loss } = body
    try {
      return await judge({
        ...{ peer: from, lease, update: decoded, norm, steps, loss },
        ...{ state: journal.state, method, layout },
      })
    } catch (thrown) {
      onFailure(thrown) // a judge that fails may let nothing pass
      throw outOfOrder()
    }
  }

  private async accept(
    update: DecodedUpdate,
    happening: Extract<Happening, { type: 'contributed' }>,
  ): Promise<ReportAnswer> {
    const { store, journal, onFailure } = this.init
    try {
      await store.keepUpdate(update)
    } catch (thrown) {
      const objection = objectionTo(thrown)
      if (objection !== undefined && !objection.accepted) {
        return this.reject(happening, objection)
      }
      onFailure(thrown)
      throw outOfOrder()
    }
    const refusal = await journal.propose(happening)
    if (refusal !== undefined) {
      await store.drop([update.root], () => journal.state)
      throw refusalError(refusal)
    }
    const { lastRound } = journal.state.members.get(happening.peer)!
    return { outcome: lastRound > happening.round ? 'late' : 'accepted', round: lastRound, ...nothingToSay }
  }

  private async reject(
    happening: Extract<Happening, { type: 'contributed' }>,
    { code, reason: why }: Rejection,
  ): Promise<ReportAnswer> {
    const { journal } = this.init
    const reason = printable(why).slice(0, eventLimits.maxReasonLength)
    const { peer, round, grantedAtMs, update, report } = happening
    const lease = { round, ...(grantedAtMs !== undefined && { grantedAtMs }) }
    await journal.commit({ type: 'rejected', peer, ...lease, update, code, reason, report })
    return { outcome: 'rejected', round: journal.state.round, code, reason, remedy: remedyFor(code) }
  }

  private leaseOf(peer: PeerId): Lease | null {
    return this.init.journal.state.members.get(peer)?.lease ?? null
  }
}

/** Reasons may quote what a peer sent. */
function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}]/gu, ' ')
}
