/**
 * A swarm in a few lines, for tests: peers that learn a known target through noise, and exchange what a method says,
 * with nothing in between. Every peer keeps its own copy of the state and merges for itself.
 */
import { joinPieces, seededRandom } from '../core/index.ts'
import type { Contribution, MergeContext, SyncMethod, TensorEntry, TensorLayout } from './method.ts'

export function layoutOfShapes(shapes: Readonly<Record<string, readonly number[]>>): TensorLayout {
  let totalSize = 0
  const entries: TensorEntry[] = Object.entries(shapes).map(([name, shape]) => {
    const size = shape.reduce((product, length) => product * length, 1)
    const entry = { name, shape, size, offset: totalSize }
    totalSize += size
    return entry
  })
  return { entries, totalSize }
}

/** A small model with the names and proportions of a real one. */
export const toyModelLayout: TensorLayout = layoutOfShapes({
  'model.embed_tokens.weight': [70, 24],
  ...Object.fromEntries(
    [0, 1, 2, 3].flatMap((layer) => [
      [`model.layers.${layer}.input_layernorm.weight`, [24]],
      [`model.layers.${layer}.self_attn.q_proj.weight`, [24, 24]],
      [`model.layers.${layer}.mlp.down_proj.weight`, [24, 40]],
    ]),
  ),
  'model.norm.weight': [24],
})

export function normals(count: number, scale: number, ...seed: (string | number)[]): Float32Array {
  const random = seededRandom('sync-test', ...seed)
  return Float32Array.from({ length: count }, () => random.nextNormal() * scale)
}

export interface ToyPeer {
  readonly name: string
  state: unknown
  local: unknown
  own: Float32Array | undefined
}

export interface ToyRoundOptions {
  readonly round: number
  /** Who takes part, by number; all by default. */
  readonly contributors?: readonly number[]
  readonly clipToMedianNorm?: boolean
  readonly learningRate?: number
}

const toyRate = 0.1

export class ToySwarm {
  readonly method: SyncMethod
  readonly layout: TensorLayout
  readonly peers: ToyPeer[] = []
  /** Bytes of the updates of the last round, as they travelled. */
  sent: Uint8Array[] = []
  private readonly target: Float32Array

  constructor(method: SyncMethod, options: { readonly peers: number; readonly layout?: TensorLayout }) {
    this.method = method
    this.layout = options.layout ?? toyModelLayout
    this.target = normals(this.layout.totalSize, 0.1, 'target')
    const start = normals(this.layout.totalSize, 0.1, 'start')
    for (let i = 0; i < options.peers; i++) this.join(method.createState(this.layout, start))
  }

  /** A peer that has only the state, as a late joiner does. */
  join(state: unknown): ToyPeer {
    const name = `peer ${this.peers.length}`
    const peer = { name, state, local: this.method.createLocal(this.layout), own: undefined }
    this.peers.push(peer)
    return peer
  }

  /** ½‖θ − target‖² of the merged parameters. */
  loss(state: unknown = this.peers[0]!.state): number {
    const parameters = this.method.parameters(state)
    return parameters.reduce((sum, value, i) => sum + (value - this.target[i]!) ** 2 / 2, 0)
  }

  /** What one peer sends after its share of a round, as its bytes; its own memory moves on. */
  contribute(peer: ToyPeer, { round, learningRate = toyRate }: ToyRoundOptions): Uint8Array {
    const { method, layout } = this
    const before = peer.own && { handedIn: peer.own, now: peer.own }
    const own: Float32Array = method.startRound(peer.state, peer.local, before).slice()
    const noise = normals(layout.totalSize, 0.02, 'noise', peer.name, round)
    const gradient = (): Float32Array => own.map((value, i) => value - this.target[i]! - noise[i]!)
    let values: Float32Array = own
    if (method.quantity === 'gradient') {
      values = gradient()
    } else {
      for (let step = 0; step < 4; step++) {
        const slope = gradient()
        for (let i = 0; i < own.length; i++) own[i] = own[i]! - toyRate * slope[i]!
      }
    }
    const input = { state: peer.state, local: peer.local, round, values, learningRate }
    const { bytes, local } = method.encodeUpdate(input, layout)
    peer.local = local
    peer.own = own
    return bytes
  }

  context({ round, clipToMedianNorm = false, learningRate = toyRate }: ToyRoundOptions): MergeContext {
    return { round, seed: `seed ${round}`, learningRate, clipToMedianNorm, self: null }
  }

  contributionsOf(sent: readonly Uint8Array[], contributors: readonly number[]): Contribution<unknown>[] {
    return contributors.map((number, i) => ({
      peer: this.peers[number]!.name,
      update: this.method.decodeUpdate(sent[i]!, this.layout),
      weight: 100 + 10 * number,
    }))
  }

  round(options: ToyRoundOptions): void {
    const contributors = options.contributors ?? this.peers.map((_, i) => i)
    this.sent = contributors.map((number) => this.contribute(this.peers[number]!, options))
    const contributions = this.contributionsOf(this.sent, contributors)
    for (const peer of this.peers) {
      const context = { ...this.context(options), self: peer.name }
      peer.state = this.method.merge(peer.state, contributions, context)
    }
  }

  serialised(peer: ToyPeer = this.peers[0]!): Uint8Array {
    return joinPieces(this.method.serialiseState(peer.state))
  }
}
